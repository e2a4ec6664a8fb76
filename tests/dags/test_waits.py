"""Waits as `airflow dags test` runs them: rescheduled, deferred, by the sensor and by the operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from tests.connections import connection
from tests.dags.conftest import Outcome

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Callable[..., EmulatorSettings]
) -> Iterator[Emulator]:
    with Emulator(tmp_path / "emulator", settings=make_settings(processing_seconds=2, unseen_seconds=1)) as running:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(running))
        yield running


def looks(emulator: Emulator) -> int:
    return sum(request.method == "GET" for request in emulator.requests)


@pytest.fixture
def real_pace(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()


@pytest.mark.slow
@pytest.mark.usefixtures("real_pace", "emulator")
@pytest.mark.parametrize("deferrable", [False, True], ids=["rescheduled", "deferred"])
def test_the_operator_ends_when_the_tileset_is_there(
    run_dag: Callable[..., Outcome], geojson: Path, emulator: Emulator, deferrable: bool
) -> None:
    outcome = run_dag(
        lambda: StageAndCreateUploadOperator(
            task_id="upload",
            source=str(geojson),
            tileset="waited",
            wait_for_completion=True,
            deferrable=deferrable,
        )
    )

    assert outcome.states == {"upload": "success"}
    assert sum(request.status == 201 for request in emulator.requests) == 1
    assert 1 <= looks(emulator) <= 3
    assert "is done: tileset demo.waited" in outcome.written
    assert emulator.token not in outcome.written


def test_a_deferred_sensor_gets_its_upload(run_dag: Callable[..., Outcome], geojson: Path, emulator: Emulator) -> None:
    def make_tasks() -> None:
        made = StageAndCreateUploadOperator(task_id="upload", source=str(geojson), tileset="deferred")
        UploadCompleteSensor(task_id="wait", upload_id=made.output["id"], deferrable=True, poke_interval=0.2)

    outcome = run_dag(make_tasks)

    assert outcome.states == {"upload": "success", "wait": "success"}
    assert looks(emulator)
    assert emulator.token not in outcome.written


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "state"), [({}, "failed"), ({"soft_fail": True}, "skipped")], ids=["failed", "skipped"]
)
def test_a_deferred_sensor_that_takes_too_long_times_out(
    run_dag: Callable[..., Outcome], geojson: Path, emulator: Emulator, options: Any, state: str
) -> None:
    emulator.faults.add("stall", where="processing", progress=0.4)

    def make_tasks() -> None:
        made = StageAndCreateUploadOperator(task_id="upload", source=str(geojson), tileset="late")
        waiting = {"upload_id": made.output["id"], "deferrable": True, "timeout": 1, "poke_interval": 0.2}
        UploadCompleteSensor(task_id="wait", **waiting, **options)

    outcome = run_dag(make_tasks)

    assert outcome.states == {"upload": "success", "wait": state}
    assert "Mapbox is still processing it" in outcome.written
