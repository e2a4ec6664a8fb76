"""The names of mapped tasks in Airflow's UI."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task

from airflow_mapbox.emulator import Emulator
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from tests.dags.conftest import Outcome

pytestmark = pytest.mark.usefixtures("database", "mapbox_connection")

RunDag = Callable[..., Outcome]


@pytest.fixture
def names_of_last_run(database: Path) -> Callable[[], dict[str, list[str]]]:
    """Return the names of each mapped task's instances, in the order of their map indexes."""

    def read() -> dict[str, list[str]]:
        with sqlite3.connect(database) as opened:
            (newest,) = opened.execute("select run_id from dag_run order by id desc limit 1").fetchone()
            rows = opened.execute(
                "select task_id, rendered_map_index from task_instance where run_id = ? and map_index >= 0 "
                "order by map_index",
                [newest],
            ).fetchall()
        names: dict[str, list[str]] = {}
        for task_id, name in rows:
            names.setdefault(task_id, []).append(name)
        return names

    return read


@pytest.mark.slow
def test_mapped_tasks_are_named_by_their_tilesets_in_each_way_to_wait(
    run_dag: RunDag, geojson: Path, emulator: Emulator, names_of_last_run: Callable[[], dict[str, list[str]]]
) -> None:
    def make() -> None:
        sources = [{"source": str(geojson), "tileset": f"named-{part}"} for part in ("north", "south")]
        created = StageAndCreateUploadOperator.partial(task_id="create").expand_kwargs(sources)
        UploadCompleteSensor.partial(task_id="wait").expand(upload_id=created.output)
        deferred = UploadCompleteSensor.partial(task_id="deferred", deferrable=True, poke_interval=0.2)
        deferred.expand(upload_id=created.output)
        published = [{"source": str(geojson), "tileset": f"named-{part}"} for part in ("east", "west")]
        publish = {"wait_for_completion": True, "deferrable": True}
        StageAndCreateUploadOperator.partial(task_id="publish", **publish).expand_kwargs(published)
        own = UploadCompleteSensor.partial(task_id="own", map_index_template="{{ task.upload_id['name'] or 'mine' }}")
        own.expand(upload_id=created.output)

        @task.mapbox_upload(tileset="named-{{ task_instance.map_index }}")
        def frames(number: int) -> Any:
            import geopandas
            import shapely

            return geopandas.GeoDataFrame({"n": [number]}, geometry=[shapely.Point(number, 1)], crs=4326)

        frames.expand(number=[1, 2])

    outcome = run_dag(make)

    assert set(outcome.states.values()) == {"success"}
    with_account = [f"{emulator.account}.named-{part}" for part in ("north", "south")]
    assert names_of_last_run() == {
        "create": ["named-north", "named-south"],
        "wait": with_account,
        "deferred": with_account,
        "publish": ["named-east", "named-west"],
        "own": ["mine", "mine"],
        "frames": ["named-0", "named-1"],
    }
