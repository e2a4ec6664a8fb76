"""The eight days, backfilled in a running Airflow: scheduler, API server, DAG processor, LocalExecutor, emulator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import requests

from demo.check import check_tileset
from demo.postgres import Postgres
from demo.stack import Stack, every
from tests.conftest import ROOT
from tests.system.canaries import issued_secrets, places_with_secrets

DAG_ID = "earthquakes_daily"
DAYS = [date(2018, 1, 31) + timedelta(days=number) for number in range(8)]
# As in dags/data/README.md.
EARTHQUAKES = [198, 231, 242, 259, 301, 249, 213, 14]
SECONDS = 540

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # The rate limit is Mapbox's own: 30 requests a minute, fewer than eight uploads and their looks need.
    debug = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"}
    with Stack(tmp_path_factory.mktemp("stack"), airflow_options=debug, postgres=Postgres.is_installed()) as up:
        up.await_dag(DAG_ID)
        yield up


def backfilled_runs(stack: Stack) -> list[dict[str, Any]]:
    runs = stack.api("GET", f"dags/{DAG_ID}/dagRuns", params={"limit": 100})["dag_runs"]
    return [run for run in runs if run["run_type"] == "backfill"]


def await_backfills(stack: Stack) -> list[dict[str, Any]]:
    """Wait until Airflow calls every backfill of the DAG complete, and give their runs."""
    for _ in every(2, SECONDS):
        stack.check_alive()
        backfills = stack.api("GET", "backfills", params={"dag_id": DAG_ID})["backfills"]
        if backfills and all(backfill["completed_at"] for backfill in backfills):
            return backfilled_runs(stack)
    pytest.fail(f"after {SECONDS} s the runs are {Counter(run['state'] for run in backfilled_runs(stack))}")


def uploads(stack: Stack) -> list[dict[str, Any]]:
    address = f"{stack.emulator.url}/uploads/v1/{stack.emulator.account}"
    for _ in every(2, 120):
        answer = requests.get(address, params={"access_token": stack.emulator.token}, timeout=10)
        if answer.status_code == 200:
            return list(answer.json())
    pytest.fail("the emulator's rate limit did not reset")


def tilejson(stack: Stack, day: date) -> tuple[str, dict[str, Any]]:
    address = f"{stack.emulator.url}/tilesets/{stack.emulator.account}.earthquakes-{day:%Y%m%d}.json"
    return address, requests.get(address, timeout=10).json()


def ids_of(day: date) -> set[str]:
    features = json.loads((ROOT / "dags/data/usgs-earthquakes-2018-01-31-to-02-07.geojson").read_text())["features"]
    return {
        feature["id"]
        for feature in features
        if datetime.fromtimestamp(feature["properties"]["time"] / 1000, UTC).date() == day
    }


@pytest.fixture(scope="module")
def backfill(stack: Stack) -> list[dict[str, Any]]:
    command = ["backfill", "create", "--dag-id", DAG_ID, "--from-date", str(DAYS[0]), "--to-date", str(DAYS[-1])]
    created = subprocess.run(
        [sys.executable, "-m", "airflow", *command, "--max-active-runs", "4"],
        env=stack.environment(),
        capture_output=True,
        text=True,
    )
    assert created.returncode == 0, created.stdout + created.stderr
    return await_backfills(stack)


def test_every_task_of_every_day_succeeds_at_its_first_try(stack: Stack, backfill: list[dict[str, Any]]) -> None:
    assert Counter(run["state"] for run in backfill) == {"success": 8}
    for run in backfill:
        path = f"dags/{DAG_ID}/dagRuns/{run['dag_run_id']}/taskInstances"
        tasks = stack.api("GET", path)["task_instances"]
        assert {task["task_id"]: (task["state"], task["try_number"]) for task in tasks} == dict.fromkeys(
            ("export", "upload", "wait"), ("success", 1)
        )


@pytest.mark.usefixtures("backfill")
def test_each_day_has_one_upload_and_one_tileset_of_that_days_earthquakes(stack: Stack) -> None:
    made = Counter(upload["tileset"] for upload in uploads(stack))
    assert made == Counter(f"{stack.emulator.account}.earthquakes-{day:%Y%m%d}" for day in DAYS)
    for day, expected in zip(DAYS, EARTHQUAKES, strict=True):
        exported = stack.folder / "exports" / DAG_ID / f"{day}.geojson"
        found = check_tileset(tilejson(stack, day)[0], exported, key="id")
        assert found.features == expected
        in_file = {feature["properties"]["id"] for feature in json.loads(exported.read_text())["features"]}
        assert in_file == ids_of(day)


@pytest.mark.usefixtures("backfill")
def test_a_day_run_again_replaces_its_own_tileset_and_touches_no_other(stack: Stack) -> None:
    before = {day: tilejson(stack, day)[1]["modified"] for day in DAYS}
    again = DAYS[3]
    moment = f"{again}T00:00:00Z"
    # What the form under Trigger, Backfill sends.
    stack.api(
        "POST",
        "backfills",
        json={
            "dag_id": DAG_ID,
            "from_date": moment,
            "to_date": moment,
            "reprocess_behavior": "completed",
            "run_backwards": False,
            "max_active_runs": 1,
            "dag_run_conf": {},
        },
    )
    await_backfills(stack)

    after = {day: tilejson(stack, day)[1]["modified"] for day in DAYS}
    assert {day for day in DAYS if after[day] != before[day]} == {again}
    assert (
        check_tileset(
            tilejson(stack, again)[0], stack.folder / "exports" / DAG_ID / f"{again}.geojson", key="id"
        ).features
        == EARTHQUAKES[3]
    )


@pytest.mark.usefixtures("backfill")
def test_no_secret_is_in_any_log_or_in_the_database(stack: Stack) -> None:
    assert len(issued_secrets(stack)) >= 1 + 3 * len(DAYS)
    assert places_with_secrets(stack) == []
