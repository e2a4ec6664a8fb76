"""``airflow mapbox uploads``, as a person and as a script run it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator
from airflow_mapbox.hooks.uploads import MapboxUploadsHook

pytestmark = pytest.mark.usefixtures("database", "mapbox_connection")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def airflow() -> Run:
    """Run the command in a process of its own, as a shell does."""

    def run(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "airflow", "mapbox", "uploads", *arguments],
            capture_output=True,
            text=True,
            env=os.environ | changed,
            timeout=60,
        )

    return run


def answered(done: subprocess.CompletedProcess[str]) -> Any:
    """Give the JSON on standard output, which has nothing else on it."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_script_uploads_waits_shows_lists_and_deletes(airflow: Run, geojson: Path, emulator: Emulator) -> None:
    made = answered(airflow("upload", str(geojson), "scripted", "--name", "Scripted", "--json"))
    assert (made["tileset"], made["name"]) == (f"{emulator.account}.scripted", "Scripted")

    done = answered(airflow("wait", made["id"], "--timeout", "60", "--json"))
    assert (done["id"], done["complete"], done["error"]) == (made["id"], True, None)

    assert answered(airflow("show", made["id"], "--json")) == done
    listed = answered(airflow("list", "--limit", "100", "--json"))
    assert done in listed

    assert answered(airflow("delete", made["id"], "--json")) == {"deleted": made["id"]}
    assert made["id"] not in {upload.id for upload in MapboxUploadsHook().list_uploads()}


def test_geodata_is_exported_on_the_way(airflow: Run, tmp_path: Path, emulator: Emulator) -> None:
    table = tmp_path / "places.csv"
    table.write_text("name,x,y\nA,500000,5600000\nB,501000,5600000\n")

    refused = airflow("upload", str(table), "exported", "--format", "geojson")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "crs" in refused.stderr
    assert "Traceback" not in refused.stderr

    made = answered(airflow("upload", str(table), "exported", "--format", "auto", "--crs", "EPSG:32632", "--json"))
    assert made["tileset"] == f"{emulator.account}.exported"
    assert answered(airflow("wait", made["id"], "--timeout", "60", "--json"))["error"] is None


def test_a_person_sees_a_table_and_no_log(airflow: Run, geojson: Path, emulator: Emulator) -> None:
    done = airflow("upload", str(geojson), "shown", "--wait")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["id", "|", "tileset", "|", "name", "|", "state", "|", "created"]
    assert f"{emulator.account}.shown" in lines[2]
    assert "done" in lines[2]
    assert "answered" not in done.stdout + done.stderr


def test_a_person_at_a_terminal_sees_how_far_it_is(geojson: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "airflow", "mapbox", "uploads", "upload", str(geojson), "seen", "--wait"]
    seen = bytearray()
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        # Linux ends a terminal that nobody holds any more with an error.
        with contextlib.suppress(OSError):
            while data := os.read(ours, 4096):
                seen += data
    os.close(ours)

    assert process.returncode == 0, seen
    assert f"Staging {geojson.name}".encode() in seen
    assert b"Processing" in seen


def test_the_log_is_there_for_who_wants_it(airflow: Run) -> None:
    done = airflow("list", "--limit", "1", "--verbose")

    assert "answered 200" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "c" + "0" * 24), "without the scope uploads:read"),
        (("upload", "/nowhere.geojson", "points"), "does not exist on this worker"),
        (("list", "--conn-id", "mapbox_nowhere"), "Airflow finds no connection 'mapbox_nowhere'"),
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(
    airflow: Run, emulator: Emulator, arguments: tuple[str, ...], said: str
) -> None:
    done = airflow(*arguments, "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert emulator.token not in done.stderr


def test_a_connection_in_airflows_database_is_found(
    airflow: Run, mapbox_connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = ["--conn-json", mapbox_connection]
    kept = subprocess.run(
        [sys.executable, "-m", "airflow", "connections", "add", "mapbox_kept", *described],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert kept.returncode == 0, kept.stderr
    monkeypatch.delenv("AIRFLOW_CONN_MAPBOX_DEFAULT")

    assert isinstance(answered(airflow("list", "--conn-id", "mapbox_kept", "--json")), list)
