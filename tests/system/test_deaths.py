"""Tasks that die under a real scheduler and LocalExecutor: one upload each, and no secret anywhere."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from demo.stack import ROOT, Stack, every
from tests.system.canaries import exports_of, issued_secrets, places_with_secrets

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
    assert Counter((task["task_id"], task["state"]) for task in tasks) == {
        ("upload", "success"): 28,
        ("wait", "success"): 28,
    }
    uploads = [task for task in tasks if task["task_id"] == "upload"]
    died = [task for task in uploads if task["try_number"] > 1]
    # Killed, each has a second try; asked to end, those that were past staging have finished their first.
    assert len(died) >= 20, Counter(task["try_number"] for task in uploads)


@pytest.mark.usefixtures("tasks")
def test_each_has_one_upload(stack: Stack) -> None:
    with sqlite3.connect(stack.folder / "emulator" / "emulator.sqlite3") as books:
        rows = books.execute("SELECT tileset, error FROM uploads").fetchall()

    assert len(rows) == 28
    assert max(Counter(tileset for tileset, _ in rows).values()) == 1
    assert [error for _, error in rows if error is not None] == []


@pytest.mark.usefixtures("tasks")
def test_no_secret_is_in_any_log_or_in_the_database(stack: Stack) -> None:
    assert len(issued_secrets(stack)) >= 1 + 3 * 28
    assert places_with_secrets(stack) == []
