"""The events of tilesets, as Airflow stores them: by the asset itself, by the alias, with a partition key."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset

from airflow_mapbox.emulator import Emulator
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from tests.dags.conftest import Outcome

pytestmark = pytest.mark.usefixtures("database", "mapbox_connection")

RunDag = Callable[..., Outcome]
Event = tuple[str, str | None, dict[str, Any]]


@pytest.fixture
def events_of_last_run(database: Path) -> Callable[[], list[Event]]:
    """Return the task, the partition key and the extra of each event."""

    def read() -> list[Event]:
        with sqlite3.connect(database) as opened:
            (newest,) = opened.execute("select dag_id from dag_run order by id desc limit 1").fetchone()
            rows = opened.execute(
                "select source_task_id, partition_key, extra from asset_event where source_dag_id = ? order by id",
                [newest],
            ).fetchall()
        return [(task_id, key, json.loads(extra)) for task_id, key, extra in rows]

    return read


@pytest.mark.slow
def test_a_known_tileset_has_one_event_with_its_key_in_each_way_to_wait(
    run_dag: RunDag, geojson: Path, emulator: Emulator, events_of_last_run: Callable[[], list[Event]]
) -> None:
    def make() -> None:
        for name, options in {"polled": {}, "deferred": {"deferrable": True}}.items():
            StageAndCreateUploadOperator(
                task_id=name,
                source=str(geojson),
                tileset=f"{emulator.account}.keyed-{name}",
                wait_for_completion=True,
                partition="{{ ds }}",
                **options,
            )
        created = StageAndCreateUploadOperator(
            task_id="create", source=str(geojson), tileset=f"{emulator.account}.keyed"
        )
        UploadCompleteSensor(task_id="wait", upload_id=created.output, partition="{{ ds }}")

    outcome = run_dag(make)

    assert set(outcome.states.values()) == {"success"}
    events = {name: (key, extra["bytes"]) for name, key, extra in events_of_last_run()}
    assert events == dict.fromkeys(("polled", "deferred", "wait"), ("2018-02-01", geojson.stat().st_size))


@pytest.mark.slow
def test_a_sensor_whose_upload_makes_another_tileset_fails_at_its_first_poll(
    run_dag: RunDag, geojson: Path, emulator: Emulator, events_of_last_run: Callable[[], list[Event]]
) -> None:
    def make() -> None:
        created = StageAndCreateUploadOperator(task_id="create", source=str(geojson), tileset="{{ 'is-this' }}")
        waiting = {"upload_id": created.output, "tileset": f"{emulator.account}.is-that", "retries": 2}
        UploadCompleteSensor(task_id="wait", **waiting)
        UploadCompleteSensor(task_id="deferred", deferrable=True, poke_interval=0.2, **waiting)

    outcome = run_dag(make)

    assert outcome.states == {"create": "success", "wait": "failed", "deferred": "failed"}
    assert outcome.tries["wait"] == 1
    assert f"makes the tileset {emulator.account}.is-this, not {emulator.account}.is-that" in outcome.written
    assert events_of_last_run() == []


@pytest.mark.slow
@pytest.mark.parametrize("with_account", [True, False], ids=["asset", "alias"])
def test_unchanged_data_is_known_by_the_last_event_of_the_tileset(
    run_dag: RunDag, geojson: Path, emulator: Emulator, with_account: bool
) -> None:
    tileset = f"{emulator.account}.same" if with_account else "same-{{ 'alias' }}"

    def make() -> None:
        options = {"source": str(geojson), "tileset": tileset, "skip_unchanged": True}
        StageAndCreateUploadOperator(task_id="publish", wait_for_completion=True, **options)

    assert run_dag(make).states == {"publish": "success"}
    assert run_dag(make).states == {"publish": "skipped"}, "in another DAG: the tileset is the same"


def test_what_a_known_tileset_was_made_from_is_stored_from_its_first_run_on(
    run_dag: RunDag, geojson: Path, emulator: Emulator
) -> None:
    """The sensor has the id alone, so its event says nothing about the source."""

    def make() -> None:
        options = {"source": str(geojson), "tileset": f"{emulator.account}.remembered", "skip_unchanged": True}
        created = StageAndCreateUploadOperator(task_id="create", **options)
        UploadCompleteSensor(task_id="wait", upload_id=created.output["id"])

    assert run_dag(make).states == {"create": "success", "wait": "success"}
    assert run_dag(make).states == {"create": "skipped", "wait": "skipped"}


@pytest.mark.slow
@pytest.mark.parametrize("waits", [True, False], ids=["operator", "sensor"])
def test_each_instance_of_a_mapped_task_sends_the_event_of_its_own_tileset_alone(
    run_dag: RunDag, geojson: Path, emulator: Emulator, database: Path, waits: bool
) -> None:
    kind = "waiting" if waits else "created"
    tilesets = [f"{emulator.account}.mapped-{kind}-{name}" for name in "ab"]
    assets = [Asset(f"mapbox://tilesets/{tileset}") for tileset in tilesets]

    def make() -> None:
        options: dict[str, Any] = {"wait_for_completion": True, "outlets": assets, "partition": "k"} if waits else {}
        partial = StageAndCreateUploadOperator.partial(task_id="upload", source=str(geojson), **options)
        created = partial.expand(tileset=tilesets)
        if not waits:
            UploadCompleteSensor.partial(task_id="wait", outlets=assets).expand(upload_id=created.output)

    assert set(run_dag(make).states.values()) == {"success"}
    with sqlite3.connect(database) as opened:
        sent = opened.execute(
            "select a.uri, e.source_map_index, e.partition_key from asset_event e join asset a on a.id = e.asset_id "
            "where a.uri like ? order by 1",
            [f"%mapped-{kind}-%"],
        ).fetchall()
    assert sent == [(asset.uri, index, "k" if waits else None) for index, asset in enumerate(assets)]
