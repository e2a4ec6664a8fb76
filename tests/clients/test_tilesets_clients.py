"""Mapbox's own clients of the tilesets endpoints, as they are, against the emulator over https."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.clients.conftest import beside_package, run
from tests.emulator.conftest import TOWNS, Account

pytestmark = pytest.mark.timeout(600)

DRIVER = Path(__file__).with_name("drive_tilesets.js")
# make clients sets it: .ci/oracle installs the program mapbox-tilesets 2.2.
TILESETS = os.environ.get("TILESETS")
with_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="the client is installed by npm, which is not here")
with_tilesets = pytest.mark.skipif(
    TILESETS is None, reason="make clients installs mapbox-tilesets and names it in TILESETS"
)
# Both forms of each unknown answer that these clients can see.
ANSWERS: list[dict[str, Any]] = [
    {},
    {
        "tileset_delete_status": 204,
        "update_refused_status": 400,
        "tileset_costs": False,
        "missing_tileset_message": "Cannot find tileset",
    },
]
DAY = 86_400.0


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, beside the client that it drives."""
    return beside_package(DRIVER, "@mapbox/mapbox-sdk@0.16.2", folder=tmp_path_factory.mktemp("sdk"))


@pytest.fixture(params=ANSWERS, ids=["documented", "other answers"])
def emulator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Emulator]:
    settings = EmulatorSettings(
        account="acme", processing_seconds=0, rate_limit=0, page_bytes=800, cache_seconds=0, **request.param
    )
    with Emulator(tmp_path / "emulator", settings=settings, tls=True) as running:
        acme = Account(running)
        acme.session.verify, acme.session.trust_env = str(running.ca_file), False
        issued = acme.credentials()
        s3 = acme.s3(issued, verify=str(running.ca_file))
        s3.put_object(Bucket=issued["bucket"], Key=issued["key"], Body=json.dumps(TOWNS).encode())
        acme.wait(acme.create(issued["url"], "towns", name="Towns").json()["id"])
        now = running.clock()
        running.add_tileset("acme.open", created=now - DAY, visibility="public", filesize=1_234_567)
        running.add_tileset("acme.image", created=now - 2 * DAY, modified=now + DAY, type="raster")
        for number in range(3, 8):
            running.add_tileset(f"acme.day-{number}", created=now - number * DAY)
        yield running


NEWEST = ["acme.towns", "acme.open", "acme.image", *(f"acme.day-{number}" for number in range(3, 8))]


def held(emulator: Emulator, **params: Any) -> list[dict[str, Any]]:
    """Return what the emulator lists, read without a client of Mapbox."""
    acme = Account(emulator)
    acme.session.verify, acme.session.trust_env = str(emulator.ca_file), False
    params = {"access_token": emulator.token, "limit": 500, **params}
    tilesets: list[dict[str, Any]] = []
    url = f"{emulator.url}/tilesets/v1/acme"
    while url:
        response = acme.session.get(url, params=params, timeout=30)
        tilesets += response.json()
        url, params = response.links.get("next", {}).get("url", ""), {"access_token": emulator.token}
    return tilesets


@with_npm
def test_the_node_client_lists_updates_deletes_and_reads_tilejson(emulator: Emulator, driver: Path) -> None:
    settings = emulator.settings
    before = held(emulator)

    said = json.loads(
        run(
            "node",
            driver,
            emulator.url,
            "acme.day-5",
            "acme.towns",
            cwd=driver.parent,
            MAPBOX_ACCESS_TOKEN=emulator.token,
            NODE_EXTRA_CA_CERTS=str(emulator.ca_file),
        )
    )

    pages = {name: list(chain.from_iterable(said[name])) for name in ("all", "limited", "public", "raster", "sorted")}
    assert pages["all"] == pages["limited"] == NEWEST == [tileset["id"] for tileset in before]
    assert len(said["all"]) > 1
    assert all(len(page) <= 2 for page in said["limited"])
    assert (pages["public"], pages["raster"]) == (["acme.open"], ["acme.image"])
    # The client sends `sortBy`. Mapbox documents `sortby`, so the emulator ignores the client's.
    assert pages["sorted"] == NEWEST
    assert said["first"] == before[0]
    assert said["tilejson"]["vector_layers"][0]["id"] == "Towns"
    assert said["tilejson"]["private"] is True
    missing = [404, settings.missing_tileset_message]
    assert said["deleted"][0] == settings.tileset_delete_status
    assert said["again"] == missing
    assert said["badStart"] == [422, "Invalid start key"]
    assert list(chain.from_iterable(said["left"])) == [name for name in NEWEST if name != "acme.day-5"]
    [towns] = [tileset for tileset in held(emulator) if tileset["id"] == "acme.towns"]
    if settings.update_refused_status is None:
        assert said["updated"][0] == 204
        assert (towns["name"], towns["description"], towns["visibility"]) == ("From the SDK", "Changed", "public")
    else:
        refusal = "Unable to perform action. acme.towns was not created with the /tilesets/v1 endpoint."
        assert said["updated"] == [400, refusal]
        assert towns == before[0]


@pytest.fixture
def tilesets(emulator: Emulator, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run the program ``tilesets`` and give its exit status and what it printed."""

    def call(*arguments: str) -> tuple[int, str]:
        assert TILESETS is not None
        environment = {
            "MAPBOX_API": emulator.url,
            "MAPBOX_ACCESS_TOKEN": emulator.token,
            "REQUESTS_CA_BUNDLE": str(emulator.ca_file),
        }
        command = [TILESETS, *arguments]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    return call


@with_tilesets
def test_the_command_line_client_lists_updates_deletes_and_reads_tilejson(
    emulator: Emulator, tilesets: Callable[..., tuple[int, str]]
) -> None:
    before = held(emulator)

    # It reads one page only, and pages are short here.
    status, output = tilesets("list", "acme")
    assert status == 0, output
    page = output.split()
    assert page == NEWEST[: len(page)]
    assert tilesets("list", "acme", "--limit", "1") == (0, "acme.towns\n")
    assert tilesets("list", "acme", "--visibility", "public") == (0, "acme.open\n")
    assert tilesets("list", "acme", "--type", "raster") == (0, "acme.image\n")
    assert tilesets("list", "acme", "--sortby", "modified", "--limit", "1") == (0, "acme.image\n")
    status, output = tilesets("list", "acme", "--verbose", "--limit", "1")
    assert (status, json.loads(output)) == (0, before[0])

    status, output = tilesets("tilejson", "acme.towns", "--secure")
    assert status == 0, output
    tilejson = json.loads(output)
    assert (tilejson["id"], tilejson["filesize"]) == ("acme.towns", before[0]["filesize"])
    assert tilejson["tiles"][0].startswith(f"{emulator.url}/v4/acme.towns/")

    attribution = json.dumps([{"text": "© CLI", "link": "https://example.com"}])
    status, output = tilesets(
        "update", "acme.towns", "--name", "From the CLI", "--privacy", "public", "--attribution", attribution
    )
    refused_status = emulator.settings.update_refused_status
    [towns] = [tileset for tileset in held(emulator) if tileset["id"] == "acme.towns"]
    if refused_status is None:
        assert (status, output) == (0, "")
        assert (towns["name"], towns["visibility"]) == ("From the CLI", "public")
        assert "© CLI" in json.loads(tilesets("tilejson", "acme.towns")[1])["attribution"]
    else:
        assert status == 1
        assert "acme.towns was not created with the /tilesets/v1 endpoint." in output
        assert towns == before[0]

    assert tilesets("delete", "acme.day-3", "--force") == (0, "Tileset deleted.\n")
    status, output = tilesets("delete", "acme.day-3", "--force")
    assert (status, emulator.settings.missing_tileset_message in output) == (1, True)
    assert "acme.day-3" not in [tileset["id"] for tileset in held(emulator)]
    status, output = tilesets("tilejson", "acme.day-3")
    assert (status, "Tileset does not exist" in output) == (1, True)
    status, output = tilesets("view-recipe", "acme.towns")
    assert (status, "was not created with the /tilesets/v1 endpoint" in output) == (1, True)


@with_tilesets
@pytest.mark.parametrize(
    ("scope", "command"),
    [
        ("tilesets:list", ("list", "acme")),
        ("tilesets:write", ("delete", "acme.open", "--force")),
        ("tilesets:write", ("update", "acme.open", "--name", "x")),
        ("tilesets:read", ("tilejson", "acme.towns")),
    ],
)
def test_the_command_line_client_shows_the_missing_scope(
    emulator: Emulator, tilesets: Callable[..., tuple[int, str]], scope: str, command: tuple[str, ...]
) -> None:
    others = {"tilesets:list", "tilesets:write", "tilesets:read"} - {scope}

    status, output = tilesets(*command, "--token", emulator.create_token(scopes=others))

    assert (status, f"This endpoint requires a token with {scope} scope" in output) == (1, True)
    assert len(held(emulator)) == len(NEWEST)
