"""The task that stages a file and creates its upload."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mapbox import defaults
from airflow_mapbox.billing.ceilings import Ceilings
from airflow_mapbox.compat import is_rescheduled, label_map_index
from airflow_mapbox.errors import MapboxError
from airflow_mapbox.exceptions import MapboxFailError, airflow_errors
from airflow_mapbox.export.options import check_format
from airflow_mapbox.names import check_display_name, check_tileset
from airflow_mapbox.security.endpoints import refuse_secrets
from airflow_mapbox.tasks.assets import (
    add_event,
    add_tileset_outlet,
    check_partition,
    check_partition_outlet,
    drop_other_tilesets,
    last_published,
    remember,
    to_key,
)
from airflow_mapbox.tasks.lineage import Lineage, save_inputs, saved_inputs, source_uri
from airflow_mapbox.tasks.links import Pages, TilesetLink, UploadLink
from airflow_mapbox.tasks.parameters import constant, is_template, or_default_deferrable, to_seconds
from airflow_mapbox.tasks.publication import PUBLICATION_KEY, Outcome, Publication, PublicationOptions, timer
from airflow_mapbox.tasks.rescheduling import min_reschedule_delay, reschedule_in
from airflow_mapbox.tasks.state import stored_value, task_ledger
from airflow_mapbox.tasks.wait import WAIT_KEY, TaskWait, upload_named_in_timeouts
from airflow_mapbox.uploads.once.ledger import Published
from airflow_mapbox.uploads.waiting.interval import fit_to_deadline, interval_while_active
from airflow_mapbox.uploads.waiting.policy import WaitPolicy

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_mapbox.export.options import ExportFormat
    from airflow_mapbox.export.readers import ExportSource
    from airflow_mapbox.hooks.uploads import MapboxUploadsHook
    from airflow_mapbox.sources.resolve import SourceLike
    from airflow_mapbox.uploads.errors import UploadActiveError
    from airflow_mapbox.uploads.models import Upload


class StageAndCreateUploadOperator(BaseOperator):
    """
    Stage a file at Mapbox and create its upload, which makes or replaces a tileset.

    If anything crashes, the retry continues where the previous attempt stopped, and creates no second upload. If you
    clear the task, it uploads again.

    The result is the upload object, with facts about its source as ``source``. It has multiple outputs:
    :class:`~airflow_mapbox.sensors.uploads.UploadCompleteSensor` takes the whole output or ``upload.output["id"]``.

    These parameters are templated: ``source``, ``tileset``, ``name``, ``mapbox_conn_id``, ``format``, ``export``,
    ``if_active`` and ``partition``. The other parameters are checked when the DAG is parsed.

    :param source: a local path, an object-storage or ``https://`` URL, an ``ObjectStoragePath``, or
        ``mapbox://datasets/{user}/{id}``, which needs no staging. Or the whole report of an export
        (``write_geojson(…).to_json()``): its counts and bounds are then in the tileset's asset event. With ``format``:
        the path or URL of geodata, as GeoParquet or in any format that OGR reads. Sources that contain a password or a
        signature are refused, because the UI shows parameters: name a connection in the URL instead.
    :param tileset: ``name`` or ``account.name``, 1 to 32 of A-Z, a-z, 0-9, - and _. Build it from the data interval, so
        that each DAG run has its own. A name with its account and without a template is an asset in Airflow's graph.
    :param name: the display name, at most 64 characters.
    :param mapbox_conn_id: the connection.
    :param format: format to export geodata to. ``"geojson"`` is sent during the export, and ``"mbtiles"`` is written
        first. ``"auto"`` is GeoJSON up to Mapbox's limit and MBTiles beyond it. The last two use temporary disk space.
        None sends the source as it is.
    :param export: options of :func:`~airflow_mapbox.export.stream_geojson`, such as ``crs`` or ``columns``. For vector
        tiles also those of :func:`~airflow_mapbox.export.write_mbtiles`, such as ``maxzoom`` or ``tier``.
    :param if_active: what to do if Mapbox is processing another upload of the tileset. ``"wait"`` holds no worker slot
        between two attempts, ``"fail"`` uses the task's ``retries``, and ``"skip"`` skips the task.
    :param active_timeout: longest time to wait for that other upload, in seconds, across all retries.
    :param skip_unchanged: skip the task if the tileset's last finished upload came from the same data. The data is the
        same if its fingerprint (size, and ETag or modification time) or its checksum is the same. Both are stored with
        the tileset's asset. Give the sensor the operator's whole result, so that the first DAG run stores them too.
    :param preflight: check the source for what Mapbox would refuse, before the first request to Mapbox. The whole
        report is in the log. If Mapbox would refuse the source, the task fails without a retry.
    :param max_megabytes: fail if the file to send has more megabytes (1,000,000 bytes). Accounts opened since August
        2024 are billed by size. The task fails before a byte is sent if the size is known then, else before the upload
        is created. The same is true of the next two parameters.
    :param max_area_km2: fail if the data covers more km² at the precision of the tileset. Older accounts are billed by
        area.
    :param max_tier: fail if the tileset would have a higher price tier: ``"free"``, ``"10m"``, ``"1m"``, ``"30cm"`` or
        ``"1cm"``.
    :param part_size: bytes of each part sent to the staging bucket, 5 MiB to 5 GiB; None chooses it by the source's
        size.
    :param parts_in_flight: number of parts sent at the same time. It is also the maximum number of parts in memory.
    :param wait_for_completion: also wait until Mapbox has made the tileset, as
        :class:`~airflow_mapbox.sensors.uploads.UploadCompleteSensor` does in a task of its own. It holds no worker slot
        between two polls. The result is then the finished upload object.
    :param deferrable: wait in the triggerer. The default is ``[operators] default_deferrable``. This parameter and all
        that follow need ``wait_for_completion=True``.
    :param wait_timeout: longest time to wait for completion, in seconds, across all retries; 2.5 hours by default.
        Mapbox stops processing after one hour, for MBTiles after two.
    :param stall_timeout: fail the wait after this many seconds without progress; None for never.
    :param verify: compare the finished tileset with its source. This and the next three parameters are those of
        :class:`~airflow_mapbox.sensors.uploads.UploadCompleteSensor`.
    :param on_difference: ``"fail"`` or ``"warn"`` if the tileset is not as expected.
    :param visibility: make the tileset ``"public"`` or ``"private"`` after the verification. None changes nothing.
    :param if_visibility_refused: ``"fail"`` or ``"warn"`` if Mapbox does not let the tileset be changed.
    :param partition: partition key of the tileset's asset event, such as ``"{{ ds }}"``; None for an event without one.
        It needs a tileset that is known when the DAG is parsed. DAGs with a plain ``schedule=[asset]`` ignore events
        with a key.
    :raises ValueError: when the DAG is parsed, if a parameter is invalid or cannot be templated.
    :raises MapboxUploadFailedError: if processing failed. The wait also raises the sensor's other exceptions.
    :raises MapboxFailError: if a name, the source or the connection must be changed. It is not retried.
    :raises MapboxTaskError: if S3, Mapbox or the network failed. The task's ``retries`` apply.

    Example::

        StageAndCreateUploadOperator(
            task_id="upload",
            source="/shared/parcels-{{ ds_nodash }}.geojson",
            tileset="parcels-{{ ds_nodash }}",
            name="Parcels of {{ ds }}",
        )
    """

    template_fields: Sequence[str] = (
        "source",
        "tileset",
        "name",
        "mapbox_conn_id",
        "format",
        "export",
        "if_active",
        "partition",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"export": "json"}
    operator_extra_links = (TilesetLink(), UploadLink())
    ui_color = "#dfe9ff"
    _clock = staticmethod(time.time)

    def __init__(
        self,
        *,
        source: SourceLike | Mapping[str, Any],
        tileset: str,
        name: str | None = None,
        mapbox_conn_id: str = defaults.CONN_ID,
        format: ExportFormat | None = None,
        export: Mapping[str, Any] | None = None,
        if_active: str = defaults.IF_ACTIVE,
        active_timeout: timedelta | float = defaults.WAIT_TIMEOUT_SECONDS,
        skip_unchanged: bool = False,
        preflight: bool = True,
        max_megabytes: float | None = None,
        max_area_km2: float | None = None,
        max_tier: str | None = None,
        part_size: int | None = None,
        parts_in_flight: int = defaults.PARTS_IN_FLIGHT,
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        wait_timeout: timedelta | float | None = None,
        stall_timeout: timedelta | float | None = None,
        verify: bool | Mapping[str, Any] | None = None,
        on_difference: str = "fail",
        visibility: str | None = None,
        if_visibility_refused: str = "fail",
        partition: str | None = None,
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
        self.active_timeout = to_seconds(active_timeout, "active_timeout") or 0.0
        self.skip_unchanged = constant(skip_unchanged, bool, "skip_unchanged")
        self.preflight = constant(preflight, bool, "preflight")
        self.max_megabytes, self.max_area_km2, self.max_tier = max_megabytes, max_area_km2, max_tier
        Ceilings(max_megabytes, max_area_km2, max_tier)  # a mistake breaks the DAG's import
        if not self.preflight and format is None and (max_area_km2 is not None or max_tier is not None):
            raise ValueError("max_area_km2 and max_tier need preflight=True, which measures the source")
        self.part_size = None if part_size is None else constant(part_size, int, "part_size")
        self.parts_in_flight = constant(parts_in_flight, int, "parts_in_flight")
        self.wait_for_completion = constant(wait_for_completion, bool, "wait_for_completion")
        self.wait_timeout = to_seconds(wait_timeout, "wait_timeout") or defaults.WAIT_TIMEOUT_SECONDS
        self.stall_timeout = to_seconds(stall_timeout, "stall_timeout")
        self.deferrable = constant(or_default_deferrable(deferrable), bool, "deferrable")
        self.publication = PublicationOptions(verify, on_difference, visibility, if_visibility_refused)
        self.partition = to_key(partition)
        if self.wait_for_completion:
            add_tileset_outlet(self, tileset)
        else:
            waiting = {
                "deferrable": deferrable,
                "wait_timeout": wait_timeout,
                "stall_timeout": stall_timeout,
                "verify": verify,
                "visibility": visibility,
                "partition": partition,
            }
            _refuse_without_effect(waiting, shared=kwargs.get("default_args") or {})
        self.pages = Pages()
        self._lineage = Lineage()
        self._hook: MapboxUploadsHook | None = None
        with airflow_errors():
            self._check(rendered=False)

    @property
    def source(self) -> Any:
        """The source: the parameter, and after templating the rendered parameter."""
        return self._source

    @source.setter
    def source(self, source: Any) -> None:
        # Checked before Airflow stores the rendered field. Other fields may contain words that look like a secret.
        with airflow_errors():
            refuse_secrets(source)
        self._source = source

    def _check(self, *, rendered: bool) -> None:
        """
        Check the templated parameters.

        :param rendered: whether the templates are rendered. When the DAG is parsed, a template cannot be checked.
        """

        def is_final(value: object) -> bool:
            return isinstance(value, str) and (rendered or not is_template(value))

        if is_final(self.tileset):
            check_tileset(self.tileset)
        if is_final(self.name):
            check_display_name(self.name)
        if is_final(self.if_active) and self.if_active not in defaults.IF_ACTIVE_CHOICES:
            choices = ", ".join(defaults.IF_ACTIVE_CHOICES)
            raise ValueError(f"if_active must be one of {choices}, got {self.if_active!r}")
        if rendered:
            self.partition = to_key(self.partition)
        check_partition(self.partition, self.outlets, rendered=rendered)
        # A string is never a mapping of options. The output of another task is unknown when the DAG is parsed.
        if is_final(self.export) or (
            (self.format is None or is_final(self.format)) and (isinstance(self.export, Mapping) or rendered)
        ):
            check_format(self.format, self.export)

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Stage the source and create its upload, or continue where an earlier attempt stopped.

        :param context: the task's context.
        :return: the upload object.
        """
        return self.upload(self.source, context)

    def upload(
        self, source: SourceLike | Mapping[str, Any] | Callable[[], ExportSource], context: Context
    ) -> dict[str, Any]:
        """
        Upload a source. The task gives its worker slot back during a rate limit and while the tileset is active.

        :param source: the source, as the hook takes it.
        :param context: the task's context.
        :return: the upload object.
        """
        label_map_index(context, self.tileset)
        self._lineage.source = source_uri(source)
        # A poll of the created upload needs neither the source nor boto3.
        if self.wait_for_completion and is_rescheduled(context):
            with airflow_errors():
                state, entry = stored_value(context, WAIT_KEY).read(), task_ledger(context).read()
                upload = None if entry is None else entry.created_upload()
            if entry is not None and upload is not None and (state or {}).get("upload_id") == upload.id:
                self._lineage.facts, self._lineage.hook_inputs = entry.source_to_json(), saved_inputs(context)
                return self._wait(context, upload)
        created, facts = self._create(source, context)
        self._lineage.facts = facts
        if self.wait_for_completion:
            save_inputs(context)
            return self._wait(context, created)
        drop_other_tilesets(self, created.tileset)
        page = self.pages.tileset
        self.log.info("Once upload %s is done, its tileset %s is at %s", created.id, created.tileset, page)
        return self._result(created, facts)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after the triggerer has waited; see :meth:`execute_complete`."""

        def describe() -> str:
            return f"Upload {(stored_value(context, WAIT_KEY).read() or {}).get('upload_id', 'of this task')}"

        # Airflow calls no other method of the task if the deferral itself has failed.
        self._restore(context, (next_kwargs or {}).get("upload_event") or (next_kwargs or {}).get("event"))
        with upload_named_in_timeouts(describe):
            return super().resume_execution(next_method, next_kwargs, context)

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
        label_map_index(context, self.tileset)
        with airflow_errors(self.task_id):
            state = stored_value(context, WAIT_KEY).read() or {}
            upload = upload_from_event(event, state.get("upload_id", ""))
        return self._publish(context, upload, base_url_from_event(event) or self._lineage.base_url, event=event)

    def _restore(self, context: Context, event: object) -> None:
        """Note what the process that deferred knew, for the links and the lineage of a task that may fail now."""
        from airflow_mapbox.tasks.connection import base_url_of
        from airflow_mapbox.tasks.events import base_url_from_event

        self._lineage.source = source_uri(self.source)
        self._lineage.hook_inputs = saved_inputs(context)
        with suppress(MapboxError):  # a task state that cannot be read is an error of the method that needs it
            entry = task_ledger(context).read()
            created = None if entry is None else entry.created_upload()
            if entry is not None and created is not None:
                self._lineage.facts = entry.source_to_json()
                self._note(created, base_url_from_event(event) or base_url_of(self.mapbox_conn_id))

    def _wait(self, context: Context, created: Upload) -> dict[str, Any]:
        """Poll once. If the upload has not ended, reschedule the task or defer."""
        from airflow_mapbox.http.retry import ONE_TRY
        from airflow_mapbox.tasks.connection import client_for
        from airflow_mapbox.triggers.uploads import deferral

        with airflow_errors(self.task_id):
            wait = TaskWait(created.id, stored_value(context, WAIT_KEY), clock=self._clock)
            policy = self._wait_policy(wait)
            if self.deferrable:
                method = self.execute_complete.__name__
                self.defer(**deferral(wait, policy, self.mapbox_conn_id), method_name=method)
            client = client_for(self.mapbox_conn_id, ONE_TRY)
            self._note(created, client.base_url)
            decision = wait.poll(client, policy)
        if decision.upload is not None:
            return self._publish(context, decision.upload, client.base_url)
        delay = max(decision.delay, decision.min_delay)
        delay = fit_to_deadline(delay, decision.max_delay, min_interval=policy.min_interval)
        self.log.info("%s. Polling again in %.0f s; the worker slot is free until then.", decision, delay)
        raise reschedule_in(delay)

    def _wait_policy(self, wait: TaskWait) -> WaitPolicy:
        return WaitPolicy(
            min_interval=min_reschedule_delay(),
            stall_timeout=self.stall_timeout,
            deadline=wait.state.started + self.wait_timeout,
        )

    def _publish(
        self, context: Context, upload: Upload, base_url: str | None, *, event: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """
        Verify the tileset of the finished upload, add its asset event, log it, and return the result.

        If the tileset cannot be verified yet, reschedule the task or defer.

        :param event: the event of the trigger; None if the task itself polled.
        """
        self._note(upload, base_url)
        outcome = Outcome()
        with airflow_errors(self.task_id):
            entry = task_ledger(context).read()
            self._lineage.facts = source = {} if entry is None else entry.source_to_json()
            if self.publication.is_needed:
                outcome = self._publication(context).publish(upload, source)
        if outcome.delay is not None and event is None:
            self.log.info("The worker slot is free for %.0f s", outcome.delay)
            raise reschedule_in(outcome.delay)
        if outcome.delay is not None:
            method = self.execute_complete.__name__
            self.defer(trigger=timer(outcome.delay), method_name=method, kwargs={"upload_event": event})
        add_event(context, self, upload, source, to_key(self.partition), outcome.facts)
        self.log.info("%s", self.pages.describe_finished(upload))
        return self._result(upload, source) | dict(outcome.facts)

    def _publication(self, context: Context) -> Publication:
        from airflow_mapbox.http.retry import ONE_TRY
        from airflow_mapbox.tasks.connection import client_for

        return Publication(
            self.publication,
            client_for(self.mapbox_conn_id, ONE_TRY),
            stored_value(context, PUBLICATION_KEY),
            try_number=getattr(context.get("ti"), "try_number", 0),
            timeout=self.wait_timeout,
            uploads_again=True,
        )

    def _result(self, upload: Upload, source: Mapping[str, Any]) -> dict[str, Any]:
        return upload.to_json() | {"tileset_url": self.pages.tileset, "source": dict(source)}

    def _create(
        self, source: SourceLike | Mapping[str, Any] | Callable[[], ExportSource], context: Context
    ) -> tuple[Upload, dict[str, Any]]:
        """Return the created upload, and facts about its source."""
        from airflow_mapbox.uploads.errors import (
            CreationUnknownError,
            ServerError,
            ThrottledError,
            UnchangedSourceError,
            UploadActiveError,
        )

        hook = self._hook = self._make_hook()
        ledger = task_ledger(context)
        with airflow_errors():
            if self.partition is not None:
                tileset = str(hook.get_conn().tileset_id(self.tileset))
                check_partition_outlet(self.partition, self.outlets, tileset)
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
                    preflight=self.preflight,
                    ceilings=Ceilings(self.max_megabytes, self.max_area_km2, self.max_tier),
                )
            except UnchangedSourceError as error:
                raise AirflowSkipException(str(error)) from None
            except (ThrottledError, CreationUnknownError, ServerError) as error:
                if error.retry_after is None:
                    raise
                self.log.info("%s\nThe worker slot is free until then.", error)
                raise reschedule_in(error.retry_after) from None
            except UploadActiveError as error:
                raise self._when_active(error, hook.get_conn().server_now()) from None
        facts = {} if ledger.entry is None else ledger.entry.source_to_json()
        if self.skip_unchanged:
            published = Published.from_json({"upload_id": upload.id, **facts})
            if published is not None:
                remember(self, upload.tileset, published)
        self._note(upload, hook.get_conn().base_url)
        return upload, facts

    def _note(self, upload: Upload, base_url: str | None) -> None:
        """Note the upload for the task's links and its lineage."""
        self.pages = Pages.of(upload, base_url)
        self._lineage.upload, self._lineage.tileset, self._lineage.base_url = upload, upload.tileset, base_url

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """
        Return the source and the tileset. The OpenLineage provider calls this after each try, also after a failed one.

        :param task_instance: the task instance. It is not needed, because the task itself knows its upload.
        """
        return self._lineage.to_openlineage()

    def _make_hook(self) -> MapboxUploadsHook:
        from airflow_mapbox.hooks.uploads import MapboxUploadsHook
        from airflow_mapbox.http.retry import RetryPolicy
        from airflow_mapbox.uploads.staging.stager import StagingOptions

        try:
            self._check(rendered=True)
            staging = StagingOptions(part_size=self.part_size, parts_in_flight=self.parts_in_flight)
        except ValueError as error:
            raise MapboxFailError(str(error)) from None
        retry = RetryPolicy(max_throttle_wait=defaults.MAX_RATE_LIMIT_WAIT_IN_SLOT)
        return MapboxUploadsHook(self.mapbox_conn_id, retry=retry, staging=staging)

    def on_kill(self) -> None:
        """Delete the parts that are staged so far. Airflow kills the task five seconds later."""
        if self._hook is not None:
            self._hook.cancel()

    def _last_published(self, hook: MapboxUploadsHook) -> Published | None:
        if not self.skip_unchanged:
            return None
        return last_published(self, str(hook.get_conn().tileset_id(self.tileset)))

    def _when_active(self, error: UploadActiveError, now: float) -> BaseException:
        """Return what to raise if Mapbox is processing another upload of the tileset."""
        waited = now - (error.since or now)
        # If an earlier create call is in doubt, the active upload may be this task's own. Then the task must neither
        # fail nor be skipped: after that upload has ended, the next create call shows whose it was.
        if (self.if_active == "wait" or error.in_doubt) and waited < self.active_timeout:
            delay = interval_while_active(waited)
            self.log.info("%s Trying again in %.0f s; the worker slot is free until then.", error, delay)
            return reschedule_in(delay)
        if self.if_active == "skip" and not error.in_doubt:
            return AirflowSkipException(f"{error} This task is skipped because of `if_active`.")
        return error


def _refuse_without_effect(waiting: Mapping[str, object], shared: Mapping[str, Any]) -> None:
    """
    Refuse the parameters of a wait without ``wait_for_completion``.

    :param waiting: the parameters; None if not given.
    :param shared: the DAG's ``default_args``, which other tasks use too.
    """
    given = [name for name, value in waiting.items() if value not in (None, False) and name not in shared]
    if given:
        raise ValueError(
            f"{', '.join(given)} has no effect without wait_for_completion=True: add that, or give the parameter to "
            "the UploadCompleteSensor that waits"
        )
