"""Retention in DAGs that Airflow runs: the example, backfilled in any order, and a plan that a person approves."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_mapbox.emulator import Emulator
from airflow_mapbox.hooks.tilesets import MapboxTilesetsHook
from airflow_mapbox.operators.tilesets import DeleteTilesetsOperator
from tests.conftest import ROOT
from tests.dags.conftest import Outcome

pytestmark = pytest.mark.usefixtures("database", "mapbox_connection")

RunDag = Callable[..., Outcome]
FIRST = date(2018, 1, 31)


def listed(match: str) -> list[str]:
    return sorted(tileset.own_name for tileset in MapboxTilesetsHook().list_tilesets(match=match))


@pytest.fixture(scope="module")
def example(database: Any) -> Any:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(ROOT / "dags" / "earthquakes_last_days.py")
    assert bag.import_errors == {}
    return bag.dags["earthquakes_last_days"]


def run_day(example: Any, day: date) -> Any:
    # A manual run's interval is the last whole one before its logical date.
    after = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)
    outcome = example.test(logical_date=after)
    assert outcome.state == "success"
    return outcome.get_task_instance("retention").xcom_pull(task_ids="retention")


def test_a_day_of_the_example_is_published_and_the_oldest_goes(example: Any, emulator: Emulator) -> None:
    earlier = [f"earthquakes-last-201801{day:02}" for day in range(20, 28)]
    for name in earlier:
        emulator.add_tileset(f"{emulator.account}.{name}")
    emulator.add_tileset(f"{emulator.account}.earthquakes-lasting")

    result = run_day(example, FIRST)

    assert listed("earthquakes-last-*") == [*earlier[1:], "earthquakes-last-20180131"]
    assert result["deleted"] == [f"{emulator.account}.{earlier[0]}"]
    assert listed("earthquakes-lasting") == ["earthquakes-lasting"]
    for name in listed("earthquakes-last*"):
        MapboxTilesetsHook().delete_tileset(name)


@pytest.mark.slow
def test_eight_days_in_any_order_leave_the_last_eight_days(example: Any, emulator: Emulator) -> None:
    """The list before the backfill has five earlier days, so the retention has something to delete."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    days = [FIRST + timedelta(days=number) for number in range(8)]
    earlier = [f"earthquakes-last-201801{day:02}" for day in range(26, 31)]
    for name in earlier:
        emulator.add_tileset(f"{emulator.account}.{name}", created=datetime(2030, 1, 1, tzinfo=UTC))
    assert listed("earthquakes-last-*") == earlier
    random.Random(seed).shuffle(days)

    deleted = [identifier for day in days for identifier in run_day(example, day)["deleted"]]

    assert listed("earthquakes-last-*") == sorted(f"earthquakes-last-{day:%Y%m%d}" for day in days)
    assert sorted(deleted) == [f"{emulator.account}.{name}" for name in earlier]


def test_a_person_sees_the_plan_and_the_second_task_deletes_it(run_dag: RunDag, emulator: Emulator) -> None:
    for day in range(1, 6):
        emulator.add_tileset(f"{emulator.account}.reviewed-201801{day:02}")

    def make() -> None:
        plan = DeleteTilesetsOperator(task_id="plan", match="reviewed-*", keep=3, dry_run=True)
        approve = ApprovalOperator(
            task_id="approve",
            subject="Delete these tilesets?",
            body=plan.output["markdown"],  # type: ignore[arg-type] - a templated field takes the output of a task
        )
        delete = DeleteTilesetsOperator(task_id="delete", plan=plan.output)  # type: ignore[arg-type]
        plan >> approve >> delete

    outcome = run_dag(make, mark_success_pattern="approve")

    assert outcome.states == {"plan": "success", "approve": "success", "delete": "success"}
    assert listed("reviewed-*") == [f"reviewed-201801{day:02}" for day in (3, 4, 5)]
    assert emulator.token not in outcome.written


def test_a_plan_in_a_template_is_read(run_dag: RunDag, emulator: Emulator) -> None:
    for day in range(1, 4):
        emulator.add_tileset(f"{emulator.account}.rendered-201801{day:02}")

    def make() -> None:
        plan = DeleteTilesetsOperator(task_id="plan", match="{{ 'rendered' }}-*", keep=1, dry_run=True)
        delete = DeleteTilesetsOperator(task_id="delete", plan="{{ ti.xcom_pull(task_ids='plan') }}")
        plan >> delete

    outcome = run_dag(make)

    assert outcome.states == {"plan": "success", "delete": "success"}
    assert listed("rendered-*") == ["rendered-20180103"]


def test_a_plan_above_the_ceiling_fails_without_a_retry(run_dag: RunDag, emulator: Emulator) -> None:
    for day in range(1, 6):
        emulator.add_tileset(f"{emulator.account}.many-201801{day:02}")

    outcome = run_dag(
        lambda: DeleteTilesetsOperator(task_id="retention", match="many-*", keep=1, max_deletions=3, retries=3)
    )

    assert (outcome.states, outcome.tries) == ({"retention": "failed"}, {"retention": 1})
    assert "raise `max_deletions`" in outcome.written
    assert len(listed("many-*")) == 5


def test_a_retry_continues_with_the_same_plan(
    run_dag: RunDag, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(1, 6):
        emulator.add_tileset(f"{emulator.account}.retried-201801{day:02}")
    # Five attempts at the second deletion fail, so the first try does.
    emulator.faults.add("status", method="DELETE", path="retried-", status=500, after=1, times=5)

    def make() -> None:
        DeleteTilesetsOperator(
            task_id="retention", match="retried-*", keep=2, retries=1, retry_delay=timedelta(seconds=0)
        )

    outcome = run_dag(make)

    assert (outcome.states, outcome.tries) == ({"retention": "success"}, {"retention": 2})
    assert listed("retried-*") == ["retried-20180104", "retried-20180105"]
