"""The task that waits for an upload without holding a worker."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_mapbox.defaults import WAIT_TIMEOUT_SECONDS
from airflow_mapbox.exceptions import MapboxFailError, MapboxTaskError, airflow_errors
from airflow_mapbox.tasks.assets import announce, tilesets_of
from airflow_mapbox.tasks.rescheduling import seconds_until_exit_is_noticed
from airflow_mapbox.tasks.wait import (
    KEY,
    TaskWait,
    id_of,
    is_nothing,
    name_map_index,
    seconds,
    source_of,
    timeouts_told,
)
from airflow_mapbox.uploads.waiting.interval import fit

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.tasks.state import MemoryNote, TaskNote
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.models import Upload
    from airflow_mapbox.uploads.waiting.decide import Next, Terms


class UploadCompleteSensor(BaseSensorOperator):
    """
    Wait until Mapbox has made the tileset.

    Each poke is one status request; between pokes no worker slot is held (``mode="reschedule"``). The next one is
    chosen from the upload's progress and the time it has taken: soon when it is nearly done, seldom when it has far to
    go, and moved a little at random. A rate limit moves it to the limit's reset and is no failure; neither is a fault
    of the server's, nor a fresh upload that Mapbox does not know for a moment.

    With ``deferrable=True`` no worker is needed until the upload has ended: the triggerer asks for all uploads of a
    connection together.

    :param upload_id: the id of an upload, or the whole result of
        :class:`~airflow_mapbox.operators.uploads.StageAndCreateUploadOperator`, so that it can be mapped over.
    :param mapbox_conn_id: the connection.
    :param deferrable: wait in the triggerer; ``[operators] default_deferrable`` where it is not given.
    :param poke_interval: seconds between two looks, at least. Unless ``mode`` is ``"poke"``, never under 5 s more than
        ``[workers] min_heartbeat_interval`` (10 s unless configured): a task that comes back before its last exit was
        noticed is failed by the scheduler.
    :param max_wait: seconds between two looks, at most, but for a rate limit.
    :param exponential_backoff: Airflow's own pacing instead of the one by progress; without effect where deferred.
    :param timeout: seconds until the wait fails, counted anew at each of the task's ``retries``; processing is capped
        at one hour, two for MBTiles.
    :param total_timeout: seconds until the wait fails, from the first look of the first try on; None for no such bound.
    :param stall_timeout: seconds without any progress after which the wait fails; None for any number. A triggerer that
        is started again counts from its first look, unless there is no progress at all yet.
    :raises MapboxUploadFailedError: where processing failed, with Mapbox's message and a hint; not retried, since the
        same upload would be read again.
    :raises MapboxUploadStalledError: where the progress has not moved for ``stall_timeout``.
    :raises MapboxUploadGoneError: where Mapbox does not know the upload.
    :raises MapboxUploadTimeoutError: where it has not ended in time; an ``AirflowSensorTimeout``.
    :raises MapboxFailError: where the connection or the id must be changed first.
    """

    template_fields: Sequence[str] = ("upload_id", "mapbox_conn_id")
    ui_color = "#e6f1f2"
    _clock = staticmethod(time.time)

    def __init__(
        self,
        *,
        upload_id: str | Mapping[str, Any],
        mapbox_conn_id: str = "mapbox_default",
        deferrable: bool | None = None,
        mode: str = "reschedule",
        poke_interval: datetime.timedelta | float = 10,
        max_wait: datetime.timedelta | float = 120,
        timeout: datetime.timedelta | float = WAIT_TIMEOUT_SECONDS,
        total_timeout: datetime.timedelta | float | None = None,
        stall_timeout: datetime.timedelta | float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, poke_interval=poke_interval, max_wait=max_wait, timeout=timeout, **kwargs)
        if self.exponential_backoff and not self.poke_interval:
            raise ValueError("exponential_backoff doubles poke_interval: give one above 0")
        self.outlets = [*self.outlets, tilesets_of(self.dag_id)]
        self.upload_id = upload_id
        self.mapbox_conn_id = mapbox_conn_id
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable
        self.total_timeout = seconds(total_timeout, "total_timeout")
        self.stall_timeout = seconds(stall_timeout, "stall_timeout")
        self._next: Next | None = None
        self._note: TaskNote | MemoryNote | None = None

    @cached_property
    def _client(self) -> UploadsClient:
        from airflow_mapbox.http.retry import ONE_TRY
        from airflow_mapbox.tasks.connection import client_for

        return client_for(self.mapbox_conn_id, ONE_TRY)

    def execute(self, context: Context) -> Any:
        """
        Look once, or hand the wait to the triggerer.

        :return: the finished upload object.
        :raises AirflowSkipException: if the upstream tasks have left no upload to wait for.
        """
        if is_nothing(self.upload_id) and self.upstream_task_ids:
            self._end_without_upload(context)
        with timeouts_told(self._which):
            try:
                return super().execute(context)
            except AirflowSkipException as skip:
                # Airflow skips at a timeout with soft_fail, and its log does not say why.
                if self.soft_fail and skip.__cause__ is None:
                    self._skip(f"{self._which()}. {skip}")
                raise

    def _end_without_upload(self, context: Context) -> NoReturn:
        """Skip if the upload task was skipped or marked as a success, and fail if it failed."""
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
            f"See whether {' or '.join(upstream)} was skipped, or was marked as a success."
        )

    def _skip(self, reason: str) -> NoReturn:
        self.log.warning("%s", reason)  # Airflow shows a skip's own text in a group that is folded away
        raise AirflowSkipException(reason)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the triggerer has waited, as :meth:`execute_complete` says, or fail as Airflow does."""
        with timeouts_told(self._which):
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AirflowSkipException as skip:
                # Airflow is soft about everything here; where a wait is rescheduled, about what no retry mends.
                final = isinstance(skip.__cause__, AirflowFailException | AirflowSensorTimeout)
                if self.soft_fail and skip.__cause__ is not None and not final:
                    raise skip.__cause__ from None
                raise

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Look once; with ``deferrable``, defer instead.

        Deferred from here, so that Airflow's own loop treats what goes wrong before it alike in both modes, and
        without a look, so that five hundred waits that begin do not ask five hundred times.
        """
        self._next = None
        with self._errors():
            wait = self._wait(context)
            if self.deferrable:
                terms = self._terms(wait, timeout=self.timeout)
                trigger = wait.trigger(self.mapbox_conn_id, terms)
                self.log.info("Upload %s is waited for by the triggerer", wait.watch.upload_id)
                method = self.execute_complete.__name__
                self.defer(trigger=trigger, method_name=method, timeout=wait.patience(terms))
            self._next = wait.look(self._client, self._terms(wait))
        self.log.info("%s", self._next)
        if self._next.watch.tileset is not None:
            name_map_index(context, self._next.watch.tileset)
        if self._next.upload is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._finished(context, self._next.upload))

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """
        Take the triggerer's word for how the upload ended, once it has been checked.

        :param context: of the task.
        :param event: what the trigger sent.
        :return: the finished upload object.
        """
        from airflow_mapbox.tasks.events import heard

        with self._errors():
            upload = heard(event, id_of(self.upload_id))
        return self._finished(context, upload)

    def _finished(self, context: Context, upload: Upload) -> dict[str, Any]:
        """Do what follows from a tileset that is there, in either mode."""
        self.log.info("Upload %s is done: tileset %s", upload.id, upload.tileset)
        announce(context, tilesets_of(self.dag_id), upload, source_of(self.upload_id))
        return upload.to_json()

    def _wait(self, context: Context) -> TaskWait:
        from airflow_mapbox.tasks.state import task_note

        upload_id = id_of(self.upload_id)
        if self._note is None:
            self._note = task_note(context, KEY)
        return TaskWait(upload_id, self._note, clock=self._clock)

    def _terms(self, wait: TaskWait, *, timeout: float | None = None) -> Terms:
        from airflow_mapbox.uploads.waiting.decide import Terms

        ends = [] if timeout is None else [self._clock() + timeout]
        if self.total_timeout is not None:
            ends.append(wait.watch.since + self.total_timeout)
        return Terms(
            floor=self._floor,
            ceiling=self.max_wait.total_seconds() if self.max_wait else None,
            stall_timeout=self.stall_timeout,
            deadline=min(ends, default=None),
        )

    @property
    def _floor(self) -> float:
        return max(self.poke_interval, self._shortest_pause)

    @property
    def _shortest_pause(self) -> float:
        return seconds_until_exit_is_noticed() if self.reschedule or self.deferrable else 1.0

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with airflow_errors(creator=" or ".join(sorted(self.upstream_task_ids))):
                yield
        except MapboxTaskError as error:
            if self.soft_fail or self.never_fail:
                self.log.warning("%s", error)  # Airflow's own line says that the task is skipped, and not why
            raise

    def _which(self) -> object:
        return self._next or f"Upload {id_of(self.upload_id)}"

    def _get_next_poke_interval(
        self, started_at: datetime.datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Return the seconds to the next look: by progress, after a rate limit's reset, and at the timeout the last."""
        if self._next is None or self.exponential_backoff:
            pause = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        else:
            pause = self._next.pause
        least, most = (self._floor, math.inf) if self._next is None else (self._next.least, self._next.most)
        left = min(most, self.timeout - run_duration())
        pause = fit(max(least, pause), left, least=self._shortest_pause)
        self.log.info("Looking again in %.0f s", pause)
        return pause
