"""Lineage of a DAG run, by the OpenLineage provider and its file transport."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator

pytestmark = pytest.mark.usefixtures("database", "mapbox_connection")

DAG_FILE = """
from datetime import UTC, datetime
import json, os

from airflow.sdk import DAG, ObjectStoragePath, task
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor

FOLDER = os.environ["LINEAGE_FOLDER"]

with DAG("lineage", schedule=None, start_date=datetime(2018, 1, 1, tzinfo=UTC)):
    created = StageAndCreateUploadOperator(
        task_id="create", source=f"{FOLDER}/point.geojson", tileset="from-file", name="Points"
    )
    UploadCompleteSensor(task_id="wait", upload_id=created.output)
    StageAndCreateUploadOperator(
        task_id="deferred",
        source=f"file://{FOLDER}/point.geojson",
        tileset="demo.deferred-{{ ds_nodash }}",
        format="geojson",
        wait_for_completion=True,
        deferrable=True,
    )

    @task.mapbox_upload(tileset="from-function", wait_for_completion=True)
    def function():
        import geopandas

        with ObjectStoragePath(f"file://{FOLDER}/point.geojson").open("rb") as file:
            return geopandas.read_file(file)

    function()
    StageAndCreateUploadOperator(task_id="failing", source=f"{FOLDER}/nowhere.geojson", tileset="demo.never")
"""


@pytest.fixture(scope="module")
def events_by_task(
    database: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    """Run the DAG in a process of its own, whose OpenLineage writes files. Return the events of each task."""
    folder = tmp_path_factory.mktemp("lineage")
    (folder / "lineage.py").write_text(DAG_FILE)
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7.1, 50.7]}, "properties": {"a": 1}}
    (folder / "point.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [point]}))
    transport = {"type": "file", "log_file_path": str(folder / "events.jsonl"), "append": True}
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "dags", "test", "lineage", "2018-02-01"],
        env=os.environ
        | {
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "-5",
            "AIRFLOW_CONN_MAPBOX_DEFAULT": emulator.airflow_connection(),
            "LINEAGE_FOLDER": str(folder),
        },
        capture_output=True,
        text=True,
    )
    written = (folder / "events.jsonl").read_text()
    assert emulator.token not in written
    assert emulator.token not in done.stdout + done.stderr
    events: dict[str, list[dict[str, Any]]] = {}
    for line in written.splitlines():
        event = json.loads(line)
        events.setdefault(event["job"]["name"], []).append(event)
    assert events, done.stdout + done.stderr
    events["folder"] = [{"path": str(folder)}]
    return events


def last_event(events: dict[str, list[dict[str, Any]]], task_id: str, kind: str = "COMPLETE") -> dict[str, Any]:
    return next(event for event in reversed(events[f"lineage.{task_id}"]) if event["eventType"] == kind)


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


Events = dict[str, list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("task_id", "tileset"),
    [("create", "from-file"), ("deferred", "deferred-20180201"), ("function", "from-function")],
)
def test_a_file_becomes_a_tileset(events_by_task: Events, emulator: Emulator, task_id: str, tileset: str) -> None:
    event = last_event(events_by_task, task_id)

    assert names(event["inputs"]) == [("file", f"{events_by_task['folder'][0]['path']}/point.geojson")]
    assert names(event["outputs"]) == [("mapbox://tilesets", f"{emulator.account}.{tileset}")]


def test_the_tileset_has_the_upload_and_its_statistics(events_by_task: Events, emulator: Emulator) -> None:
    event = last_event(events_by_task, "deferred")

    (output,) = event["outputs"]
    facet = output["facets"]["mapbox_upload"]
    assert (facet["complete"], facet["features"], facet["bounds"]) == (True, 1, [7.1, 50.7, 7.1, 50.7])
    assert facet["bill"]["bytes"] == facet["bytes"] > 100
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (1, facet["bytes"], 1)
    query = event["run"]["facets"]["externalQuery"]
    assert (query["externalQueryId"], query["source"]) == (facet["uploadId"], emulator.url)


def test_the_sensor_completes_the_tileset_of_the_same_upload(events_by_task: Events, emulator: Emulator) -> None:
    created, waited = last_event(events_by_task, "create"), last_event(events_by_task, "wait")

    assert names(waited["outputs"]) == names(created["outputs"])
    before, after = (event["outputs"][0]["facets"]["mapbox_upload"] for event in (created, waited))
    assert before["uploadId"] == after["uploadId"]
    assert (before["displayName"], after["complete"]) == ("Points", True)


def test_a_failed_task_names_its_source(events_by_task: Events) -> None:
    event = last_event(events_by_task, "failing", "FAIL")

    # `airflow dags test` runs all tasks in one process, so what the hooks of the others have read is there too.
    assert ("file", f"{events_by_task['folder'][0]['path']}/nowhere.geojson") in names(event["inputs"])
    assert "mapbox_upload" not in json.dumps(event["outputs"])


def test_the_event_in_the_documentation_has_the_form_of_a_real_one(events_by_task: Events) -> None:
    from tests.conftest import ROOT

    page = (ROOT / "docs/how-to/lineage.md").read_text()
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])
    event = last_event(events_by_task, "deferred")

    def form(value: Any) -> Any:
        return {key: form(item) for key, item in value.items()} if isinstance(value, dict) else type(value).__name__

    for part in ("inputs", "outputs"):
        keys = ("namespace", "name") if part == "inputs" else ("namespace", "name", "facets", "outputFacets")
        real = [{key: dataset[key] for key in keys} for dataset in event[part]]
        assert [form(item) for item in shown[part]] == [form(item) for item in real]
    query = event["run"]["facets"]["externalQuery"]
    assert form(shown["run"]["facets"]["externalQuery"]) == form(query)
