"""The hook and the sensor with every plausible form of Mapbox's undocumented behaviour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from airflow_mapbox.uploads.errors import UploadActiveError, UploadFailedError, UploadIncompleteError
from tests.answers import ANSWERS, PLAUSIBLE
from tests.connections import connection


def test_every_plausible_answer_is_among_the_runs() -> None:
    for name, values in PLAUSIBLE.items():
        assert {answers[name] for answers in ANSWERS} == set(values)


def test_the_first_is_the_emulators_own_choice() -> None:
    assert EmulatorSettings() == EmulatorSettings(**ANSWERS[0])


@pytest.fixture(params=ANSWERS, ids=str)
def emulator(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    settings = EmulatorSettings(processing_seconds=0, rate_limit=0, **request.param)
    with Emulator(tmp_path / "emulator", settings=settings) as running:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(running))
        yield running


@pytest.fixture
def upload(tmp_path: Path) -> Any:
    """Upload a point."""
    path = tmp_path / "point.geojson"
    path.write_text('{"type": "Point", "coordinates": [7.1, 50.7]}')
    return lambda: MapboxUploadsHook().upload(path, "points", if_active="fail")


def test_hook_and_sensor_both_report_a_failed_upload(emulator: Emulator, upload: Any) -> None:
    emulator.faults.add("fail", where="processing", progress=0.8, message="Tileset exceeds processing limit.")
    made = upload()

    with pytest.raises(UploadFailedError, match=r"Tileset exceeds processing limit\.") as failure:
        MapboxUploadsHook().wait(made.id, timeout=30, poll_interval=0.05)
    with pytest.raises(AirflowFailException, match=r"Tileset exceeds processing limit\."):
        UploadCompleteSensor(task_id="wait", upload_id=made.id).poke({})

    assert failure.value.upload.complete is emulator.settings.failed_complete
    MapboxUploadsHook().delete_upload(made.id)


def test_deleting_an_unfinished_upload_says_that_it_is_incomplete(emulator: Emulator, upload: Any) -> None:
    emulator.faults.add("stall", where="processing", progress=0.37)
    made = upload()

    with pytest.raises(UploadIncompleteError) as refusal:
        MapboxUploadsHook().delete_upload(made.id)

    assert refusal.value.status == emulator.settings.early_delete_status
    emulator.faults.clear()
    assert MapboxUploadsHook().wait(made.id, timeout=30, poll_interval=0.05).is_successful


def test_uploading_to_a_tileset_in_processing_says_that_it_is_active(emulator: Emulator, upload: Any) -> None:
    emulator.faults.add("stall", where="processing", progress=0.37)
    upload()

    with pytest.raises(UploadActiveError):
        upload()
