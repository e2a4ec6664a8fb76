"""Assets, partitions, links, lineage and templates under a real scheduler: examples, and each kind of run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
import requests

from demo.postgres import Postgres
from demo.stack import ROOT, Stack, every
from tests.system.canaries import issued_secrets

pytestmark = pytest.mark.timeout(300)

LATEST_DAY = "mapbox://tilesets/demo.quakes-latest-day"
KINDS = "mapbox://tilesets/demo.kinds"
# As in dags/data/README.md, of the days in February.
IN_FEBRUARY = 231 + 242 + 259 + 301 + 249 + 213 + 14


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    bundles = [
        {
            "name": folder.replace("/", "-"),
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(ROOT / folder), "refresh_interval": 600},
        }
        for folder in ("dags", "tests/system/dags")
    ]
    folder = tmp_path_factory.mktemp("stack")
    transport = {"type": "file", "log_file_path": str(folder / "lineage.jsonl"), "append": True}
    options = {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}
    options |= {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles), "PYTHONPATH": str(ROOT)}
    with Stack(
        folder,
        airflow_options=options,
        emulator_options=("--rate-limit", "0", "--processing-seconds", "0"),
        postgres=Postgres.is_installed(),
    ) as running:
        for dag_id in ("quakes_by_month", "after_counties", "kind_partitioned_asset"):
            await_dag(running, dag_id)
        yield running


def await_dag(stack: Stack, dag_id: str) -> None:
    """Wait for a DAG. On a busy machine the API server is silent for ten seconds while all DAGs are parsed."""
    for _ in every(1, 90):
        with contextlib.suppress(requests.Timeout):
            return stack.await_dag(dag_id)
    pytest.fail(f"Airflow's API server did not answer in time for DAG {dag_id}")


def trigger(stack: Stack, dag_id: str, **body: Any) -> str:
    run = stack.api("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, **body})
    return str(run["dag_run_id"])


def await_run(stack: Stack, dag_id: str, run_id: str | None = None, **wanted: Any) -> dict[str, Any]:
    """Wait for a run of a DAG to end: the run of an id, or one with some attributes."""
    runs: list[dict[str, Any]] = []
    for _ in every(0.5, 90):
        stack.check_alive()
        runs = stack.api("GET", f"dags/{dag_id}/dagRuns", params={"limit": 100})["dag_runs"]
        for run in runs:
            right = run["dag_run_id"] == run_id if run_id else wanted.items() <= run.items()
            if right and run["state"] in ("success", "failed"):
                assert run["state"] == "success", run
                return dict(run)
    pytest.fail(f"no run of {dag_id} with {run_id or wanted} has ended: {runs}")


def asset_id(stack: Stack, uri: str) -> int:
    assets = stack.api("GET", "assets", params={"uri_pattern": uri})["assets"]
    return int(next(asset["id"] for asset in assets if asset["uri"] == uri))


def xcom(stack: Stack, dag_id: str, run_id: str, task_id: str) -> Any:
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
    return stack.api("GET", path, params={"deserialize": True})["value"]


def links(stack: Stack, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
    return dict(stack.api("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links")["extra_links"])


def test_a_tileset_with_its_account_is_in_the_graph_before_its_first_event(stack: Stack) -> None:
    asset = stack.api("GET", f"assets/{asset_id(stack, LATEST_DAY)}")

    assert [(task["dag_id"], task["task_id"]) for task in asset["producing_tasks"]] == [("quakes_by_day", "publish")]
    assert [dag["dag_id"] for dag in asset["scheduled_dags"]] == ["quakes_by_month"]


def test_the_month_is_rebuilt_when_all_of_its_days_are_there(stack: Stack) -> None:
    asset = asset_id(stack, LATEST_DAY)
    days = [str(date(2018, 2, 1) + timedelta(days=number)) for number in range(28)]
    days.remove("2018-02-07")
    for day in days:
        stack.api("POST", "assets/events", json={"asset_id": asset, "partition_key": day})
    assert stack.api("GET", "dags/quakes_by_month/dagRuns")["dag_runs"] == [], "a day is missing"

    await_run(stack, "quakes_by_day", trigger(stack, "quakes_by_day", partition_key="2018-02-07"))
    month = await_run(stack, "quakes_by_month", partition_key="2018-02")

    events = stack.api("GET", "assets/events", params={"asset_id": asset, "source_dag_id": "quakes_by_day"})
    sent = [(event["partition_key"], event["extra"]["features"]) for event in events["asset_events"]]
    assert sent == [("2018-02-07", 14)]
    # In a run with a key Airflow gives it to every event, also to that of a templated tileset, through the alias.
    (event,) = stack.api("GET", "assets/events", params={"source_dag_id": "quakes_by_month"})["asset_events"]
    assert (event["uri"], event["partition_key"]) == ("mapbox://tilesets/demo.quakes-2018-02", "2018-02")
    result = xcom(stack, "quakes_by_month", month["dag_run_id"], "publish")
    assert result["source"]["features"] == IN_FEBRUARY
    assert requests.get(result["tileset_url"], timeout=10).status_code == 200


def test_a_dag_that_waits_for_a_tileset_starts_with_what_its_event_says(stack: Stack) -> None:
    counties = trigger(stack, "virginia_counties")
    await_run(stack, "virginia_counties", counties)

    run = await_run(stack, "after_counties", run_type="asset_triggered")

    told = xcom(stack, "after_counties", run["dag_run_id"], "announce")
    assert told["features"] == 136
    for task_id in ("upload", "wait"):
        assert links(stack, "virginia_counties", counties, task_id) == {
            "Tileset": f"{stack.emulator.url}/tilesets/demo.virginia-counties",
            "Upload": f"{stack.emulator.url}/#{told['upload_id']}",
        }


def test_openlineage_knows_the_file_of_the_counties_in_a_workers_own_process(stack: Stack) -> None:
    written = (stack.folder / "lineage.jsonl").read_text()
    events = [event for event in map(json.loads, written.splitlines()) if event["eventType"] == "COMPLETE"]
    datasets = {
        event["job"]["name"]: [(item["namespace"], item["name"]) for item in (*event["inputs"], *event["outputs"])]
        for event in events
    }

    tileset = ("mapbox://tilesets", "demo.virginia-counties")
    exported = ("file", str(stack.folder / "exports" / "virginia_counties.geojson"))
    assert datasets["virginia_counties.upload"] == [exported, tileset]
    assert datasets["virginia_counties.wait"] == [tileset]
    assert not [secret for secret in issued_secrets(stack) if secret in written]


def documented_kinds() -> dict[str, list[bool]]:
    """Return docs/concepts/assets.md's table of templates: for each kind of run, whether each column has a value."""
    table = (ROOT / "docs/concepts/assets.md").read_text().partition("| kind of run |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {kind.replace("`", ""): [cell != "no" for cell in cells] for kind, *cells in rows}


def has_value(rendered: dict[str, str]) -> list[bool]:
    """Return whether the templates of each column of the table have a value."""
    columns = (
        ("ds", "ds_nodash", "logical_date"),
        ("data_interval_start", "data_interval_end"),
        ("partition_key",),
        ("run_after",),
        ("triggering_asset_events",),
    )
    missing = ("UndefinedError", "None", "0")
    values = [{rendered[name] not in missing for name in column} for column in columns]
    assert all(len(found) == 1 for found in values), rendered
    return [found.pop() for found in values]


def test_each_kind_of_run_renders_the_templates_that_the_documentation_lists(stack: Stack) -> None:
    kinds = asset_id(stack, KINDS)
    moment, march = "2018-02-02T00:00:00Z", {"from_date": "2018-03-01T00:00:00Z", "to_date": "2018-03-01T00:00:00Z"}
    runs = {
        "manual with a logical date": ("kind_interval", trigger(stack, "kind_interval", logical_date=moment)),
        "manual without a logical date": ("kind_interval", trigger(stack, "kind_interval")),
        "manual with a partition key": ("kind_partition", trigger(stack, "kind_partition", partition_key="2018-02-02")),
    }
    schedules = {
        "kind_interval": "CronDataIntervalTimetable",
        "kind_cron": '"@daily"',
        "kind_partition": "CronPartitionTimetable",
    }
    for dag_id, schedule in schedules.items():
        stack.api("POST", "backfills", json={"dag_id": dag_id, **march})
        runs[f"backfill, {schedule}"] = (dag_id, await_run(stack, dag_id, run_type="backfill")["dag_run_id"])
        if dag_id != "kind_partition":  # its first scheduled run is at the next midnight
            runs[f"scheduled, {schedule}"] = (dag_id, await_run(stack, dag_id, run_type="scheduled")["dag_run_id"])
    stack.api("POST", "assets/events", json={"asset_id": kinds})
    runs["started by an asset"] = (
        "kind_asset",
        await_run(stack, "kind_asset", run_type="asset_triggered")["dag_run_id"],
    )
    stack.api("POST", "assets/events", json={"asset_id": kinds, "partition_key": "2018-02-03"})
    keyed = await_run(stack, "kind_partitioned_asset", partition_key="2018-02-03")
    runs["started by an asset with a key"] = ("kind_partitioned_asset", keyed["dag_run_id"])

    rendered = {}
    for kind, (dag_id, run_id) in runs.items():
        await_run(stack, dag_id, run_id)
        rendered[kind] = xcom(stack, dag_id, run_id, "rendered")

    assert {kind: has_value(values) for kind, values in rendered.items()} == documented_kinds()
    days = {kind: (values["ds"], values["data_interval_start"]) for kind, values in rendered.items()}
    assert days["backfill, CronDataIntervalTimetable"] == ("2018-03-01", "2018-03-01")
    assert days["manual with a logical date"] == ("2018-02-02", "2018-02-01"), "the interval is the day before"
    assert rendered["backfill, CronPartitionTimetable"]["partition_key"] == "2018-03-01"
    # A keyed event starts no plain DAG, and one without a key no partitioned DAG.
    assert len(stack.api("GET", "dags/kind_asset/dagRuns")["dag_runs"]) == 1
    assert len(stack.api("GET", "dags/kind_partitioned_asset/dagRuns")["dag_runs"]) == 1
