"""The example that keeps eight days, backfilled in a running Airflow: the emulator's list before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta

import pytest
import requests

from demo.postgres import Postgres
from demo.stack import Stack, every

DAG_ID = "earthquakes_last_days"
DAYS = [date(2018, 1, 31) + timedelta(days=number) for number in range(8)]
EARLIER = [date(2018, 1, 31) - timedelta(days=number) for number in range(1, 6)]
SECONDS = 400

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    options = ("--rate-limit", "0", "--processing-seconds", "0")
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, emulator_options=options, postgres=Postgres.is_installed()) as up:
        up.await_dag(DAG_ID)
        yield up


def listed(stack: Stack) -> list[str]:
    answer = requests.get(
        f"{stack.emulator.url}/tilesets/v1/{stack.emulator.account}",
        params={"access_token": stack.emulator.token, "limit": 500},
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    return sorted(tileset["id"].partition(".")[2] for tileset in answer.json())


def name(day: date) -> str:
    return f"earthquakes-last-{day:%Y%m%d}"


@pytest.mark.parametrize("backwards", [False, True])
def test_a_backfill_leaves_the_last_eight_days(stack: Stack, backwards: bool) -> None:
    others = ["earthquakes-20180101", "earthquakes-lasting"]
    for tileset in (*others, *map(name, EARLIER)):
        answer = requests.post(
            f"{stack.emulator.url}/_emulator/tilesets",
            json=[{"id": f"{stack.emulator.account}.{tileset}"}],
            timeout=10,
        )
        assert answer.ok, answer.text
    before = listed(stack)
    assert set(before) >= {*others, *map(name, EARLIER)}

    stack.api(
        "POST",
        "backfills",
        json={
            "dag_id": DAG_ID,
            "from_date": f"{DAYS[0]}T00:00:00Z",
            "to_date": f"{DAYS[-1]}T00:00:00Z",
            "reprocess_behavior": "completed",
            "run_backwards": backwards,
            "max_active_runs": 4,
            "dag_run_conf": {},
        },
    )

    for _ in every(2, SECONDS):
        stack.check_alive()
        backfills = stack.api("GET", "backfills", params={"dag_id": DAG_ID})["backfills"]
        if backfills and all(backfill["completed_at"] for backfill in backfills):
            break
    else:
        pytest.fail(f"the backfill was not complete after {SECONDS} s")
    runs = stack.api("GET", f"dags/{DAG_ID}/dagRuns", params={"limit": 100})["dag_runs"]
    assert Counter(run["state"] for run in runs if run["run_type"] == "backfill") == {"success": 8}
    print("before:", before, "after:", listed(stack))
    assert listed(stack) == sorted([*others, *map(name, DAYS)])
