"""The operator that deletes tilesets, against the emulator: crashes, two runs at once, clocks, refusals, bad input."""

from __future__ import annotations

import json
import random
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partialmethod
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.faults import ProcessingFault, RequestFault
from airflow_mapbox.errors import ApiError
from airflow_mapbox.exceptions import MapboxFailError, MapboxTaskError
from airflow_mapbox.hooks.tilesets import MapboxTilesetsHook
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.http.session import Transport
from airflow_mapbox.operators.tilesets import DeleteTilesetsOperator
from airflow_mapbox.tilesets.client import TilesetsClient
from airflow_mapbox.tilesets.deleting import Retention
from airflow_mapbox.uploads.client import UploadsClient
from tests.answers import PLAUSIBLE
from tests.connections import connection
from tests.support.clock import ANOTHER_TIME as START
from tests.support.clock import Clock
from tests.unit.support import FakeStore, all_text_of
from tests.unit.tilesets.accounts import may_go, random_account, random_policy
from tests.unit.tilesets.test_retention import BAD

DAY = 86_400.0


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def slept(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let time pass for the emulator while a client waits."""
    seconds: list[float] = []

    def sleep(duration: float) -> None:
        seconds.append(duration)
        clock.now += duration

    monkeypatch.setattr(UploadsClient, "__init__", partialmethod(UploadsClient.__init__, sleep=sleep))
    return seconds


StartEmulator = Callable[..., Emulator]


@pytest.fixture
def start(
    tmp_path: Path,
    clock: Clock,
    slept: list[float],
    make_settings: Callable[..., EmulatorSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[StartEmulator]:
    running: list[Emulator] = []

    def start(**settings: Any) -> Emulator:
        emulator = Emulator(tmp_path / f"emulator-{len(running)}", settings=make_settings(**settings), clock=clock)
        running.append(emulator.start())
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator))
        return emulator

    yield start
    for emulator in running:
        emulator.stop()


@pytest.fixture
def emulator(start: StartEmulator) -> Emulator:
    return start()


class Task:
    """A task that Airflow runs again and again, each time with the state that it left."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.store = FakeStore()
        self.max_tries = 1

    def run(self) -> dict[str, Any]:
        context: Any = {"ti": SimpleNamespace(max_tries=self.max_tries), "task_state_store": self.store}
        result = DeleteTilesetsOperator(task_id="retention", **self.options).execute(context)
        assert json.loads(json.dumps(result)) == result
        return result


def add_days(emulator: Emulator, *days: int, **fields: Any) -> None:
    for day in days:
        emulator.add_tileset(f"{emulator.account}.quakes-201801{day:02}", **fields)


def days_in(emulator: Emulator) -> list[int]:
    """Return the days of January whose tilesets exist."""
    listed = MapboxTilesetsHook().list_tilesets(match="quakes-201801*")
    return sorted(int(tileset.own_name[-2:]) for tileset in listed)


def days_of(ids: list[str]) -> list[int]:
    return sorted(int(identifier[-2:]) for identifier in ids)


def deletes(emulator: Emulator) -> int:
    return sum(request.method == "DELETE" for request in emulator.requests)


Begin = Callable[[Emulator, str], None]


@pytest.fixture
def begin_upload(tmp_path: Path) -> Begin:
    """Begin an upload that stays in processing."""

    def begin(emulator: Emulator, tileset: str) -> None:
        emulator.faults.add(ProcessingFault.STALL, where="processing", path=tileset, progress=0.4)
        path = tmp_path / "point.geojson"
        point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7.1, 50.7]}, "properties": {"a": 1}}
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [point]}))
        MapboxUploadsHook().upload(str(path), tileset)

    return begin


class TestDeletes:
    def test_it_keeps_the_newest_days_after_a_backfill_in_any_order(self, emulator: Emulator, clock: Clock) -> None:
        days = list(range(1, 15))
        seed = secrets.randbits(32)
        print(f"seed {seed}")
        random.Random(seed).shuffle(days)
        for day in days:
            add_days(emulator, day)
            clock.now += DAY

        result = Task(match="quakes-*", keep=8).run()

        assert days_in(emulator) == list(range(7, 15))
        assert days_of(result["deleted"]) == days_of([row["id"] for row in result["delete"]]) == list(range(1, 7))
        assert (days_of(result["kept"]), result["kept_count"]) == (list(range(7, 15)), 8)
        assert result["gone"] == result["skipped"] == []

    def test_a_second_run_has_nothing_to_do(self, emulator: Emulator) -> None:
        add_days(emulator, *range(1, 12))
        Task(match="quakes-*", keep=8).run()
        before = deletes(emulator)

        result = Task(match="quakes-*", keep=8).run()

        assert (result["deleted"], result["gone"], deletes(emulator)) == ([], [], before)

    def test_a_dry_run_deletes_nothing(self, emulator: Emulator) -> None:
        add_days(emulator, 1, 2, 3)

        result = Task(match="quakes-*", keep=1, dry_run=True).run()

        assert (days_in(emulator), deletes(emulator)) == ([1, 2, 3], 0)
        assert days_of([row["id"] for row in result["delete"]]) == [1, 2]
        assert (result["dry_run"], result["deleted"]) == (True, [])
        assert "Delete **2 tilesets**" in result["markdown"]

    @pytest.mark.parametrize("hours_off", [-24, 0, 24])
    def test_ages_are_by_mapboxs_clock(self, emulator: Emulator, clock: Clock, hours_off: int) -> None:
        clock.now = datetime.now(UTC).timestamp() + 3600 * hours_off
        for day in range(1, 6):
            add_days(emulator, day, modified=clock.now - day * DAY + 60)

        Task(match="quakes-*", older_than=timedelta(days=3)).run()

        assert days_in(emulator) == [1, 2, 3]

    def test_a_reply_without_a_date_deletes_nothing(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        add_days(emulator, 1, modified=START - 100 * DAY)
        monkeypatch.setattr("airflow_mapbox.http.api.server_time", lambda headers: None)

        with pytest.raises(MapboxTaskError, match="has no `Date`"):
            Task(match="quakes-*", older_than=timedelta(days=3)).run()

        assert deletes(emulator) == 0

    @pytest.mark.slow
    def test_a_few_hundred_tilesets_are_read_page_by_page(self, emulator: Emulator) -> None:
        for number in range(1200):
            emulator.add_tileset(f"{emulator.account}.hourly-{number}")

        result = Task(match="hourly-*", keep=1190).run()

        assert sorted(result["deleted"]) == sorted(f"{emulator.account}.hourly-{number}" for number in range(10))
        assert (len(result["kept"]), result["kept_count"]) == (100, 1190)


class TestRandomAccounts:
    @pytest.mark.slow
    def test_the_emulators_list_has_all_that_should_stay(self, emulator: Emulator, clock: Clock) -> None:
        seed = secrets.randbits(32)
        print(f"seed {seed}")
        rng = random.Random(seed)
        now = datetime.fromtimestamp(clock.now, UTC)
        hook = MapboxTilesetsHook()
        tells_client = emulator.settings.tileset_costs
        deleted = 0
        for number in range(40):
            account = random_account(rng, emulator.account, now)
            known = [
                made
                for made in account.tilesets
                if made.listed.account == emulator.account
                and made.created
                and made.modified
                and made.listed.visibility
                and made.listed.status
            ]
            for made in known:
                fields = ("created", "modified", "visibility", "status", "created_by_client")
                emulator.add_tileset(made.listed.id, **{name: getattr(made.listed, name) for name in fields})
            policy = random_policy(rng)
            options = {name: getattr(policy, name) for name in type(policy).__dataclass_fields__}
            account = type(account)(account.name, tuple(known), ())
            due = {made.listed.id for made in known if may_go(made, account, policy, now)}
            if policy.created_by and not tells_client:
                due = set()

            Task(**options, max_deletions=1000).run()

            left = {tileset.id for tileset in hook.list_tilesets()}
            assert left == {made.listed.id for made in known} - due, f"seed {seed}, account {number}: {policy}"
            for identifier in left:
                hook.delete_tileset(identifier)
            deleted += len(due)
        assert deleted > 5, "the table must have something to delete"


class TestStays:
    def test_one_that_an_upload_is_being_made_of_stays(self, emulator: Emulator, begin_upload: Begin) -> None:
        add_days(emulator, 1, 2, 3)
        begin_upload(emulator, "quakes-20180101")

        result = Task(match="quakes-*", keep=1).run()

        assert days_in(emulator) == [1, 3]
        assert result["skipped"] == [
            {"id": f"{emulator.account}.quakes-20180101", "reason": "it has an upload in processing"}
        ]

    def test_a_public_one_stays_unless_it_is_included(self, emulator: Emulator) -> None:
        add_days(emulator, 1, visibility="public")
        add_days(emulator, 2, 3)

        Task(match="quakes-*", keep=1).run()
        assert days_in(emulator) == [1, 3]
        Task(match="quakes-*", keep=1, include_public=True).run()
        assert days_in(emulator) == [3]

    def test_one_whose_maker_is_unknown_stays(self, start: StartEmulator) -> None:
        for costs in (True, False):
            emulator = start(tileset_costs=costs)
            add_days(emulator, 1, 2, created_by_client="airflow")
            add_days(emulator, 3, 4)

            Task(match="quakes-*", keep=1, created_by="airflow").run()

            assert days_in(emulator) == ([2, 3, 4] if costs else [1, 2, 3, 4])


class TestPlan:
    def test_a_second_task_deletes_exactly_the_plan(self, emulator: Emulator) -> None:
        add_days(emulator, *range(1, 6))
        plan = Task(match="quakes-*", keep=3, dry_run=True).run()
        add_days(emulator, *range(6, 20))

        for form in (plan, json.dumps(plan), str(plan)):
            result = Task(plan=form).run()
            assert days_of(result["deleted"] + result["gone"]) == [1, 2]

        assert days_in(emulator) == list(range(3, 20))

    @pytest.mark.slow
    def test_one_that_changed_since_stays(self, emulator: Emulator, clock: Clock, begin_upload: Begin) -> None:
        add_days(emulator, *range(1, 10))
        plan = Task(match="quakes-*", keep=2, dry_run=True).run()
        clock.now += 3600
        add_days(emulator, 1)  # replaced
        add_days(emulator, 2, visibility="public", modified=clock.now - 3600, created=clock.now - 3600)
        begin_upload(emulator, "quakes-20180103")
        MapboxTilesetsHook().delete_tileset("quakes-20180104")
        # The newest is gone, so another one is among the two to keep.
        MapboxTilesetsHook().delete_tileset("quakes-20180109")

        result = Task(plan=plan).run()

        assert days_in(emulator) == [1, 2, 3, 7, 8]
        assert {row["id"][-2:]: row["reason"] for row in result["skipped"]} == {
            "01": "it was changed after the plan was made",
            "02": "it is public",
            "03": "it has an upload in processing",
            "07": "the policy keeps it now",
        }
        assert (days_of(result["deleted"]), days_of(result["gone"])) == ([5, 6], [4])

    @pytest.mark.slow
    def test_a_public_one_of_the_plan_goes_and_one_that_became_public_stays(
        self, emulator: Emulator, clock: Clock
    ) -> None:
        add_days(emulator, 1, visibility="public")
        add_days(emulator, 2, 3)
        plan = Task(match="quakes-*", keep=1, include_public=True, dry_run=True).run()
        add_days(emulator, 2, visibility="public")

        Task(plan=plan).run()

        assert days_in(emulator) == [2, 3]

    @pytest.mark.parametrize("plan", ["", "None", "[]", "{}", "no plan", {"delete": []}, {"account": "x"}])
    def test_something_else_is_an_error(self, emulator: Emulator, plan: Any) -> None:
        with pytest.raises(MapboxFailError, match=r"plan\.output"):
            Task(plan=plan).run()

        assert emulator.requests == []

    def test_a_plan_of_another_account_is_an_error(self, emulator: Emulator) -> None:
        plan = Task(match="quakes-*", keep=1, dry_run=True).run() | {"account": "other"}

        with pytest.raises(MapboxFailError, match="for account 'other'"):
            Task(plan=plan).run()

    def test_a_connection_that_changes_before_the_retry_is_an_error(self, start: StartEmulator) -> None:
        emulator = start()
        add_days(emulator, 1, 2)
        emulator.faults.add(RequestFault.STATUS, method="DELETE", status=500, times=5)
        task = Task(match="quakes-*", keep=1)
        with pytest.raises(MapboxTaskError):
            task.run()
        other = start(account="other")
        add_days(other, 1, 2)

        with pytest.raises(MapboxFailError, match="for account 'demo', the connection to 'other'"):
            task.run()

        assert days_in(other) == [1, 2]

    def test_a_spoilt_plan_deletes_only_what_its_policy_would(self, emulator: Emulator) -> None:
        add_days(emulator, 1, 2, 3)
        emulator.add_tileset(f"{emulator.account}.precious")
        plan = Task(match="quakes-*", keep=1, dry_run=True).run()
        plan["delete"].append(plan["delete"][0] | {"id": f"{emulator.account}.precious"})
        plan["delete"].append(plan["delete"][0] | {"id": f"{emulator.account}.quakes-20180103"})

        Task(plan=plan).run()

        left = {tileset.own_name for tileset in MapboxTilesetsHook().list_tilesets()}
        assert left == {"precious", "quakes-20180103"}

    @pytest.mark.parametrize(
        "more", [{"match": "q-*"}, {"keep": 1}, {"older_than": timedelta(1)}, {"dry_run": True}, {"allow_all": True}]
    )
    def test_a_plan_and_a_policy_break_the_import_of_the_dag(self, more: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=f"these cannot be given: {next(iter(more))}"):
            DeleteTilesetsOperator(task_id="retention", plan="{{ x }}", **more)


class Killed(BaseException):
    """The process dies."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, bool], Callable[[], int]]:
    """Let the process die before or after a step: a request, or a write of the task's state."""
    exchange, write = Transport.exchange, FakeStore.set

    def arm(step: int, after: bool) -> Callable[[], int]:
        steps = count()
        taken = 0

        def patched(original: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any, **options: Any) -> Any:
                nonlocal taken
                number = next(steps)
                taken = number + 1
                if number == step and not after:
                    raise Killed
                result = original(*arguments, **options)
                if number == step:
                    raise Killed
                return result

            return run

        monkeypatch.setattr(Transport, "exchange", patched(exchange))
        monkeypatch.setattr(FakeStore, "set", patched(write))
        return lambda: taken

    return arm


class TestCrashes:
    @pytest.mark.parametrize("after", [False, True])
    def test_whatever_step_dies_the_retry_ends_with_the_same_plan(
        self, emulator: Emulator, kill_at: Callable[[int, bool], Callable[[], int]], after: bool
    ) -> None:
        crashes = 0
        for step in count():
            add_days(emulator, *range(1, 6))
            task = Task(match="quakes-*", keep=2)
            steps = kill_at(step, after)
            try:
                task.run()
            except Killed:
                crashes += 1
            else:
                assert steps() == step
                break
            kill_at(-1, False)
            planned = bool(task.store.kept)
            add_days(emulator, 6)  # the next day is published before the retry

            result = task.run()

            assert days_in(emulator) == ([4, 5, 6] if planned else [5, 6])
            assert days_of(result["deleted"] + result["gone"]) == ([1, 2, 3] if planned else [1, 2, 3, 4])
            for day in days_in(emulator):
                MapboxTilesetsHook().delete_tileset(f"quakes-201801{day:02}")
        assert crashes >= 7, "three requests to plan, one write, three deletions"

    def test_a_fault_keeps_the_tasks_retries_and_the_report_is_whole(self, emulator: Emulator) -> None:
        add_days(emulator, *range(1, 6))
        emulator.faults.add(RequestFault.STATUS, method="DELETE", status=500, after=1, times=5)
        task = Task(match="quakes-*", keep=2)

        with pytest.raises(MapboxTaskError, match="Mapbox has a fault") as caught:
            task.run()
        result = task.run()

        assert not isinstance(caught.value, MapboxFailError)
        assert (days_of(result["deleted"]), result["gone"]) == ([1, 2, 3], [])
        assert days_in(emulator) == [4, 5]

    @pytest.mark.parametrize("fault", [RequestFault.DROP_BEFORE, RequestFault.DROP_AFTER, RequestFault.GARBAGE])
    def test_a_lost_reply_is_retried(self, emulator: Emulator, fault: RequestFault) -> None:
        add_days(emulator, *range(1, 6))
        emulator.faults.add(fault, method="DELETE", times=1)

        result = Task(match="quakes-*", keep=2).run()

        assert (days_of(result["deleted"]), days_in(emulator)) == ([1, 2, 3], [4, 5])

    def test_a_cleared_task_plans_anew(self, emulator: Emulator) -> None:
        add_days(emulator, *range(1, 6))
        task = Task(match="quakes-*", keep=2)
        task.run()
        add_days(emulator, 6)
        task.max_tries += 1

        assert days_of(task.run()["deleted"]) == [4]

    def test_two_runs_at_once_delete_each_tileset_once(self, emulator: Emulator) -> None:
        add_days(emulator, *range(1, 31))
        results: list[dict[str, Any]] = []
        barrier = threading.Barrier(4)

        def run() -> None:
            barrier.wait()
            results.append(Task(match="quakes-*", keep=8).run())

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(results) == 4, "no run failed"
        assert days_in(emulator) == list(range(23, 31))
        assert days_of([identifier for result in results for identifier in result["deleted"]]) == list(range(1, 23))


class TestRateLimit:
    def test_a_short_one_is_waited_out(self, start: StartEmulator, slept: list[float]) -> None:
        emulator = start(tilesets_write_limit=4, rate_window=30.0)
        add_days(emulator, *range(1, 12))

        result = Task(match="quakes-*", keep=1).run()

        assert days_of(result["deleted"]) == list(range(1, 11))
        assert 0 < sum(slept) < 120

    def test_a_long_one_gives_the_slot_back_and_the_task_continues(self, start: StartEmulator, clock: Clock) -> None:
        emulator = start(tilesets_write_limit=4, rate_window=600.0)
        add_days(emulator, *range(1, 12))
        task = Task(match="quakes-*", keep=1)

        for left in (7, 3):
            with pytest.raises(AirflowRescheduleException) as caught:
                task.run()
            assert (caught.value.reschedule_date - datetime.now(UTC)).total_seconds() > 60
            assert len(days_in(emulator)) == left
            clock.now += 700

        assert days_of(task.run()["deleted"]) == list(range(1, 11)), "the report has all three slots' deletions"
        assert days_in(emulator) == [11]

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_a_long_one_of_the_lists_gives_the_slot_back_too(
        self, start: StartEmulator, clock: Clock, dry_run: bool
    ) -> None:
        emulator = start(rate_limit=1, rate_window=600.0)
        add_days(emulator, 1, 2)
        list(MapboxUploadsHook().list_uploads())
        task = Task(match="quakes-*", keep=1, dry_run=dry_run)

        with pytest.raises(AirflowRescheduleException):
            task.run()
        clock.now += 700

        assert days_of([row["id"] for row in task.run()["delete"]]) == [1]

    @pytest.mark.parametrize(
        ("seconds_before", "seconds_after", "replaced"),
        [(55, 0, 1), (0, 40, 2)],
        ids=["a rate limit inside the first deletion", "between two deletions"],
    )
    def test_the_account_is_read_again_after_a_wait(
        self,
        start: StartEmulator,
        monkeypatch: pytest.MonkeyPatch,
        seconds_before: float,
        seconds_after: float,
        replaced: int,
    ) -> None:
        emulator = start()
        add_days(emulator, 1, 2, 3)
        now = 0.0
        monkeypatch.setattr(Retention.__init__, "__kwdefaults__", {"monotonic": lambda: now})
        delete = TilesetsClient.delete_tileset

        def delete_slowly(self: TilesetsClient, tileset: str, **options: Any) -> bool:
            """Wait before or after the first deletion, while another DAG replaces a tileset."""
            nonlocal now
            if now:
                return delete(self, tileset, **options)
            now = seconds_before
            if seconds_before:
                add_days(emulator, replaced, modified=START + 1)
            deleted = delete(self, tileset, **options)
            now += seconds_after
            if seconds_after:
                add_days(emulator, replaced, modified=START + 1)
            return deleted

        monkeypatch.setattr(TilesetsClient, "delete_tileset", delete_slowly)

        Task(match="quakes-*", keep=1).run()

        assert days_in(emulator) == [replaced, 3]


class TestMapboxsUnknownAnswers:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            (name, value)
            for name in (
                "tileset_costs",
                "tilesets_default_sort",
                "tilesets_show_pending",
                "start_keeps_deleted",
                "tileset_delete_status",
                "active_delete_status",
                "missing_tileset_message",
            )
            for value in PLAUSIBLE[name]
        ],
    )
    def test_it_works_with_each(self, start: StartEmulator, name: str, value: Any) -> None:
        emulator = start(**{name: value})
        add_days(emulator, *range(1, 11))
        first = Task(match="quakes-*", keep=4, dry_run=True).run()
        MapboxTilesetsHook().delete_tileset("quakes-20180101")

        result = Task(plan=first).run()

        assert days_in(emulator) == [7, 8, 9, 10]
        assert (days_of(result["deleted"]), days_of(result["gone"])) == ([2, 3, 4, 5, 6], [1])

    def test_a_refusal_leaves_the_others_and_is_told(self, emulator: Emulator) -> None:
        add_days(emulator, *range(1, 6))
        emulator.faults.add(
            RequestFault.STATUS, method="DELETE", path="quakes-2018010[12]", status=422, message="no", times=0
        )
        task = Task(match="quakes-*", keep=2)

        with pytest.raises(MapboxFailError) as caught:
            task.run()

        assert days_in(emulator) == [1, 2, 4, 5]
        lines = str(caught.value).splitlines()
        assert lines[1:3] == [f"{emulator.account}.quakes-2018010{day}: Mapbox answered 422 no" for day in (1, 2)]

    def test_a_refusal_that_may_end_keeps_the_tasks_retries(
        self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_days(emulator, 1, 2, 3)
        delete = TilesetsClient.delete_tileset

        def refuse_the_first(self: TilesetsClient, tileset: str, **options: Any) -> bool:
            if tileset.endswith("01"):
                error = ApiError("locked", status=409, message="locked")
                error.retryable = True
                raise error
            return delete(self, tileset, **options)

        monkeypatch.setattr(TilesetsClient, "delete_tileset", refuse_the_first)
        task = Task(match="quakes-*", keep=1)

        with pytest.raises(MapboxTaskError, match="Try again later") as caught:
            task.run()
        monkeypatch.setattr(TilesetsClient, "delete_tileset", delete)

        assert not isinstance(caught.value, MapboxFailError)
        assert days_of(task.run()["deleted"]) == [1, 2]

    @pytest.mark.slow
    @pytest.mark.parametrize("status", [409, 400])
    def test_one_that_is_locked_by_an_upload_since_the_plan_is_skipped(
        self, start: StartEmulator, begin_upload: Begin, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        emulator = start(active_delete_status=status)
        add_days(emulator, *range(1, 4))
        delete = TilesetsClient.delete_tileset

        def begin_and_delete(self: TilesetsClient, tileset: str, **options: Any) -> bool:
            if tileset.endswith("01"):
                begin_upload(emulator, "quakes-20180101")
            return delete(self, tileset, **options)

        monkeypatch.setattr(TilesetsClient, "delete_tileset", begin_and_delete)

        result = Task(match="quakes-*", keep=1).run()

        assert days_in(emulator) == [1, 3]
        assert [row["reason"] for row in result["skipped"]] == ["it has an upload in processing"]
        assert days_of(result["deleted"]) == [2]

    def test_a_404_for_a_tileset_that_is_still_listed_is_no_success(self, emulator: Emulator) -> None:
        add_days(emulator, 1, 2, 3)
        emulator.faults.add(RequestFault.STATUS, method="DELETE", status=404, message="Not Found")

        with pytest.raises(MapboxTaskError, match="still lists it") as caught:
            Task(match="quakes-*", keep=1).run()

        assert "tilesets:write" in str(caught.value)
        assert not isinstance(caught.value, MapboxFailError)


class TestBadInput:
    @pytest.mark.parametrize(("fields", "message"), BAD)
    def test_a_bad_value_breaks_the_import_of_the_dag(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            DeleteTilesetsOperator(task_id="retention", **({"match": "quakes-*", "keep": 8} | fields))

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({}, "neither is given"),
            ({"keep": 8}, "`match` is empty"),
            ({"max_deletions": 0}, "max_deletions must be 1 to 1,000"),
            ({"max_deletions": 1001}, "max_deletions must be 1 to 1,000"),
            ({"max_deletions": "{{ n }}"}, "cannot be templated"),
            ({"dry_run": "{{ n }}"}, "cannot be templated"),
        ],
    )
    def test_a_bad_parameter_breaks_the_import_of_the_dag(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            DeleteTilesetsOperator(task_id="retention", **fields)

    @pytest.mark.parametrize(("match", "message"), [("", "is empty"), ("*", "allow_all"), ("quakes/*", "such a name")])
    def test_a_template_is_checked_when_it_is_rendered(self, emulator: Emulator, match: str, message: str) -> None:
        operator = DeleteTilesetsOperator(task_id="retention", match="{{ params.match }}", keep=8)
        operator.match = match

        with pytest.raises(MapboxFailError, match=message):
            operator.execute({"ti": SimpleNamespace(max_tries=1)})  # type: ignore[typeddict-item]

        assert emulator.requests == []

    def test_a_match_of_another_account_sends_nothing(self, emulator: Emulator) -> None:
        with pytest.raises(MapboxFailError, match="is for account 'other'"):
            Task(match="other.quakes-*", keep=1).run()

        assert emulator.requests == []

    def test_a_plan_above_the_ceiling_deletes_nothing(self, emulator: Emulator) -> None:
        add_days(emulator, *range(1, 12))

        for options in ({"match": "quakes-*", "keep": 1}, {"match": "quakes-*", "keep": 1, "dry_run": True}):
            with pytest.raises(MapboxFailError, match="more than max_deletions=9"):
                Task(**options, max_deletions=9).run()
        plan = Task(match="quakes-*", keep=1, dry_run=True).run()
        with pytest.raises(MapboxFailError, match="more than max_deletions=9"):
            Task(plan=plan, max_deletions=9).run()

        assert deletes(emulator) == 0

    @pytest.mark.parametrize("missing", ["tilesets:list", "uploads:list", "tilesets:write"])
    def test_a_missing_scope_deletes_nothing_and_names_it(
        self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, missing: str
    ) -> None:
        add_days(emulator, 1, 2, 3)
        scopes = {"tilesets:list", "uploads:list", "tilesets:write"} - {missing}
        token = emulator.create_token(scopes=sorted(scopes))
        described = connection(emulator)
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, password=token))

        with pytest.raises(MapboxFailError, match=missing) as caught:
            Task(match="quakes-*", keep=1).run()

        assert token not in all_text_of(caught.value)
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", described)
        assert days_in(emulator) == [1, 2, 3]

    def test_the_output_of_another_task_is_taken_for_a_template(self) -> None:
        from airflow.sdk import DAG

        with DAG("retention_of_outputs", schedule=None):
            plan = DeleteTilesetsOperator(task_id="plan", match="quakes-*", keep=8, dry_run=True)
            delete = DeleteTilesetsOperator(task_id="delete", plan=plan.output)  # type: ignore[arg-type]
            named = DeleteTilesetsOperator(task_id="named", match=plan.output["account"], keep=8)  # type: ignore[arg-type]

        assert delete.upstream_task_ids == named.upstream_task_ids == {"plan"}
