"""Tasks that die under a real scheduler and LocalExecutor: one upload each, and no secret anywhere."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from demo.postgres import Postgres
from demo.stack import ROOT, Stack, every
from tests.crashes.one_try import Step
from tests.system.canaries import exports_of, issued_secrets, places_with_secrets
from tests.system.dags.dying import CASES

SECONDS = 600

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    options = {
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "tests" / "system" / "dags"),
        "PYTHONPATH": str(ROOT),
    }
    stack = Stack(
        tmp_path_factory.mktemp("stack"),
        airflow_options=options,
        emulator_options=("--rate-limit", "0", "--processing-seconds", "0"),
        postgres=Postgres.is_installed(),
    )
    exports = exports_of(stack)
    (exports / "small.csv").write_text("lon,lat,n\n" + "".join(f"{n},{n % 80},{n}\n" for n in range(100)))
    text = "x" * 20_000
    (exports / "large.csv").write_text("lon,lat,n\n" + "".join(f"{n % 170},{n % 80},{text}{n}\n" for n in range(600)))
    with stack:
        yield stack


@pytest.fixture(scope="module")
def tasks(stack: Stack) -> list[dict[str, Any]]:
    """The tasks of one run, once it has ended."""
    stack.await_dag("dying")
    run = stack.api("POST", "dags/dying/dagRuns", json={"logical_date": "2018-02-01T00:00:00Z"})
    path = f"dags/dying/dagRuns/{run['dag_run_id']}"
    for _ in every(2, SECONDS):
        stack.check_alive()
        if stack.api("GET", path)["state"] in ("success", "failed"):
            break
    return list(stack.api("GET", f"{path}/taskInstances", params={"limit": 200})["task_instances"])


def test_every_task_ends_well_after_it_died(tasks: list[dict[str, Any]]) -> None:
    assert Counter(task["state"] for task in tasks) == {"success": len(CASES)}
    for task in tasks:
        case = CASES[task["map_index"]]
        # Asked to end, those that are past staging finish their first try.
        if case["by"] == "SIGKILL" or Step[case["step"]] in (Step.FIRST_PART, Step.LAST_PART):
            assert task["try_number"] == 2, case


@pytest.mark.usefixtures("tasks")
def test_each_has_one_upload(stack: Stack) -> None:
    with sqlite3.connect(stack.folder / "emulator" / "emulator.sqlite3") as books:
        rows = books.execute("SELECT tileset, error FROM uploads").fetchall()

    assert len(rows) == len(CASES) == 28
    assert max(Counter(tileset for tileset, _ in rows).values()) == 1
    assert [error for _, error in rows if error is not None] == []


def test_a_cleared_task_is_a_new_intent_and_uploads_again(stack: Stack, tasks: list[dict[str, Any]]) -> None:
    cleared = next(task for task in tasks if CASES[task["map_index"]]["step"] == "RETURNED")
    path = f"dags/dying/dagRuns/{cleared['dag_run_id']}"
    stack.api(
        "POST",
        "dags/dying/clearTaskInstances",
        json={
            "dry_run": False,
            "dag_run_id": cleared["dag_run_id"],
            "task_ids": [["upload", cleared["map_index"]]],
            "only_failed": False,
        },
    )
    for _ in every(1, 120):
        stack.check_alive()
        if stack.api("GET", path)["state"] == "success":
            break

    again = stack.api("GET", f"{path}/taskInstances/upload/{cleared['map_index']}")
    assert again["max_tries"] > cleared["max_tries"]
    with sqlite3.connect(stack.folder / "emulator" / "emulator.sqlite3") as books:
        rows = books.execute("SELECT tileset FROM uploads").fetchall()
    made = Counter(tileset.partition(".")[2] for (tileset,) in rows)
    assert made.pop(CASES[cleared["map_index"]]["tileset"]) == 2
    assert set(made.values()) == {1}


@pytest.mark.usefixtures("tasks")
def test_no_secret_is_in_any_log_or_in_the_database(stack: Stack) -> None:
    assert len(issued_secrets(stack)) >= 1 + 3 * len(CASES)
    assert places_with_secrets(stack) == []
