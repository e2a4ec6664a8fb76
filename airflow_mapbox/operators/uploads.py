"""The task that stages a file and creates its upload."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator, conf
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mapbox.defaults import WAIT_TIMEOUT_SECONDS
from airflow_mapbox.exceptions import MapboxFailError, airflow_errors
from airflow_mapbox.export.formats import check_format
from airflow_mapbox.security.endpoints import refuse_secrets
from airflow_mapbox.tasks.assets import announce, last_published, remember, tilesets_of
from airflow_mapbox.tasks.rescheduling import come_again, seconds_until_exit_is_noticed
from airflow_mapbox.tasks.state import task_ledger, task_note
from airflow_mapbox.tasks.wait import KEY, TaskWait, name_map_index, seconds, timeouts_told
from airflow_mapbox.uploads.models import check_display_name, check_tileset_part
from airflow_mapbox.uploads.once.ledger import Published
from airflow_mapbox.uploads.waiting.interval import fit, seconds_to_next_try

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.export.formats import ExportFormat
    from airflow_mapbox.export.readers import ExportSource
    from airflow_mapbox.hooks.uploads import MapboxUploadsHook
    from airflow_mapbox.sources.source import SourceLike
    from airflow_mapbox.uploads.errors import UploadActiveError
    from airflow_mapbox.uploads.models import Upload
    from airflow_mapbox.uploads.waiting.decide import Terms

T = TypeVar("T")

IF_ACTIVE = ("wait", "fail", "skip")
# Seconds that a rate limit is waited out in the worker slot; a longer one gives it back.
LONGEST_THROTTLE_IN_SLOT = 60.0


class StageAndCreateUploadOperator(BaseOperator):
    """
    Stage a file at Mapbox and create an upload of it, which makes or replaces a tileset.

    One upload for one intent: a retry goes on from where the try before it got to, and adopts an upload that it has
    made. A cleared task is a new intent and uploads again.

    The result is the upload object and, as ``source``, what is known of its source; as multiple outputs, so that
    ``upload.output["id"]``, or all of it, feeds :class:`~airflow_mapbox.sensors.uploads.UploadCompleteSensor`.

    Templated are ``source``, ``tileset``, ``name``, ``mapbox_conn_id``, ``format``, ``export`` and ``if_active``. The
    other parameters are checked when the DAG is parsed.

    :param source: a local path, an object-storage or ``https://`` URL, an ``ObjectStoragePath``, or
        ``mapbox://datasets/{user}/{id}``, for which nothing is staged. One that carries a password or a signature is
        refused, because parameters are shown in the UI: name a connection in the URL instead. Or the whole report of
        an export (``write_geojson(…).to_json()``), whose counts and bounds then reach the tileset's asset. With a
        ``format``, the path or URL of geodata: GeoParquet, or what OGR reads.
    :param tileset: ``name`` or ``account.name``, 1 to 32 of A-Z, a-z, 0-9, - and _; take it from the data interval, so
        that each run has its own.
    :param name: the display name, at most 64 characters.
    :param mapbox_conn_id: the connection.
    :param format: what geodata is exported to: ``"geojson"``, which is sent while it is made; ``"mbtiles"``; or
        ``"auto"`` for GeoJSON up to Mapbox's limit and MBTiles beyond it, both through temporary space. None sends the
        source as it is.
    :param export: keywords of :func:`~airflow_mapbox.export.stream_geojson`, such as ``crs`` or ``columns``; for tiles
        also those of :func:`~airflow_mapbox.export.write_mbtiles`, such as ``maxzoom`` or ``tier``.
    :param if_active: where the tileset is being processed by another upload: ``"wait"`` for it, without a worker slot
        between looks; ``"fail"``, which the task's ``retries`` try again; or ``"skip"`` the task.
    :param active_timeout: seconds to wait for it in all, at most, also across retries; processing is capped at one
        hour, two for MBTiles.
    :param skip_unchanged: skip the task where the tileset's last finished upload came from the same data: of the same
        fingerprint (size, and ETag or time of modification) or the same digest. What an upload came from is kept
        beside the tileset's asset across runs; give the sensor the operator's whole result, so that it is from the
        first on.
    :param part_size: bytes of a part on the way to the staging bucket, 5 MiB to 5 GiB; chosen from the size where it is
        None.
    :param parts_in_flight: parts that are sent at the same time; this many of them are in memory at most.
    :param wait_for_completion: end only when Mapbox has made the tileset, as
        :class:`~airflow_mapbox.sensors.uploads.UploadCompleteSensor` does in a task of its own; no worker slot is held
        between two looks. The result is then the finished upload object.
    :param deferrable: wait in the triggerer; ``[operators] default_deferrable`` if it is not given. This and the next
        two are for ``wait_for_completion=True`` only.
    :param wait_timeout: seconds to wait at most, retries included; 2.5 hours if it is not given. Mapbox ends processing
        after one hour, of MBTiles after two.
    :param stall_timeout: seconds without any progress after which the wait fails; None for any number.
    :raises ValueError: when the DAG is parsed, for a parameter that has no meaning or cannot be templated.
    :raises MapboxUploadFailedError: where processing failed, or the wait ended otherwise as the sensor's does.
    :raises MapboxFailError: where a name, the source or the connection must be changed first; not retried.
    :raises MapboxTaskError: where S3, Mapbox or the network failed; retried as the task's ``retries`` say.
    """

    template_fields: Sequence[str] = (
        "source",
        "tileset",
        "name",
        "mapbox_conn_id",
        "format",
        "export",
        "if_active",
    )
    ui_color = "#dfe9ff"
    _clock = staticmethod(time.time)

    def __init__(
        self,
        *,
        source: SourceLike | Mapping[str, Any],
        tileset: str,
        name: str | None = None,
        mapbox_conn_id: str = "mapbox_default",
        format: ExportFormat | None = None,
        export: Mapping[str, Any] | None = None,
        if_active: str = "wait",
        active_timeout: timedelta | float = WAIT_TIMEOUT_SECONDS,
        skip_unchanged: bool = False,
        part_size: int | None = None,
        parts_in_flight: int = 4,
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        wait_timeout: timedelta | float | None = None,
        stall_timeout: timedelta | float | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.source = source
        self.tileset = tileset
        self.name = name
        self.mapbox_conn_id = mapbox_conn_id
        self.format = format
        self.export = dict(export or {}) if export is None or isinstance(export, Mapping) else export
        self.if_active = if_active
        self.active_timeout = seconds(active_timeout, "active_timeout") or 0.0
        self.skip_unchanged = _constant("skip_unchanged", skip_unchanged, bool)
        self.part_size = None if part_size is None else _constant("part_size", part_size, int)
        self.parts_in_flight = _constant("parts_in_flight", parts_in_flight, int)
        self.wait_for_completion = _constant("wait_for_completion", wait_for_completion, bool)
        self.wait_timeout = seconds(wait_timeout, "wait_timeout") or WAIT_TIMEOUT_SECONDS
        self.stall_timeout = seconds(stall_timeout, "stall_timeout")
        waiting = {"deferrable": deferrable, "wait_timeout": wait_timeout, "stall_timeout": stall_timeout}
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = _constant("deferrable", deferrable, bool)
        if self.wait_for_completion:
            self.outlets = [*self.outlets, tilesets_of(self.dag_id)]
        else:
            _refuse_without_effect(waiting, shared=kwargs.get("default_args") or {})
        self._running_hook: MapboxUploadsHook | None = None
        with airflow_errors():
            self._check(only_constants=True)

    @property
    def source(self) -> Any:
        """What to upload, as it was given, or as it was rendered."""
        return self._source

    @source.setter
    def source(self, source: Any) -> None:
        # Before Airflow stores what was rendered, and nothing but the source: other text may look like a secret.
        with airflow_errors():
            refuse_secrets(source)
        self._source = source

    def _check(self, *, only_constants: bool) -> None:
        """
        Refuse values that can be known to be wrong without a run.

        :param only_constants: while the DAG is parsed; templates are checked once they are rendered.
        """

        def known(value: object) -> bool:
            return isinstance(value, str) and (_is_constant(value) or not only_constants)

        if known(self.tileset):
            account, dot, name = self.tileset.rpartition(".")
            check_tileset_part(name, "name")
            if dot:
                check_tileset_part(account, "account")
        if known(self.name):
            check_display_name(self.name)
        if known(self.if_active) and self.if_active not in IF_ACTIVE:
            raise ValueError(f"if_active must be one of {', '.join(IF_ACTIVE)}, got {self.if_active!r}")
        # Text is no mapping, whatever the format; while the DAG is parsed, another task's output is not known.
        if known(self.export) or (
            (self.format is None or known(self.format)) and (isinstance(self.export, Mapping) or not only_constants)
        ):
            check_format(self.format, self.export)

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Stage and create, or go on from where an earlier try got to.

        :return: the upload object.
        """
        return self.upload(self.source, context)

    def upload(
        self, source: SourceLike | Mapping[str, Any] | Callable[[], ExportSource], context: Context
    ) -> dict[str, Any]:
        """
        Upload a source for this task; a rate limit and a busy tileset are waited out without a worker slot.

        :param source: as the hook takes it.
        :param context: of the task.
        :return: the upload object.
        """
        name_map_index(context, self.tileset)
        # A look at an upload that is waited for needs neither the source nor boto3.
        if self.wait_for_completion and context.get("task_reschedule_count"):
            with airflow_errors():
                known, entry = task_note(context, KEY).read(), task_ledger(context).read()
            made = None if entry is None else entry.known_upload()
            if known is not None and made is not None and known["upload_id"] == made.id:
                return self._wait(context, made.id)
        created = self._create(source, context)
        return self._wait(context, created["id"]) if self.wait_for_completion else created

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the triggerer has waited, as :meth:`execute_complete` says."""

        def which() -> str:
            return f"Upload {(task_note(context, KEY).read() or {}).get('upload_id', 'of this task')}"

        with timeouts_told(which):
            return super().resume_execution(next_method, next_kwargs, context)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """
        Take the triggerer's word for how the upload ended, once it has been checked.

        :param context: of the task.
        :param event: what the trigger sent.
        :return: the finished upload object.
        """
        from airflow_mapbox.tasks.events import heard

        with airflow_errors(self.task_id):
            known = task_note(context, KEY).read() or {}
            upload = heard(event, known.get("upload_id", ""))
        return self._finished(context, upload)

    def _wait(self, context: Context, upload_id: str) -> dict[str, Any]:
        """Look once, and come again or go on in the triggerer where it has not ended."""
        from airflow_mapbox.http.retry import ONE_TRY
        from airflow_mapbox.tasks.connection import client_for

        with airflow_errors(self.task_id):
            wait = TaskWait(upload_id, task_note(context, KEY), clock=self._clock)
            terms = self._terms(wait)
            if self.deferrable:
                trigger = wait.trigger(self.mapbox_conn_id, terms)
                method = self.execute_complete.__name__
                self.defer(trigger=trigger, method_name=method, timeout=wait.patience(terms))
            following = wait.look(client_for(self.mapbox_conn_id, ONE_TRY), terms)
        if following.upload is not None:
            return self._finished(context, following.upload)
        pause = fit(max(following.pause, following.least), following.most, least=terms.floor)
        self.log.info("%s. Looking again in %.0f s; no worker slot is held until then.", following, pause)
        raise come_again(pause)

    def _terms(self, wait: TaskWait) -> Terms:
        from airflow_mapbox.uploads.waiting.decide import Terms

        return Terms(
            floor=seconds_until_exit_is_noticed(),
            stall_timeout=self.stall_timeout,
            deadline=wait.watch.since + self.wait_timeout,
        )

    def _finished(self, context: Context, upload: Upload) -> dict[str, Any]:
        """Do what follows from a tileset that is there, however it was waited for."""
        self.log.info("Upload %s is done: tileset %s", upload.id, upload.tileset)
        with airflow_errors(self.task_id):
            entry = task_ledger(context).read()
        made_from = {} if entry is None else entry.source_to_json()
        announce(context, tilesets_of(self.dag_id), upload, made_from)
        return upload.to_json() | {"source": made_from}

    def _create(
        self, source: SourceLike | Mapping[str, Any] | Callable[[], ExportSource], context: Context
    ) -> dict[str, Any]:
        from airflow_mapbox.hooks.uploads import MapboxUploadsHook
        from airflow_mapbox.http.retry import RetryPolicy
        from airflow_mapbox.uploads.errors import (
            CreationUnknownError,
            ServerError,
            ThrottledError,
            UnchangedSourceError,
            UploadActiveError,
        )
        from airflow_mapbox.uploads.staging.stager import StagingOptions

        try:
            self._check(only_constants=False)
            staging = StagingOptions(part_size=self.part_size, parts_in_flight=self.parts_in_flight)
        except ValueError as error:
            raise MapboxFailError(str(error)) from None
        hook = self._running_hook = MapboxUploadsHook(
            self.mapbox_conn_id,
            retry=RetryPolicy(max_throttle_wait=LONGEST_THROTTLE_IN_SLOT),
            staging=staging,
        )
        ledger = task_ledger(context)
        with airflow_errors():
            try:
                upload = hook.upload(
                    source,
                    self.tileset,
                    self.name,
                    format=self.format,
                    export=self.export,
                    if_active="fail",
                    ledger=ledger,
                    published=self._last_published(hook),
                )
            except UnchangedSourceError as error:
                raise AirflowSkipException(str(error)) from None
            except (ThrottledError, CreationUnknownError, ServerError) as error:
                if error.retry_after is None:
                    raise
                self.log.info("%s\nThe worker slot is given back until then.", error)
                raise come_again(error.retry_after) from None
            except UploadActiveError as error:
                raise self._when_active(error, hook.get_conn().server_now()) from None
        made_from = {} if ledger.entry is None else ledger.entry.source_to_json()
        if self.skip_unchanged:
            published = Published.from_json({"upload_id": upload.id, **made_from})
            if published is not None:
                remember(tilesets_of(self.dag_id), upload.tileset, published)
        return upload.to_json() | {"source": made_from}

    def on_kill(self) -> None:
        """Take back what is being staged; Airflow kills the task five seconds later."""
        if self._running_hook is not None:
            self._running_hook.cancel()

    def _last_published(self, hook: MapboxUploadsHook) -> Published | None:
        if not self.skip_unchanged:
            return None
        return last_published(tilesets_of(self.dag_id), str(hook.get_conn().tileset_id(self.tileset)))

    def _when_active(self, error: UploadActiveError, now: float) -> BaseException:
        """Say what becomes of the task where the tileset is being processed by another upload."""
        waited = now - (error.since or now)
        # Where an earlier call got no answer, the active upload may be this task's own: to fail or to skip would then
        # be wrong, and once it has ended the next call tells.
        if (self.if_active == "wait" or error.in_doubt) and waited < self.active_timeout:
            pause = seconds_to_next_try(waited)
            self.log.info("%s Coming again in %.0f s; no worker slot is held until then.", error, pause)
            return come_again(pause)
        if self.if_active == "skip" and not error.in_doubt:
            return AirflowSkipException(f"{error} This task is skipped, as `if_active` says.")
        return error


def _is_constant(value: str) -> bool:
    return not any(mark in value for mark in ("{{", "{%", "{#"))


def _constant(name: str, value: T, kind: type[T]) -> T:
    """Return a parameter that is needed while the DAG is parsed, or that a template would turn into a string."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        wanted = "True or False" if kind is bool else "a whole number"
        raise ValueError(f"{name} must be {wanted}, got {value!r}; it cannot be templated")
    return value


def _refuse_without_effect(waiting: Mapping[str, object], shared: Mapping[str, Any]) -> None:
    """
    Refuse parameters of a wait that does not take place.

    :param waiting: the parameters, None if they were not given.
    :param shared: the DAG's ``default_args``, which are for other tasks as well.
    """
    given = [name for name, value in waiting.items() if value not in (None, False) and name not in shared]
    if given:
        raise ValueError(
            f"{', '.join(given)} has no effect without wait_for_completion=True: add that, or give the parameter to "
            "the UploadCompleteSensor that waits"
        )
