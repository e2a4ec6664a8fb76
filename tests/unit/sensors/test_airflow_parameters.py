"""The sensor under Airflow's own loop: its parameters keep their meaning, in both modes, and its state lasts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, timezone
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferralTimeout,
    TaskDeferred,
)

from airflow_mapbox.exceptions import (
    MapboxFailError,
    MapboxTaskError,
    MapboxUploadFailedError,
    MapboxUploadGoneError,
    MapboxUploadStalledError,
    MapboxUploadTimeoutError,
)
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from airflow_mapbox.tasks.events import to_event
from airflow_mapbox.triggers.uploads import UploadCompleteTrigger
from airflow_mapbox.uploads.errors import UploadFailedError, UploadGoneError, UploadStalledError, WaitTimeoutError
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.waiting.decide import REFUSAL_SECONDS
from airflow_mapbox.uploads.waiting.poller import LAST_POLL_SECONDS
from tests.unit.support import ACCOUNT, FakeStore, FakeTime, Reply, ScriptedServer, make_token, upload_json

ID = upload_json()["id"]
UNDER_WAY = Reply(json=upload_json(progress=0.3))
DONE = Reply(json=upload_json(progress=1, complete=True))
NOT_FOUND = Reply(404, {"message": "Not Found"})
VALID_TOKEN = Reply(json={"code": "TokenValid"})
THROTTLED = Reply(429, {"message": "Too Many Requests"}, headers={"X-Rate-Limit-Interval": "60"})
FAILED = Reply(json=upload_json(error="Tileset is empty."))
MISBEHAVED = Reply(json=upload_json(error="Processing timed out."))
STALLED = {"error": "UploadStalledError", "retryable": False, "message": "It stands."}


NEW_CONTEXT: Any = {"ti": SimpleNamespace(max_tries=1, get_first_reschedule_date=lambda _: None)}


class ReadOnlyStore(FakeStore):
    """A state store whose server takes nothing."""

    def set(self, key: str, value: Any) -> None:
        raise RuntimeError("API server is away")


class Task:
    """A task instance that Airflow runs again and again, each time in a process of its own."""

    def __init__(self, fake_time: FakeTime, **options: Any) -> None:
        self.fake_time = fake_time
        self.options = options
        self.store = FakeStore()
        self.max_tries = 1
        self.first_reschedule: datetime | None = None

    def sensor(self) -> UploadCompleteSensor:
        sensor = UploadCompleteSensor(task_id="wait", **{"upload_id": ID, **self.options})
        sensor._clock = self.fake_time.clock  # type: ignore[method-assign]
        return sensor

    @property
    def context(self) -> Any:
        ti = SimpleNamespace(max_tries=self.max_tries, get_first_reschedule_date=lambda _: self.first_reschedule)
        return {"ti": ti, "task_state_store": self.store}

    def run(self) -> Any:
        """Run it once, as Airflow would; a reschedule gives the seconds until the next time."""
        before = timezone.utcnow()
        try:
            return self.sensor().execute(self.context)
        except AirflowRescheduleException as again:
            self.first_reschedule = self.first_reschedule or before
            return (again.reschedule_date - before).total_seconds()

    def resume(self, event: Any) -> Any:
        return self.sensor().resume_execution("execute_complete", {"event": event}, self.context)


@pytest.fixture(autouse=True)
def connected(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    described = {"conn_type": "mapbox", "host": server.url, "login": ACCOUNT, "password": make_token()}
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", json.dumps(described))


MakeTask = Callable[..., Task]


@pytest.fixture
def make_task(fake_time: FakeTime) -> MakeTask:
    return lambda **options: Task(fake_time, **options)


class TestTimeout:
    def test_a_wait_beyond_it_fails_as_an_airflow_timeout_that_names_the_upload(
        self, make_task: MakeTask, server: ScriptedServer
    ) -> None:
        task = make_task(timeout=60)
        server.script(UNDER_WAY, UNDER_WAY)
        assert task.run() >= 6
        task.first_reschedule = timezone.utcnow() - timedelta(seconds=61)

        with pytest.raises(
            MapboxUploadTimeoutError, match=rf"(?s)Upload {ID} of tileset .*: 30%\. Sensor has timed out"
        ):
            task.run()

        assert issubclass(MapboxUploadTimeoutError, AirflowSensorTimeout)  # which Airflow does not retry

    def test_a_rate_limit_or_a_fault_does_not_move_the_last_poll_beyond_it(
        self, make_task: MakeTask, server: ScriptedServer
    ) -> None:
        task = make_task(timeout=60)
        task.first_reschedule = timezone.utcnow() - timedelta(seconds=59)
        server.script(THROTTLED, Reply(503, {"message": "Service Unavailable"}))

        assert task.run() == pytest.approx(6, abs=1)
        assert task.run() == pytest.approx(6, abs=1)

    def test_a_poll_that_finds_the_upload_done_is_a_success_however_late(
        self, make_task: MakeTask, server: ScriptedServer
    ) -> None:
        task = make_task(timeout=60)
        task.first_reschedule = timezone.utcnow() - timedelta(seconds=6000)
        server.script(DONE)

        assert task.run()["complete"] is True

    def test_deferred_it_bounds_the_trigger_and_airflows_own_watch(self, make_task: MakeTask) -> None:
        task = make_task(timeout=60, deferrable=True)

        with pytest.raises(TaskDeferred) as deferred:
            task.run()

        # The trigger's own deadline comes first, and a last look after it.
        assert (
            timedelta(seconds=60 + LAST_POLL_SECONDS)
            < deferred.value.timeout
            < timedelta(seconds=60 + 2 * LAST_POLL_SECONDS)
        )
        assert deferred.value.trigger.serialize()[1]["deadline"] == task.fake_time.now + 60

    def test_deferred_it_is_the_same_error(self, make_task: MakeTask) -> None:
        task = make_task(deferrable=True)

        with pytest.raises(MapboxUploadTimeoutError, match="It took long"):
            task.resume(to_event(WaitTimeoutError("It took long.")))
        with pytest.raises(MapboxUploadTimeoutError, match=rf"Upload {ID}\. Trigger timeout"):
            task.sensor().resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)

    @pytest.mark.parametrize(
        "resumed",
        [
            ("__fail__", {"error": "Trigger timeout"}),
            ("__fail__", {"error": "Trigger failure"}),
            ("execute_complete", {"event": to_event(RuntimeError("no memory"))}),
        ],
    )
    def test_a_deferral_that_fails_keeps_the_links(
        self, make_task: MakeTask, server: ScriptedServer, resumed: Any
    ) -> None:
        sensor = make_task(deferrable=True).sensor()

        with pytest.raises(AirflowException):
            sensor.resume_execution(*resumed, {})

        assert sensor.pages.upload == f"{server.url}/#{ID}"

    def test_a_total_timeout_lasts_through_retries_and_restarts_with_a_clear(
        self, make_task: MakeTask, server: ScriptedServer
    ) -> None:
        task = make_task(total_timeout=600)
        server.script(UNDER_WAY, UNDER_WAY, UNDER_WAY)
        task.run()
        task.fake_time.now += 600
        task.first_reschedule = None  # a retry: Airflow has forgotten when the wait began

        with pytest.raises(MapboxUploadTimeoutError, match="after 600 s"):
            task.run()

        task.max_tries += 1  # a clear
        assert task.run() >= 6


@pytest.mark.parametrize(("gone", "pause"), [(0, 20), (4, 16), (11, 9), (16, 6), (1000, 6)])
def test_the_last_poll_comes_at_the_timeout(
    make_task: MakeTask, server: ScriptedServer, gone: float, pause: float
) -> None:
    task = make_task(timeout=20 if gone < 1000 else 1000.5)
    task.first_reschedule = timezone.utcnow() - timedelta(seconds=gone) if gone else None
    server.script(Reply(json=upload_json(progress=0.001)))

    # A look that would leave less than the safe pause of 6 s before the timeout is made at the timeout.
    assert task.run() == pytest.approx(pause, abs=0.5)


def test_a_timeout_that_is_softened_says_in_the_log_which_upload_it_was(
    make_task: MakeTask, server: ScriptedServer
) -> None:
    task = make_task(timeout=60, soft_fail=True)
    server.script(UNDER_WAY)
    task.first_reschedule = timezone.utcnow() - timedelta(seconds=61)

    sensor = task.sensor()
    with mock.patch.object(sensor.log, "warning") as said, pytest.raises(AirflowSkipException, match="timed out"):
        sensor.execute(task.context)

    assert re.search(rf"Upload {ID} .*30%.*timed out", str(said.call_args))


class TestNothingToWaitFor:
    @staticmethod
    def sensor(upload_id: Any, *, upstream: bool = True) -> UploadCompleteSensor:
        with DAG("published", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None):
            waiting = UploadCompleteSensor(task_id="wait", upload_id=upload_id, trigger_rule="none_failed")
            if upstream:
                EmptyOperator(task_id="upload") >> waiting
        return waiting

    @staticmethod
    def context_with_state(state: str) -> Any:
        ti = SimpleNamespace(max_tries=1, run_id="r", get_task_states=lambda **_: {"r": {"upload": state}})
        return {"ti": ti}

    @pytest.mark.parametrize("state", ["failed", "upstream_failed"])
    def test_an_upload_task_that_failed_is_a_failure(self, state: str) -> None:
        with pytest.raises(MapboxFailError, match="upload failed"):
            self.sensor("None").execute(self.context_with_state(state))

    @pytest.mark.parametrize("upload_id", [None, "", "None", [], {}])
    def test_an_upload_task_without_a_result_skips_the_sensor_with_a_reason(self, upload_id: Any) -> None:
        waiting = self.sensor(upload_id)
        with (
            mock.patch.object(waiting.log, "warning") as said,
            pytest.raises(AirflowSkipException, match="was skipped"),
        ):
            waiting.execute(self.context_with_state("skipped"))

        assert "There is no upload to wait for" in str(said.call_args)

    @pytest.mark.parametrize("upload_id", [None, "", "None", [], {}])
    def test_a_missing_upload_id_without_an_upstream_task_is_an_error(self, upload_id: Any) -> None:
        with pytest.raises(MapboxFailError, match=r"Give it the id of an upload|list of 0 results"):
            self.sensor(upload_id, upstream=False).execute(
                {"ti": SimpleNamespace(max_tries=1, get_first_reschedule_date=lambda _: None)}
            )

    @pytest.mark.parametrize("upload_id", [[upload_json()], [ID, ID], (upload_json(), upload_json())])
    def test_an_unmapped_sensor_after_a_mapped_upload_fails_with_advice_to_map_it(self, upload_id: Any) -> None:
        with pytest.raises(MapboxFailError, match=r"\.partial\(task_id=…\)\.expand\(upload_id=upload\.output\)"):
            self.sensor(upload_id).execute(
                {"ti": SimpleNamespace(max_tries=1, get_first_reschedule_date=lambda _: None)}
            )

    def test_a_result_without_an_id_is_called_that(self) -> None:
        with pytest.raises(MapboxFailError, match="a mapping without an id"):
            self.sensor({"path": "/x.geojson"}).execute(
                {"ti": SimpleNamespace(max_tries=1, get_first_reschedule_date=lambda _: None)}
            )


@pytest.mark.parametrize("deferrable", [False, True])
class TestSoftFail:
    ENDS = (
        (FAILED, None),
        (None, STALLED),
        (NOT_FOUND, to_event(UploadGoneError("It is gone."))),
        (None, to_event(WaitTimeoutError("It took long."))),
        (
            Reply(401, {"message": "Unauthorized"}),
            {"error": "TokenRejectedError", "retryable": False, "message": "401"},
        ),
    )

    @pytest.mark.parametrize("number", range(len(ENDS)))
    def test_every_end_of_a_wait_but_success_is_a_skip(
        self, make_task: MakeTask, server: ScriptedServer, deferrable: bool, number: int
    ) -> None:
        reply, event = self.ENDS[number]
        task = make_task(soft_fail=True, deferrable=deferrable, stall_timeout=60, total_timeout=600)

        if not deferrable:
            # Stalled and timed out come of what the first look has left behind.
            server.script(UNDER_WAY, reply or UNDER_WAY)
            task.run()
            if reply is not None and reply.status >= 400:  # a refusal counts once it is repeated
                task.run()
                task.fake_time.now += REFUSAL_SECONDS
                server.script(reply, VALID_TOKEN)
            task.fake_time.now += 60 if event == STALLED else 600 if reply is None else 1

        with pytest.raises(AirflowSkipException):
            _ = task.resume(event or {"upload": FAILED.json}) if deferrable else task.run()

    def test_a_missing_id_is_a_skip(self, make_task: MakeTask, deferrable: bool) -> None:
        with pytest.raises(AirflowSkipException):
            make_task(soft_fail=True, deferrable=deferrable, upload_id="None").run()

    def test_soft_fail_leaves_temporary_faults_to_the_tasks_retries(
        self, make_task: MakeTask, server: ScriptedServer, deferrable: bool
    ) -> None:
        task = make_task(soft_fail=True, deferrable=deferrable)
        if not deferrable:
            server.script(UNDER_WAY)
            task.store = ReadOnlyStore()

        with pytest.raises(MapboxTaskError) as failure:
            _ = task.resume(to_event(RuntimeError("no memory"))) if deferrable else task.run()

        assert not isinstance(failure.value, AirflowFailException)

    def test_soft_fail_does_not_skip_temporary_faults(
        self, make_task: MakeTask, server: ScriptedServer, deferrable: bool
    ) -> None:
        task = make_task(soft_fail=True, deferrable=deferrable)
        if deferrable:
            with pytest.raises(TaskDeferred):
                task.run()
            return
        server.script(THROTTLED, Reply(500, {"message": "Internal Server Error"}), DONE)
        assert task.run() >= 54
        assert task.run() >= 6
        assert task.run()["complete"] is True


def test_airflows_timeout_of_a_trigger_is_a_skip_under_soft_fail(make_task: MakeTask) -> None:
    task = make_task(soft_fail=True, deferrable=True)

    with pytest.raises(AirflowSkipException) as skip:
        task.sensor().resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert isinstance(skip.value.__cause__.__cause__, TaskDeferralTimeout)  # type: ignore[union-attr]


@pytest.mark.parametrize("deferrable", [False, True])
def test_soft_fail_says_in_the_log_that_the_upload_makes_another_tileset(
    make_task: MakeTask, server: ScriptedServer, deferrable: bool
) -> None:
    task = make_task(soft_fail=True, deferrable=deferrable, tileset=f"{ACCOUNT}.another")
    sensor = task.sensor()
    if not deferrable:
        server.script(UNDER_WAY)

    event = {"event": {"upload": DONE.json}}
    run = partial(sensor.resume_execution, "execute_complete", event) if deferrable else sensor.execute

    with mock.patch.object(sensor.log, "warning") as warning, pytest.raises(AirflowSkipException):
        run(context=task.context)

    assert f"not {ACCOUNT}.another" in str(warning.call_args_list)


@pytest.mark.parametrize("deferrable", [False, True])
def test_never_fail_skips_if_the_upload_failed(make_task: MakeTask, server: ScriptedServer, deferrable: bool) -> None:
    task = make_task(never_fail=True, deferrable=deferrable)
    if not deferrable:
        server.script(FAILED)

    with pytest.raises(AirflowSkipException):
        _ = task.resume({"upload": FAILED.json}) if deferrable else task.run()


@pytest.mark.parametrize("deferrable", [False, True])
def test_never_fail_does_not_skip_an_upload_that_is_under_way(
    make_task: MakeTask, server: ScriptedServer, deferrable: bool
) -> None:
    task = make_task(never_fail=True, deferrable=deferrable)
    if deferrable:
        with pytest.raises(TaskDeferred):
            task.run()
    else:
        server.script(THROTTLED)
        assert task.run() >= 54


def test_silent_fail_comes_again_no_sooner_than_is_safe(make_task: MakeTask) -> None:
    task = make_task(silent_fail=True, poke_interval=1)

    class BrokenStore(FakeStore):
        def get(self, key: str) -> Any:
            raise RuntimeError("API server is away")

    task.store = BrokenStore()

    assert task.run() >= 6


def test_exponential_backoff_is_airflows_and_keeps_the_floor_and_the_reset(
    make_task: MakeTask, server: ScriptedServer
) -> None:
    task = make_task(exponential_backoff=True, timeout=100_000, max_wait=70_000)
    server.script(UNDER_WAY, UNDER_WAY, THROTTLED)

    assert 6 <= task.run() <= 12  # of 5 s, doubled later
    task.first_reschedule = timezone.utcnow() - timedelta(seconds=20_000)
    assert task.run() > 6_000
    task.first_reschedule = timezone.utcnow()
    assert task.run() >= 54


def test_exponential_backoff_does_not_go_beyond_the_end_of_the_wait(
    make_task: MakeTask, server: ScriptedServer
) -> None:
    for option, left in ({"total_timeout": 600}, 40), ({"stall_timeout": 600}, 40), ({"total_timeout": 561}, 6):
        task = make_task(exponential_backoff=True, timeout=100_000, max_wait=70_000, **option)
        server.script(UNDER_WAY, UNDER_WAY)
        task.run()
        task.fake_time.now += 560
        task.first_reschedule = timezone.utcnow() - timedelta(seconds=20_000)

        assert task.run() == pytest.approx(left, abs=1)


def test_a_finished_upload_is_a_success_also_if_nothing_can_be_remembered(
    make_task: MakeTask, server: ScriptedServer
) -> None:
    task = make_task()
    task.store = ReadOnlyStore()
    server.script(DONE)

    assert task.run()["complete"] is True


class TestState:
    def test_a_stall_is_noticed_by_a_later_process(self, make_task: MakeTask, server: ScriptedServer) -> None:
        task = make_task(stall_timeout=timedelta(minutes=15))
        server.script(UNDER_WAY, UNDER_WAY, UNDER_WAY)
        task.run()
        task.fake_time.now += 899
        task.run()
        task.fake_time.now += 1

        with pytest.raises(MapboxUploadStalledError, match="stayed at 30% since 2023-11-14 22:13:20 UTC") as failure:
            task.run()

        assert isinstance(failure.value, AirflowFailException)

    def test_a_retry_continues_the_total_timeout_and_a_clear_restarts_it(
        self, make_task: MakeTask, server: ScriptedServer
    ) -> None:
        task = make_task(stall_timeout=900)
        server.script(UNDER_WAY, UNDER_WAY, UNDER_WAY)
        task.run()
        task.fake_time.now += 900
        with pytest.raises(MapboxUploadStalledError):
            task.run()

        task.max_tries += 1

        assert task.run() >= 6

    def test_another_upload_starts_it_anew(self, make_task: MakeTask, server: ScriptedServer) -> None:
        task = make_task(stall_timeout=900)
        server.script(UNDER_WAY, Reply(json=upload_json(id="another", progress=0.3)))
        task.run()
        task.fake_time.now += 900
        task.options["upload_id"] = "another"

        assert task.run() >= 6

    def test_a_fresh_upload_may_be_unknown_for_a_moment(self, make_task: MakeTask, server: ScriptedServer) -> None:
        task = make_task()
        server.script(NOT_FOUND, NOT_FOUND, DONE)
        assert task.run() >= 6
        task.fake_time.now += 10
        assert task.run() >= 6
        task.fake_time.now += 10

        assert task.run()["complete"] is True

    def test_an_upload_that_stays_unknown_fails_and_names_the_scope(
        self, make_task: MakeTask, server: ScriptedServer
    ) -> None:
        task = make_task()
        server.script(NOT_FOUND, NOT_FOUND, VALID_TOKEN)
        task.run()
        task.fake_time.now += 61

        with pytest.raises(MapboxUploadGoneError, match="without the scope uploads:read"):
            task.run()

    def test_a_known_upload_that_stays_missing_fails(self, make_task: MakeTask, server: ScriptedServer) -> None:
        task = make_task()
        server.script(UNDER_WAY, NOT_FOUND, NOT_FOUND, VALID_TOKEN)
        task.run()
        task.run()
        task.fake_time.now += REFUSAL_SECONDS

        with pytest.raises(MapboxUploadGoneError, match="was at 30% and is missing now"):
            task.run()

    @pytest.mark.parametrize("refusal", [NOT_FOUND, Reply(401, {"message": "Unauthorized"})])
    def test_one_refusal_between_two_answers_does_not_end_the_wait(
        self, make_task: MakeTask, server: ScriptedServer, refusal: Reply
    ) -> None:
        task = make_task()
        server.script(UNDER_WAY, refusal, UNDER_WAY, refusal, DONE)
        for _ in range(4):
            assert task.run() >= 6
            task.fake_time.now += 100

        assert task.run()["complete"] is True

    def test_a_revoked_token_is_named_in_place_of_the_upload(self, make_task: MakeTask, server: ScriptedServer) -> None:
        task = make_task()
        server.script(UNDER_WAY, NOT_FOUND, NOT_FOUND, Reply(json={"code": "TokenRevoked"}))
        task.run()
        task.run()
        task.fake_time.now += REFUSAL_SECONDS

        with pytest.raises(MapboxFailError, match="TokenRevoked") as failure:
            task.run()

        assert "created the upload" not in str(failure.value)

    def test_a_poll_that_shows_nothing_new_writes_nothing(self, make_task: MakeTask, server: ScriptedServer) -> None:
        task = make_task()
        server.script(UNDER_WAY, UNDER_WAY)
        task.run()
        task.store.set = None  # type: ignore[assignment,method-assign]

        assert task.run() >= 6

    def test_no_secret_is_in_it(self, make_task: MakeTask, server: ScriptedServer) -> None:
        task = make_task()
        server.script(UNDER_WAY)
        task.run()

        assert "sk." not in json.dumps(task.store.kept)


class TestDeferred:
    def test_the_wait_is_handed_over_without_a_request(self, make_task: MakeTask, server: ScriptedServer) -> None:
        with pytest.raises(TaskDeferred) as deferred:
            make_task(deferrable=True, stall_timeout=900, max_wait=300, poke_interval=20).run()

        trigger = deferred.value.trigger
        assert isinstance(trigger, UploadCompleteTrigger)
        assert deferred.value.method_name == "execute_complete"
        arguments = trigger.serialize()[1]
        assert (arguments["poll_interval"], arguments["max_wait"], arguments["stall_timeout"]) == (20, 300, 900)
        assert arguments == UploadCompleteTrigger(**json.loads(json.dumps(arguments))).serialize()[1]
        assert not server.requests

    def test_a_deferred_sensor_does_not_come_back_before_its_exit_is_noticed(
        self, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "7")
        task = make_task(deferrable=True)
        with pytest.raises(TaskDeferred) as deferred:
            task.run()

        trigger = deferred.value.trigger
        assert isinstance(trigger, UploadCompleteTrigger)
        assert trigger.not_before == task.fake_time.clock() + 7 + 5

    def test_deferring_follows_airflows_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
        assert UploadCompleteSensor(task_id="wait", upload_id=ID).deferrable
        assert not UploadCompleteSensor(task_id="wait", upload_id=ID, deferrable=False).deferrable

    def test_a_deferred_sensor_continues_with_the_result_of_earlier_polls(
        self, make_task: MakeTask, server: ScriptedServer
    ) -> None:
        task = make_task(total_timeout=600)
        server.script(UNDER_WAY)
        task.run()
        began = task.fake_time.now
        task.fake_time.now += 50
        task.options["deferrable"] = True

        with pytest.raises(TaskDeferred) as deferred:
            task.run()

        arguments = deferred.value.trigger.serialize()[1]
        assert arguments["deadline"] == began + 600
        assert (arguments["state"]["progress_since"], arguments["state"]["progress"]) == (began, 0.3)

    def test_the_finished_upload_is_the_result(self, make_task: MakeTask) -> None:
        assert make_task(deferrable=True).resume({"upload": DONE.json})["id"] == ID

    @pytest.mark.parametrize(
        "event",
        [None, {}, "done", [], {"upload": None}, {"upload": UNDER_WAY.json}, {"upload": {**DONE.json, "id": "other"}}],
    )
    def test_an_empty_event_is_not_a_success(self, make_task: MakeTask, event: Any) -> None:
        with pytest.raises(MapboxTaskError, match=ID) as failure:
            make_task(deferrable=True).resume(event)

        assert not isinstance(failure.value, AirflowFailException)  # the same wait may be begun again


@pytest.mark.parametrize("deferrable", [False, True])
class TestTheSameErrors:
    def outcome(self, task: Task, server: ScriptedServer, reply: Reply, deferrable: bool) -> Any:
        if deferrable:
            return task.resume({"upload": reply.json})
        server.script(reply)
        return task.run()

    def test_invalid_data_is_reported_with_a_hint_and_no_task_to_clear(
        self, make_task: MakeTask, server: ScriptedServer, deferrable: bool
    ) -> None:
        with pytest.raises(MapboxUploadFailedError, match=r"(?s)Tileset is empty\..*Check the query") as failure:
            self.outcome(make_task(deferrable=deferrable), server, FAILED, deferrable)

        assert isinstance(failure.value, AirflowFailException)
        assert "clear" not in str(failure.value)

    def test_the_task_to_clear_is_named_if_another_upload_may_help(
        self, make_task: MakeTask, server: ScriptedServer, deferrable: bool
    ) -> None:
        from airflow.sdk import DAG
        from airflow.sdk.bases.operator import BaseOperator

        task = make_task(deferrable=deferrable)
        with DAG("d", schedule=None, start_date=datetime(2018, 1, 1, tzinfo=UTC)):
            made = BaseOperator(task_id="upload_of_parcels")
            sensor = task.sensor()
            made >> sensor
        task.sensor = lambda: sensor  # type: ignore[method-assign]

        with pytest.raises(MapboxUploadFailedError, match=r"(?s)clear the task .* created by task upload_of_parcels\."):
            self.outcome(task, server, MISBEHAVED, deferrable)

    def test_classes_and_texts_are_those_of_the_core(
        self, make_task: MakeTask, deferrable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        errors = (
            (UploadFailedError(Upload.from_json(FAILED.json)), MapboxUploadFailedError),
            (UploadStalledError("It stands."), MapboxUploadStalledError),
            (UploadGoneError("It is gone."), MapboxUploadGoneError),
            (WaitTimeoutError("It took long."), MapboxUploadTimeoutError),
        )
        for error, kind in errors:
            monkeypatch.setattr("airflow_mapbox.tasks.wait.poll", mock.Mock(side_effect=error))
            task = make_task(deferrable=deferrable)
            with pytest.raises(kind) as failure:
                _ = task.resume(to_event(error)) if deferrable else task.run()
            assert str(failure.value) == str(error)

    def test_a_missing_id_is_reported_first(
        self, make_task: MakeTask, server: ScriptedServer, deferrable: bool
    ) -> None:
        with pytest.raises(MapboxFailError, match="Give it the id of an upload"):
            make_task(deferrable=deferrable, upload_id={"id": None}).run()


def test_a_poke_is_at_most_one_request_also_if_the_server_fails(make_task: MakeTask, server: ScriptedServer) -> None:
    server.script(Reply(503, {"message": "Service Unavailable"}))

    make_task().run()

    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["total_timeout", "stall_timeout"])
@pytest.mark.parametrize("value", [0, -1, timedelta(0)])
def test_no_time_to_wait_is_refused_while_the_dag_is_parsed(make_task: MakeTask, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="greater than 0 seconds"):
        make_task(**{name: value}).sensor()
