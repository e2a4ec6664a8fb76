"""The operator that ends only when the tileset is there: by coming again, or in the triggerer."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import timezone
from airflow.sdk.exceptions import AirflowException, AirflowRescheduleException, TaskDeferred
from airflow.sdk.lineage import HookLineageCollector

from airflow_mapbox.exceptions import (
    MapboxTaskError,
    MapboxUploadFailedError,
    MapboxUploadStalledError,
    MapboxUploadTimeoutError,
)
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.tasks.events import to_event
from airflow_mapbox.tasks.links import Pages
from airflow_mapbox.tasks.state import TaskLedger
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.once.ledger import Entry, Ledger, State
from airflow_mapbox.uploads.waiting.poller import LAST_POLL_SECONDS
from tests.unit.support import ACCOUNT, FakeStore, FakeTime, Reply, ScriptedServer, make_token, upload_json

ID = upload_json()["id"]
UNDER_WAY = Reply(json=upload_json(progress=0.3))
FAILED = Reply(json=upload_json(error="Processing timed out."))
COLLECTOR = "airflow.providers.common.compat.lineage.hook.get_hook_lineage_collector"
DONE = Reply(json=upload_json(progress=1, complete=True))


class Task:
    """A task that Airflow runs again and again, each time in a process of its own."""

    def __init__(self, fake_time: FakeTime, **options: Any) -> None:
        self.fake_time = fake_time
        self.options = {"wait_for_completion": True, **options}
        self.store = FakeStore()
        self.max_tries = 1
        self.reschedules = 0

    def operator(self) -> StageAndCreateUploadOperator:
        operator = StageAndCreateUploadOperator(
            task_id="publish", source="/data/x.geojson", tileset="x", **self.options
        )
        operator._clock = self.fake_time.clock  # type: ignore[method-assign]
        return operator

    @property
    def context(self) -> Any:
        ti = SimpleNamespace(max_tries=self.max_tries)
        return {"ti": ti, "task_state_store": self.store, "task_reschedule_count": self.reschedules}

    def run(self) -> Any:
        before = timezone.utcnow()
        try:
            return self.operator().execute(self.context)
        except AirflowRescheduleException as again:
            self.reschedules += 1
            return (again.reschedule_date - before).total_seconds()


MakeTask = Callable[..., Task]


@pytest.fixture
def make_task(fake_time: FakeTime) -> MakeTask:
    return lambda **options: Task(fake_time, **options)


@pytest.fixture(autouse=True)
def created(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that were uploaded; how that is done is not what is looked at here."""
    described = {"conn_type": "mapbox", "host": server.url, "login": ACCOUNT, "password": make_token()}
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", json.dumps(described))
    sources: list[str] = []

    def upload(self: MapboxUploadsHook, source: str, tileset: str, *_: Any, ledger: Ledger, **__: Any) -> Upload:
        sources.append(source)
        made = upload_json()
        ledger.write(
            Entry(
                tileset, source, "https://bucket/key", sha256=f"{len(sources)}" * 64, state=State.CREATED, upload=made
            )
        )
        return Upload.from_json(made)

    monkeypatch.setattr(MapboxUploadsHook, "upload", upload)
    return sources


def test_by_default_the_operator_does_not_wait(make_task: MakeTask, server: ScriptedServer) -> None:
    assert make_task(wait_for_completion=False).run()["complete"] is False
    assert not server.requests


def test_the_operator_polls_again_without_a_slot_and_without_uploading_again(
    make_task: MakeTask, server: ScriptedServer, created: list[str]
) -> None:
    task = make_task()
    server.script(UNDER_WAY, Reply(503, {"message": "Service Unavailable"}), DONE)

    assert task.run() >= 6
    assert task.run() >= 6
    assert task.run()["complete"] is True

    assert len(created) == 1
    assert len(server.requests) == 3


def test_a_wait_for_the_upload_of_an_older_source_is_not_continued(
    make_task: MakeTask, server: ScriptedServer, created: list[str]
) -> None:
    """Try 1 waits for its upload and dies; try 2 finds another source, stages it, and its tileset is busy."""
    task = make_task()
    server.script(UNDER_WAY)
    task.run()
    staged = Entry("orion.x", "/data/x.geojson", "https://bucket/other", sha256="f" * 64)
    TaskLedger(task.store, task.max_tries).write(staged)
    task.reschedules = 1

    server.script(DONE)
    result = task.run()

    assert len(created) == 2, "what is staged is uploaded"
    assert result["source"]["sha256"] == "2" * 64


def test_a_retry_goes_through_the_upload_which_may_have_changed(
    make_task: MakeTask, server: ScriptedServer, created: list[str]
) -> None:
    task = make_task()
    server.script(UNDER_WAY, DONE)
    task.run()
    task.reschedules = 0  # Airflow has forgotten them

    task.run()

    assert len(created) == 2


def test_a_cleared_task_forgets_the_upload_that_it_waited_for(
    make_task: MakeTask, server: ScriptedServer, created: list[str]
) -> None:
    task = make_task(stall_timeout=60)
    server.script(UNDER_WAY, UNDER_WAY)
    task.run()
    task.max_tries += 1
    task.fake_time.now += 60

    assert task.run() >= 6
    assert len(created) == 2


def test_the_operator_stalls_and_times_out_like_the_sensor(make_task: MakeTask, server: ScriptedServer) -> None:
    for options, error in (
        ({"stall_timeout": 60}, MapboxUploadStalledError),
        ({"wait_timeout": timedelta(minutes=1)}, MapboxUploadTimeoutError),
    ):
        task = make_task(**options)
        server.script(UNDER_WAY, UNDER_WAY)
        task.run()
        task.fake_time.now += 60
        with pytest.raises(error, match=ID):
            task.run()


def test_a_rescheduled_task_that_fails_still_names_what_its_hooks_have_read(
    make_task: MakeTask, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = HookLineageCollector()
    monkeypatch.setattr(COLLECTOR, lambda: collector)
    collector.add_input_asset(context=MapboxUploadsHook(), uri="s3://bucket/y.csv")
    task = make_task()
    server.script(UNDER_WAY, FAILED)
    task.run()
    monkeypatch.setattr(COLLECTOR, HookLineageCollector)

    operator = task.operator()
    with pytest.raises(MapboxUploadFailedError):
        operator.execute(task.context)

    lineage = operator.get_openlineage_facets_on_complete(None)
    assert {item.name for item in lineage.inputs} == {"/data/x.geojson", "y.csv"}


def test_the_operator_names_itself_to_be_cleared_if_another_upload_may_help(
    make_task: MakeTask, server: ScriptedServer
) -> None:
    server.script(Reply(json=upload_json(error="Processing timed out.")))

    with pytest.raises(MapboxUploadFailedError, match=r"(?s)clear the task .* created by task publish\."):
        make_task().run()


class TestDeferred:
    def test_the_wait_is_deferred_once_the_upload_is_created(
        self, make_task: MakeTask, server: ScriptedServer, created: list[str]
    ) -> None:
        task = make_task(deferrable=True, wait_timeout=600)

        with pytest.raises(TaskDeferred) as deferred:
            task.run()

        arguments = deferred.value.trigger.serialize()[1]
        assert arguments["upload_id"] == ID
        assert arguments["deadline"] == task.fake_time.now + 600
        assert (
            timedelta(seconds=600 + LAST_POLL_SECONDS)
            < deferred.value.timeout
            < timedelta(seconds=600 + 2 * LAST_POLL_SECONDS)
        )
        assert len(created) == 1
        assert not server.requests

    def test_airflows_own_timeout_is_reported_like_the_sensors(self, make_task: MakeTask) -> None:
        task = make_task(deferrable=True)
        with pytest.raises(TaskDeferred):
            task.run()

        with pytest.raises(MapboxUploadTimeoutError, match=rf"Upload {ID}\. Trigger timeout\."):
            task.operator().resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)

    @pytest.mark.parametrize(
        "resumed",
        [
            ("__fail__", {"error": "Trigger timeout"}),
            ("__fail__", {"error": "Trigger failure", "traceback": ["a line"]}),
            ("execute_complete", {"event": to_event(RuntimeError("no memory"))}),
            ("execute_complete", {"event": {"upload": FAILED.json}}),
        ],
        ids=["timeout", "triggerer", "event without an address", "event of an earlier version"],
    )
    def test_a_task_that_fails_after_it_keeps_its_links_and_its_lineage(
        self, make_task: MakeTask, server: ScriptedServer, resumed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collector = HookLineageCollector()
        monkeypatch.setattr(COLLECTOR, lambda: collector)
        collector.add_input_asset(context=MapboxUploadsHook(), uri="s3://bucket/y.csv")
        task = make_task(deferrable=True)
        with pytest.raises(TaskDeferred):
            task.run()
        monkeypatch.setattr(COLLECTOR, HookLineageCollector)  # another process: its hooks have read nothing

        operator = task.operator()
        with pytest.raises(AirflowException):
            operator.resume_execution(*resumed, task.context)

        assert operator.pages == Pages(f"{server.url}/tilesets/{DONE.json['tileset']}", f"{server.url}/#{ID}")
        lineage = operator.get_openlineage_facets_on_complete(None)
        assert {item.name for item in lineage.inputs} == {"/data/x.geojson", "y.csv"}
        assert [item.name for item in lineage.outputs] == [DONE.json["tileset"]]

    def test_a_missing_connection_does_not_replace_the_error_of_a_deferral(
        self, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task = make_task(deferrable=True)
        with pytest.raises(TaskDeferred):
            task.run()
        monkeypatch.delenv("AIRFLOW_CONN_MAPBOX_DEFAULT")

        with pytest.raises(MapboxUploadTimeoutError, match="Trigger timeout"):
            task.operator().resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)

    def test_the_finished_upload_is_the_result(self, make_task: MakeTask) -> None:
        task = make_task(deferrable=True)
        with pytest.raises(TaskDeferred):
            task.run()

        assert task.operator().execute_complete(task.context, {"upload": DONE.json})["complete"] is True

    @pytest.mark.parametrize("event", [None, {"upload": UNDER_WAY.json}, {"upload": {**DONE.json, "id": "other"}}])
    def test_an_empty_event_is_not_a_success(self, make_task: MakeTask, event: Any) -> None:
        task = make_task(deferrable=True)
        with pytest.raises(TaskDeferred):
            task.run()

        with pytest.raises(MapboxTaskError):
            task.operator().execute_complete(task.context, event)
