"""The links of a task, as Airflow stores them for its UI, and the pages they lead to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from airflow.sdk import task

from airflow_mapbox.emulator import Emulator
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from tests.dags.conftest import Outcome

pytestmark = pytest.mark.usefixtures("database", "mapbox_connection")

RunDag = Callable[..., Outcome]
Links = dict[tuple[str, int], dict[str, str]]


@pytest.fixture
def links_of_last_run(database: Path) -> Callable[[], Links]:
    """Return the links by task and map index, from the XComs that Airflow's API server reads."""

    def read() -> Links:
        with sqlite3.connect(database) as opened:
            (newest,) = opened.execute("select max(id) from dag_run").fetchone()
            rows = opened.execute(
                "select task_id, map_index, key, value from xcom where dag_run_id = ? and substr(key, 1, 6) = '_link_'",
                [newest],
            ).fetchall()
        links: Links = {}
        for task_id, map_index, key, value in rows:
            links.setdefault((task_id, map_index), {})[key.removeprefix("_link_")] = json.loads(value)
        return links

    return read


@pytest.mark.slow
def test_every_kind_of_task_links_to_its_tileset_and_its_upload(
    run_dag: RunDag, geojson: Path, emulator: Emulator, links_of_last_run: Callable[[], Links]
) -> None:
    def make() -> None:
        created = StageAndCreateUploadOperator(task_id="upload", source=str(geojson), tileset="linked")
        UploadCompleteSensor(task_id="wait", upload_id=created.output["id"])
        UploadCompleteSensor(task_id="deferred", upload_id=created.output, deferrable=True, poke_interval=0.2)
        StageAndCreateUploadOperator(
            task_id="publish", source=str(geojson), tileset="linked-2", wait_for_completion=True, deferrable=True
        )

        @task.mapbox_upload(tileset="linked-{{ task_instance.map_index }}-mapped")
        def frames(number: int) -> Any:
            import geopandas
            import shapely

            return geopandas.GeoDataFrame({"n": [number]}, geometry=[shapely.Point(number, 1)], crs=4326)

        UploadCompleteSensor.partial(task_id="mapped").expand(upload_id=frames.expand(number=[1, 2]))

    outcome = run_dag(make)

    assert set(outcome.states.values()) == {"success"}
    links = links_of_last_run()
    tilesets = {
        ("upload", -1): "linked",
        ("wait", -1): "linked",
        ("deferred", -1): "linked",
        ("publish", -1): "linked-2",
        **{(name, index): f"linked-{index}-mapped" for name in ("frames", "mapped") for index in (0, 1)},
    }
    assert {key: found["TilesetLink"] for key, found in links.items()} == {
        key: f"{emulator.url}/tilesets/{emulator.account}.{name}" for key, name in tilesets.items()
    }
    home = requests.get(emulator.url, timeout=10).text
    for found in links.values():
        assert requests.get(found["TilesetLink"], timeout=10).status_code == 200
        page, _, upload_id = found["UploadLink"].partition("/#")
        assert page == emulator.url
        assert f'id="{upload_id}"' in home
    # The log's last line has the same address.
    assert f"is done: tileset {emulator.account}.linked, {links['wait', -1]['TilesetLink']}" in outcome.written
    assert f"its tileset {emulator.account}.linked is at {links['upload', -1]['TilesetLink']}" in outcome.written


@pytest.mark.slow
def test_a_failed_wait_still_links_to_its_upload_in_each_way_to_wait(
    run_dag: RunDag, tmp_path: Path, emulator: Emulator, links_of_last_run: Callable[[], Links]
) -> None:
    empty = tmp_path / "empty.kml"
    empty.write_text('<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document></Document></kml>')

    def make() -> None:
        options = {"source": str(empty), "preflight": False}
        created = StageAndCreateUploadOperator(task_id="upload", tileset="unlinked", **options)
        UploadCompleteSensor(task_id="wait", upload_id=created.output)
        UploadCompleteSensor(task_id="deferred", upload_id=created.output, deferrable=True, poke_interval=0.2)
        for name, deferrable in {"publish": False, "publish_deferred": True}.items():
            options["tileset"] = f"unlinked-{name}"
            StageAndCreateUploadOperator(task_id=name, wait_for_completion=True, deferrable=deferrable, **options)

    outcome = run_dag(make)

    assert outcome.states.pop("upload") == "success"
    assert set(outcome.states.values()) == {"failed"}
    found = links_of_last_run()
    for name in outcome.states:
        assert found[name, -1]["UploadLink"].startswith(f"{emulator.url}/#c")
        tileset = f"unlinked-{name}" if name.startswith("publish") else "unlinked"
        assert found[name, -1]["TilesetLink"] == f"{emulator.url}/tilesets/{emulator.account}.{tileset}"


def test_a_task_that_never_came_to_an_upload_has_empty_links(
    run_dag: RunDag, tmp_path: Path, links_of_last_run: Callable[[], Links]
) -> None:
    def make() -> None:
        StageAndCreateUploadOperator(task_id="upload", source=str(tmp_path / "nowhere.geojson"), tileset="unlinked")

    outcome = run_dag(make)

    assert outcome.states == {"upload": "failed"}
    assert links_of_last_run() == {("upload", -1): {"TilesetLink": "", "UploadLink": ""}}
