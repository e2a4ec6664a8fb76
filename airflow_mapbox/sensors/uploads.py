"""The task that waits for an upload without holding a worker slot."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_mapbox import defaults
from airflow_mapbox.compat import label_map_index
from airflow_mapbox.errors import MapboxError
from airflow_mapbox.exceptions import MapboxFailError, MapboxTaskError, airflow_errors
from airflow_mapbox.names import check_tileset, is_tileset_id
from airflow_mapbox.tasks.assets import (
    add_event,
    add_tileset_outlet,
    check_partition,
    check_partition_outlet,
    drop_tilesets,
    to_key,
)
from airflow_mapbox.tasks.lineage import Lineage
from airflow_mapbox.tasks.links import Pages, TilesetLink, UploadLink
from airflow_mapbox.tasks.parameters import (
    is_missing,
    is_template,
    or_default_deferrable,
    source_facts,
    to_seconds,
    upload_id_from,
)
from airflow_mapbox.tasks.publication import PUBLICATION_KEY, Outcome, Publication, PublicationOptions, timer
from airflow_mapbox.tasks.rescheduling import min_reschedule_delay
from airflow_mapbox.tasks.wait import WAIT_KEY, TaskWait, upload_named_in_timeouts
from airflow_mapbox.uploads.links import tileset_page, upload_page
from airflow_mapbox.uploads.waiting.interval import fit_to_deadline
from airflow_mapbox.uploads.waiting.policy import WaitPolicy

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_mapbox.tasks.state import MemoryValue, StoredValue
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.models import Upload
    from airflow_mapbox.uploads.waiting.decide import Decision


class UploadCompleteSensor(BaseSensorOperator):
    """
    Wait until Mapbox has made the tileset.

    Each poke is one status request. Between two pokes the task holds no worker slot (``mode="reschedule"``). The poll
    interval follows the upload's progress: short when it is nearly done, long when most of the work is ahead. Some
    jitter is added. A rate limit delays the next poke until the limit's reset, and never fails the task. A server fault
    does not fail it either, nor does a new upload that Mapbox does not know yet.

    With ``deferrable=True`` the task needs no worker until the upload has ended. The triggerer polls all uploads of a
    connection together.

    :param upload_id: the id of an upload, or the whole result of
        :class:`~airflow_mapbox.operators.uploads.StageAndCreateUploadOperator`, so that the sensor can be mapped. That
        task must not wait itself (``wait_for_completion=True``).
    :param tileset: the upload's tileset, ``account.name``, so that it is an asset in Airflow's graph. By default, if
        ``upload_id`` is the output of a task, it is that task's ``tileset``. The task fails if the upload makes another
        tileset.
    :param partition: partition key of the tileset's asset event, such as ``"{{ ds }}"``; None for an event without one.
        It needs a tileset that is known when the DAG is parsed. DAGs with a plain ``schedule=[asset]`` ignore events
        with a key.
    :param verify: compare the finished tileset with its source: True, or a mapping that adds to what the upload task
        knows. Its keys are ``layers``, ``fields`` (names, or names by layer), ``minzoom``, ``maxzoom``,
        ``bounds_within``, ``min_features``, and ``sample``, the number of tiles to read and decode. For up to five
        minutes, Mapbox shows a replaced tileset as it was before. The task waits for that without a worker slot; with a
        sample, it always waits that long. It needs a token with tilesets:read, and with tilesets:list for the size and
        compute units in the asset event.
    :param on_difference: what to do if the tileset is not as expected: ``"fail"`` or ``"warn"``.
    :param visibility: make the tileset ``"public"`` or ``"private"`` after the verification. None changes nothing. It
        needs a token with tilesets:write.
    :param if_visibility_refused: ``"fail"`` or ``"warn"`` if Mapbox does not allow changes of a tileset that an upload
        made.
    :param mapbox_conn_id: the connection.
    :param deferrable: wait in the triggerer. The default is ``[operators] default_deferrable``.
    :param poke_interval: shortest time between two polls, in seconds. Unless ``mode`` is ``"poke"``, it is at least
        ``[workers] min_heartbeat_interval`` + 5 s, which is 10 s by default. The scheduler fails a task that comes back
        before the scheduler has seen its last exit.
    :param max_wait: longest time between two polls, in seconds. A rate limit may make it longer.
    :param exponential_backoff: use Airflow's own backoff instead of the upload's progress. It has no effect in a
        deferred wait.
    :param timeout: seconds until the wait fails. Each of the task's ``retries`` has the whole time again. Mapbox stops
        processing after one hour, for MBTiles after two.
    :param total_timeout: seconds until the wait fails, from the first poll of the first try; None for no bound.
    :param stall_timeout: fail after this many seconds without progress; None for never. A triggerer that restarts
        counts from its first poll, unless the upload has made no progress at all.
    :raises MapboxUploadFailedError: if processing failed; the message has Mapbox's message and a hint. It is not
        retried, because a retry would read the same failed upload.
    :raises MapboxUploadStalledError: if the progress has not changed for ``stall_timeout``.
    :raises MapboxUploadGoneError: if Mapbox does not know the upload.
    :raises MapboxUploadTimeoutError: if a timeout has passed; it is an ``AirflowSensorTimeout``.
    :raises MapboxTilesetDiffersError: if the tileset is not as expected. The message is a table.
    :raises MapboxFailError: if the connection or the id must be changed.

    Example::

        UploadCompleteSensor(task_id="wait", upload_id=upload.output)
    """

    template_fields: Sequence[str] = ("upload_id", "mapbox_conn_id", "tileset", "partition")
    operator_extra_links = (TilesetLink(), UploadLink())
    ui_color = "#e6f1f2"
    _clock = staticmethod(time.time)

    def __init__(
        self,
        *,
        upload_id: str | Mapping[str, Any],
        mapbox_conn_id: str = defaults.CONN_ID,
        deferrable: bool | None = None,
        mode: str = "reschedule",
        poke_interval: datetime.timedelta | float = defaults.MIN_POLL_INTERVAL,
        max_wait: datetime.timedelta | float = defaults.MAX_POLL_INTERVAL,
        timeout: datetime.timedelta | float = defaults.WAIT_TIMEOUT_SECONDS,
        total_timeout: datetime.timedelta | float | None = None,
        stall_timeout: datetime.timedelta | float | None = None,
        tileset: str | None = None,
        partition: str | None = None,
        verify: bool | Mapping[str, Any] | None = None,
        on_difference: str = "fail",
        visibility: str | None = None,
        if_visibility_refused: str = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, poke_interval=poke_interval, max_wait=max_wait, timeout=timeout, **kwargs)
        if self.exponential_backoff and not self.poke_interval:
            raise ValueError("exponential_backoff doubles poke_interval, so poke_interval must be greater than 0")
        self.tileset = tileset
        if _of_creator(upload_id, "wait_for_completion") is True:
            raise ValueError(
                f"Task {_of_creator(upload_id, 'task_id')} waits for its upload itself (wait_for_completion=True), so "
                "the event of its tileset would be sent twice.\nRemove the sensor, or wait_for_completion."
            )
        created = _of_creator(upload_id, "tileset")
        _refuse_other_tileset(tileset, created)
        add_tileset_outlet(self, tileset or created)
        self.partition = to_key(partition)
        with airflow_errors():
            self._check(rendered=False)
        self.pages = Pages()
        self._lineage = Lineage()
        self.upload_id = upload_id
        self.mapbox_conn_id = mapbox_conn_id
        self.deferrable = or_default_deferrable(deferrable)
        self.total_timeout = to_seconds(total_timeout, "total_timeout")
        self.stall_timeout = to_seconds(stall_timeout, "stall_timeout")
        self.publication = PublicationOptions(verify, on_difference, visibility, if_visibility_refused)
        self._publication_store: StoredValue | MemoryValue | None = None
        self._delay: float | None = None
        self._decision: Decision | None = None
        self._store: StoredValue | MemoryValue | None = None

    def _check(self, *, rendered: bool) -> None:
        """
        Check the templated parameters.

        :param rendered: whether the templates are rendered. When the DAG is parsed, a template cannot be checked.
        """
        if isinstance(self.tileset, str) and (rendered or not is_template(self.tileset)):
            check_tileset(self.tileset)
        if rendered:
            self.partition = to_key(self.partition)
        check_partition(self.partition, self.outlets, rendered=rendered)
        if rendered and self.tileset is not None and is_tileset_id(self.tileset):
            check_partition_outlet(self.partition, self.outlets, self.tileset)

    @cached_property
    def _client(self) -> UploadsClient:
        from airflow_mapbox.http.retry import ONE_TRY
        from airflow_mapbox.tasks.connection import client_for

        return client_for(self.mapbox_conn_id, ONE_TRY)

    def execute(self, context: Context) -> Any:
        """
        Poll once, or hand the wait to the triggerer.

        :param context: the task's context.
        :return: the finished upload object.
        :raises AirflowSkipException: if the upstream tasks have left no upload to wait for.
        """
        if is_missing(self.upload_id) and self.upstream_task_ids:
            self._end_without_upload(context)
        try:
            with airflow_errors():
                self._check(rendered=True)
        except ValueError as error:
            raise MapboxFailError(str(error)) from None
        self.pages = Pages.from_result(self.upload_id)
        with upload_named_in_timeouts(self._describe):
            try:
                return super().execute(context)
            except AirflowSkipException as skip:
                # With soft_fail, Airflow skips at a timeout, and its log does not give the reason.
                if self.soft_fail and skip.__cause__ is None:
                    self._skip(f"{self._describe()}. {skip}")
                raise

    def _end_without_upload(self, context: Context) -> NoReturn:
        """Skip if the upload task was skipped or marked as a success. Fail if it failed."""
        upstream = sorted(self.upstream_task_ids)
        ti = context["ti"]
        by_run = ti.get_task_states(dag_id=self.dag_id, task_ids=upstream, run_ids=[ti.run_id])
        states = by_run.get(ti.run_id) or {}
        failed = [task for task, state in states.items() if state in ("failed", "upstream_failed")]
        if failed:
            raise MapboxFailError(
                f"There is no upload to wait for: {', '.join(sorted(failed))} failed.\nClear that task, and this one."
            )
        self._skip(
            "There is no upload to wait for: the upstream tasks have left no result. "
            f"Check whether {' or '.join(upstream)} was skipped, or was marked as a success."
        )

    def _skip(self, reason: str) -> NoReturn:
        self.log.warning("%s", reason)  # Airflow shows the message of a skip only in a collapsed group of the log
        raise AirflowSkipException(reason)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after the triggerer has waited; see :meth:`execute_complete`."""
        # Airflow calls no other method of the task if the deferral itself has failed.
        self._restore_pages((next_kwargs or {}).get("upload_event") or (next_kwargs or {}).get("event"))
        with upload_named_in_timeouts(self._describe):
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AirflowSkipException as skip:
                # Here Airflow applies soft_fail to every error. In a rescheduled wait it applies it only to errors that
                # no retry can fix, so do the same.
                final = isinstance(skip.__cause__, AirflowFailException | AirflowSensorTimeout)
                if self.soft_fail and skip.__cause__ is not None and not final:
                    raise skip.__cause__ from None
                raise

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Poll once. With ``deferrable``, defer instead.

        It defers here, so that Airflow's own loop treats errors before the deferral in the same way in both modes. It
        defers without a poll, so that 500 waits that start together do not send 500 requests.
        """
        self._decision, self._delay = None, None
        with self._errors():
            wait = self._wait(context)
            if self.deferrable:
                self._defer(wait)
            base_url = self._client.base_url
            self.pages = replace(self.pages, upload=upload_page(wait.state.upload_id, base_url))
            self._decision = wait.poll(self._client, self._policy(wait))
            if self._decision.state.tileset is not None:
                self._expect_tileset(self._decision.state.tileset)
        self.log.info("%s", self._decision)
        tileset, upload = self._decision.state.tileset, self._decision.upload
        if tileset is not None:
            label_map_index(context, tileset)
            self.pages = replace(self.pages, tileset=tileset_page(tileset, base_url))
        if upload is None:
            return PokeReturnValue(is_done=False)
        outcome = self._publish(context, upload)
        if outcome.delay is not None:
            self._delay = outcome.delay
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._finish(context, upload, base_url, outcome.facts))

    def _publish(self, context: Context, upload: Upload) -> Outcome:
        if not self.publication.is_needed:
            return Outcome()
        from airflow_mapbox.tasks.state import stored_value

        with self._errors():
            if self._publication_store is None:
                self._publication_store = stored_value(context, PUBLICATION_KEY)
            publication = Publication(
                self.publication,
                self._client,
                self._publication_store,
                try_number=getattr(context.get("ti"), "try_number", 0),
                timeout=self.timeout,
                uploads_again=False,
            )
            return publication.publish(upload, source_facts(self.upload_id))

    def _expect_tileset(self, tileset: str) -> None:
        """Fail if the upload makes another tileset than the graph shows, or if its event cannot have the partition."""
        if self.tileset not in (None, tileset, tileset.rpartition(".")[2]):
            raise MapboxFailError(
                f"Upload {upload_id_from(self.upload_id)} makes the tileset {tileset}, not {self.tileset}.\n"
                "Correct the sensor's `tileset`, or give it the upload of that tileset."
            )
        check_partition_outlet(to_key(self.partition), self.outlets, tileset)

    def _defer(self, wait: TaskWait) -> None:
        from airflow_mapbox.triggers.uploads import deferral

        self.log.info("The triggerer waits for upload %s", wait.state.upload_id)
        policy = self._policy(wait, timeout=self.timeout)
        self.defer(**deferral(wait, policy, self.mapbox_conn_id), method_name=self.execute_complete.__name__)

    def execute_complete(
        self, context: Context, event: Any = None, upload_event: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """
        Check the trigger's event and return its upload.

        :param context: the task's context.
        :param event: the event of the trigger.
        :param upload_event: the event of an upload that ended before the task waited again.
        :return: the finished upload object.
        """
        from airflow_mapbox.tasks.events import base_url_from_event, upload_from_event

        event = upload_event or event
        base_url = base_url_from_event(event)
        with self._errors():
            upload = upload_from_event(event, upload_id_from(self.upload_id))
            self._expect_tileset(upload.tileset)
        label_map_index(context, upload.tileset)
        outcome = self._publish(context, upload)
        if outcome.delay is not None:
            kwargs = {"upload_event": event}
            self.defer(trigger=timer(outcome.delay), method_name=self.execute_complete.__name__, kwargs=kwargs)
        return self._finish(context, upload, base_url, outcome.facts)

    def _restore_pages(self, event: object) -> None:
        from airflow_mapbox.tasks.connection import base_url_of
        from airflow_mapbox.tasks.events import base_url_from_event

        self.pages = Pages.from_result(self.upload_id)
        base_url = base_url_from_event(event) or base_url_of(self.mapbox_conn_id)
        with suppress(MapboxError):  # `execute_complete` reports a result without an id
            if base_url is not None:
                self.pages = replace(self.pages, upload=upload_page(upload_id_from(self.upload_id), base_url))

    def _finish(
        self, context: Context, upload: Upload, base_url: str | None, published: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Add the asset event of the finished upload, log it, and return the result."""
        if base_url is not None:
            self.pages = Pages.of(upload, base_url)
        self._lineage = Lineage(
            tileset=upload.tileset, upload=upload, base_url=base_url, facts=source_facts(self.upload_id)
        )
        if _has_sent_event(self.upload_id):
            drop_tilesets(self)
            self.log.info("The task that created the upload has sent the event of tileset %s", upload.tileset)
        else:
            add_event(context, self, upload, source_facts(self.upload_id), to_key(self.partition), published)
        self.log.info("%s", self.pages.describe_finished(upload))
        return upload.to_json() | {"tileset_url": self.pages.tileset, **(published or {})}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """
        Return the tileset. Its source is in the lineage of the task that created the upload.

        :param task_instance: the task instance. It is not needed, because the task itself knows its upload.
        """
        return self._lineage.to_openlineage()

    def _wait(self, context: Context) -> TaskWait:
        from airflow_mapbox.tasks.state import stored_value

        upload_id = upload_id_from(self.upload_id)
        if self._store is None:
            self._store = stored_value(context, WAIT_KEY)
        return TaskWait(upload_id, self._store, clock=self._clock)

    def _policy(self, wait: TaskWait, *, timeout: float | None = None) -> WaitPolicy:
        deadlines = [] if timeout is None else [self._clock() + timeout]
        if self.total_timeout is not None:
            deadlines.append(wait.state.started + self.total_timeout)
        return WaitPolicy(
            min_interval=self._min_interval,
            max_interval=self.max_wait.total_seconds() if self.max_wait else None,
            stall_timeout=self.stall_timeout,
            deadline=min(deadlines, default=None),
        )

    @property
    def _min_interval(self) -> float:
        return max(self.poke_interval, self._safe_interval)

    @property
    def _safe_interval(self) -> float:
        return min_reschedule_delay() if self.reschedule or self.deferrable else 1.0

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with airflow_errors(creator=" or ".join(sorted(self.upstream_task_ids))):
                yield
        except MapboxTaskError as error:
            if self.soft_fail or self.never_fail:
                self.log.warning("%s", error)  # Airflow's own log line says that the task is skipped, but not why
            raise

    def _describe(self) -> object:
        return self._decision or f"Upload {upload_id_from(self.upload_id)}"

    def _get_next_poke_interval(
        self, started_at: datetime.datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Return the seconds until the next poll: by progress, or a rate limit's reset; the last one at the timeout."""
        decision = self._decision
        if self._delay is not None:
            delay = self._delay
        elif decision is None or self.exponential_backoff:
            delay = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        else:
            delay = decision.delay
        min_delay, max_delay = (
            (self._min_interval, math.inf) if decision is None else (decision.min_delay, decision.max_delay)
        )
        remaining = min(max_delay, self.timeout - run_duration())
        delay = fit_to_deadline(max(min_delay, delay), remaining, min_interval=self._safe_interval)
        self.log.info("Polling again in %.0f s", delay)
        return delay


def _refuse_other_tileset(tileset: object, created: object) -> None:
    """
    Refuse a tileset that cannot be the one of the task whose output the sensor was given.

    :param tileset: the sensor's parameter.
    :param created: that of the task; None if it is unknown.
    """
    if not (isinstance(tileset, str) and isinstance(created, str)) or is_template(tileset) or is_template(created):
        return
    ids = [name if "." in name else f".{name}" for name in (tileset, created)]
    (account, _, name), (of_creator, _, created_name) = (tileset_id.rpartition(".") for tileset_id in ids)
    if name != created_name or (account and of_creator and account != of_creator):
        raise ValueError(
            f"The sensor's tileset is {tileset}, but the task that creates its upload makes {created}.\nLeave out the "
            "sensor's `tileset`: the sensor then takes the task's."
        )


def _of_creator(upload_id: object, parameter: str) -> Any:
    """Return a parameter of the task whose output the sensor was given; None if that is unknown."""
    creator = getattr(upload_id, "operator", None)
    return getattr(creator, parameter, None) or getattr(creator, "partial_kwargs", {}).get(parameter)


def _has_sent_event(upload_id: object) -> bool:
    """Return whether the task that created the upload has waited for it. A mapped sensor gets its result only then."""
    return isinstance(upload_id, Mapping) and upload_id.get("complete") is True and "source" in upload_id
