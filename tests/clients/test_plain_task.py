"""The table on the documentation's first page: a PythonOperator with the package ``mapbox``, beside this provider."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import pytest
import requests
import shapely

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.export import write_geojson
from airflow_mapbox.preflight import check_source
from tests.clients.conftest import run, settings_of_mapbox
from tests.clients.test_mapbox_python import DRIVER, geojson
from tests.clients.test_mapbox_python import python as python

pytestmark = pytest.mark.timeout(600)

PLAIN_TASK = DRIVER.with_name("drive_plain_task.py")
RETRIES = 2


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Emulator]:
    # Six requests a minute: a backfill reaches Mapbox's sixty a minute after thirty days.
    settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=6, rate_window=60)
    with Emulator(tmp_path / "emulator", settings=settings, tls=True) as running:
        yield running


@pytest.fixture
def attempt(python: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that runs the plain task and returns the errors of its failed tries."""

    def attempt(emulator: Emulator, path: Path, tileset: str = "places", tries: int = 1 + RETRIES) -> list[str]:
        printed = run(
            python,
            PLAIN_TASK,
            path,
            tileset,
            str(tries),
            cwd=tmp_path,
            **settings_of_mapbox(emulator),
        )
        errors: list[str] = json.loads(printed)
        return errors

    return attempt


def uploads(emulator: Emulator) -> list[dict[str, Any]]:
    """Return the account's uploads when all have ended."""
    while True:
        listed: list[dict[str, Any]] = []
        url: str | None = f"{emulator.url}/uploads/v1/{emulator.account}"
        while url:
            reply = requests.get(url, params={"access_token": emulator.token}, verify=str(emulator.ca_file), timeout=30)
            listed += reply.json()
            url = reply.links.get("next", {}).get("url")
        if all(upload["complete"] or upload["error"] for upload in listed):
            return listed
        time.sleep(0.05)


def places(folder: Path, crs: str = "EPSG:4326") -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.Point(7, 50)], crs=4326).to_crs(crs)


def test_a_retry_after_a_crash_is_billed_twice(
    secure: Emulator, attempt: Callable[..., list[str]], tmp_path: Path
) -> None:
    """The same crash of this provider's task: tests/crashes, with one upload after each step and fault."""
    path = tmp_path / "places.geojson"
    path.write_text(geojson(3000))
    secure.faults.add("drop_after", method="POST", path=r"/uploads/v1/acme\?")

    errors = attempt(secure, path, tries=1)
    # Airflow's retry comes minutes later, when the upload has ended: until then the tileset is refused as active.
    assert len(uploads(secure)) == 1
    again = attempt(secure, path, tries=1)

    assert (len(errors), again) == (1, [])
    assert [upload["tileset"] for upload in uploads(secure)] == ["acme.places"] * 2


def test_a_rate_limit_fails_the_task_whatever_its_retries(
    limited: Emulator, attempt: Callable[..., list[str]], tmp_path: Path
) -> None:
    """This provider's operator waits for the reset: tests/system/test_backfill_at_limit.py."""
    path = tmp_path / "places.geojson"
    path.write_text(geojson(3000))

    outcomes = [attempt(limited, path, f"day-{day}") for day in range(4)]

    assert outcomes[:3] == [[], [], []]
    assert len(outcomes[3]) == 1 + RETRIES
    assert all("429" in error or "Too many requests" in error for error in outcomes[3])


def test_a_file_that_mapbox_refuses_is_sent_and_the_task_is_green(
    secure: Emulator, attempt: Callable[..., list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "places.csv"
    path.write_text("name,size\na,1\n")

    assert attempt(secure, path) == []
    (upload,) = uploads(secure)
    assert upload["error"]

    report = check_source(path)
    assert not report.ok
    assert [problem.rule for problem in report.problems]


def test_a_wrong_reference_system_is_sent_and_the_task_is_green(
    secure: Emulator, attempt: Callable[..., list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "places.geojson"
    path.write_text(places(tmp_path, "EPSG:32632").to_json(to_wgs84=False, drop_id=True))

    errors = attempt(secure, path)

    (upload,) = uploads(secure)
    assert not check_source(path).ok
    report = write_geojson(places(tmp_path, "EPSG:32632"), tmp_path / "exported.geojson")
    assert report.bounds == pytest.approx((7, 50, 7, 50))
    assert check_source(tmp_path / "exported.geojson").ok
    assert errors == []
    assert upload["error"]


def test_the_command_mapbox_cannot_be_installed_any_more(tmp_path: Path) -> None:
    """Its last version requires ``mapbox`` 0.16.1, whose metadata installers no longer accept."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    installer = (sys.executable, "-m", "uv", "pip", "install", "--system-certs")
    done = subprocess.run(
        [*installer, "--python", tmp_path / "venv" / "bin" / "python", "mapboxcli==0.8.0"],
        capture_output=True,
        text=True,
    )

    assert done.returncode != 0
    assert "mapbox==0.16.1 has invalid metadata" in done.stderr
