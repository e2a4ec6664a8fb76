"""A change of a tileset starts a DAG run and ends a deferred sensor, under a real triggerer."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from demo.stack import ROOT, Stack, every
from tests.system.test_partitions import await_dag, await_run, trigger, xcom

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    bundle = {
        "name": "watched",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(ROOT / "tests" / "system" / "dags"), "refresh_interval": 600},
    }
    options = {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "PYTHONPATH": str(ROOT),
        # A triggerer takes over the triggers of a dead one after this many seconds.
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    }
    with Stack(tmp_path_factory.mktemp("stack"), airflow_options=options, triggerer=True) as running:
        for dag_id in ("after_a_change", "waits_for_a_change"):
            await_dag(running, dag_id)
        yield running


class Lists:
    """The requests of the account's list."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    @property
    def count(self) -> int:
        log = requests.get(f"{self._stack.emulator.url}/_emulator/requests", timeout=10).json()
        return sum(request["path"].startswith("/tilesets/v1/") for request in log)


def change(stack: Stack, name: str) -> str:
    """Change a tileset as Studio would. Return what the DAG says of it."""
    modified = datetime.now(UTC).isoformat(timespec="milliseconds")
    body = {"id": f"demo.{name}", "modified": modified}
    response = requests.post(f"{stack.emulator.url}/_emulator/tilesets", json=[body], timeout=10)
    response.raise_for_status()
    return f"demo.{name} {modified.replace('+00:00', 'Z')}"


def announced(stack: Stack) -> list[str]:
    """The changes that runs of the DAG have seen so far."""
    runs = stack.api("GET", "dags/after_a_change/dagRuns", params={"limit": 100})["dag_runs"]
    seen: list[str] = []
    for run in runs:
        if run["state"] == "success":
            seen += xcom(stack, "after_a_change", run["dag_run_id"], "changed")
    return sorted(seen)


def await_announced(stack: Stack, expected: list[str], seconds: float = 60) -> None:
    seen: list[str] = []
    for _ in every(1, seconds):
        stack.check_alive()
        seen = announced(stack)
        if len(seen) >= len(expected):
            break
    assert seen == sorted(expected)


def test_each_change_starts_a_run_and_one_request_serves_all(stack: Stack) -> None:
    lists = Lists(stack)
    for _ in every(1, 60):  # the triggers have started
        if lists.count >= 2:
            break
    changes = [change(stack, "watched-a"), change(stack, "watched-b")]

    await_announced(stack, changes)

    before, began = lists.count, time.monotonic()
    time.sleep(5)
    assert lists.count - before <= (time.monotonic() - began) + 1, "two triggers, one request a second"


def test_a_change_while_no_triggerer_runs_is_not_missed_and_none_comes_twice(stack: Stack) -> None:
    before = announced(stack)
    triggerer = stack._processes.pop("triggerer")
    triggerer.send_signal(signal.SIGKILL)
    triggerer.wait(10)
    missed = change(stack, "watched-a")

    stack._start_airflow("triggerer", "triggerer")

    await_announced(stack, [*before, missed], seconds=120)
    later = change(stack, "watched-b")
    await_announced(stack, [*before, missed, later])


def test_a_deferred_sensor_ends_with_the_change(stack: Stack) -> None:
    run_id = trigger(stack, "waits_for_a_change")
    path = f"dags/waits_for_a_change/dagRuns/{run_id}/taskInstances/wait"
    for _ in every(0.5, 60):
        if stack.api("GET", path)["state"] == "deferred":
            break
    changed = change(stack, "awaited")

    await_run(stack, "waits_for_a_change", run_id)

    found: Any = xcom(stack, "waits_for_a_change", run_id, "wait")
    assert f"{found['id']} {found['modified']}" == changed
