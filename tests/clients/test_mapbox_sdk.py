"""The npm package ``@mapbox/mapbox-sdk`` as it is, against the emulator over http and https."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.clients.conftest import beside_package, run
from tests.emulator.conftest import TOWNS, Account

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("npm") is None, reason="the client is installed by npm, which is not here"),
]

DRIVER = Path(__file__).with_name("drive_sdk.js")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, beside the client that it drives."""
    return beside_package(DRIVER, "@mapbox/mapbox-sdk@0.16.2", folder=tmp_path_factory.mktemp("sdk"))


@pytest.fixture(params=["http", "https"])
def emulator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Emulator]:
    # Short pages, so that eachPage has some to go through.
    settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0, page_bytes=500)
    with Emulator(tmp_path / "emulator", settings=settings, tls=request.param == "https") as running:
        yield running


def test_the_node_client_gets_credentials_creates_reads_pages_and_deletes(emulator: Emulator, driver: Path) -> None:
    acme = Account(emulator)
    trust = {}
    if emulator.ca_file:
        trust["NODE_EXTRA_CA_CERTS"] = str(emulator.ca_file)
        acme.session.verify, acme.session.trust_env = str(emulator.ca_file), False
    urls = []
    for _ in range(3):
        issued = acme.credentials()
        s3 = acme.s3(issued, verify=str(emulator.ca_file) if emulator.ca_file else None)
        s3.put_object(Bucket=issued["bucket"], Key=issued["key"], Body=json.dumps(TOWNS).encode())
        urls.append(issued["url"])

    said = json.loads(
        run(
            "node",
            driver,
            emulator.url,
            "acme.sdk",
            *urls,
            cwd=driver.parent,
            MAPBOX_ACCESS_TOKEN=emulator.token,
            **trust,
        )
    )

    made = said["made"]
    assert said["credentials"] == ["accessKeyId", "bucket", "key", "secretAccessKey", "sessionToken", "url"]
    assert [(end["complete"], end["error"], end["name"]) for end in said["ends"]] == [
        (True, None, f"Number {number}") for number in range(3)
    ]
    assert len(said["newest"]) > 1
    assert list(chain.from_iterable(said["newest"])) == made[::-1]
    assert list(chain.from_iterable(said["oldest"])) == made
    assert said["removed"] == 204
    assert said["refused"] == [404, {"message": "Not Found"}]
    assert list(chain.from_iterable(said["left"])) == made[:0:-1]
