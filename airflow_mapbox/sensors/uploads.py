"""The task that waits for an upload without holding a worker."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_mapbox.assets import announce, tilesets_of
from airflow_mapbox.exceptions import airflow_errors
from airflow_mapbox.rescheduling import seconds_until_exit_is_noticed
from airflow_mapbox.uploads.pacing import seconds_to_next_look

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.hooks.uploads import MapboxUploadsHook
    from airflow_mapbox.uploads.models import Upload


class UploadCompleteSensor(BaseSensorOperator):
    """
    Wait until Mapbox has made the tileset.

    Each poke is one status request; between pokes no worker slot is held (``mode="reschedule"``). The next one is
    chosen from the upload's progress and the time it has taken: soon when it is nearly done, seldom when it has far to
    go. A rate limit moves it to the limit's reset and is no failure. The result is the finished upload object.

    :param upload_id: the id of an upload, or the whole result of
        :class:`~airflow_mapbox.operators.uploads.StageAndCreateUploadOperator`, so that it can be mapped over.
    :param mapbox_conn_id: the connection.
    :param poke_interval: seconds between two looks, at least. Rescheduled, never under 5 s more than ``[workers]
        min_heartbeat_interval`` (10 s unless configured): a task that comes back before its last exit was noticed is
        failed by the scheduler.
    :param max_wait: seconds between two looks, at most, but for a rate limit.
    :param exponential_backoff: Airflow's own pacing instead of the one by progress.
    :param timeout: seconds until the wait fails; processing is capped at one hour, two for MBTiles.
    :raises MapboxUploadFailedError: where processing failed, with Mapbox's message and a hint; not retried, since the
        same upload would be read again.
    :raises AirflowSensorTimeout: where it has not ended in time.
    :raises MapboxFailError: where the connection or the id must be changed first.
    """

    template_fields: Sequence[str] = ("upload_id", "mapbox_conn_id")
    ui_color = "#e6f1f2"

    def __init__(
        self,
        *,
        upload_id: str | Mapping[str, Any],
        mapbox_conn_id: str = "mapbox_default",
        mode: str = "reschedule",
        poke_interval: datetime.timedelta | float = 5,
        max_wait: datetime.timedelta | float = 120,
        timeout: datetime.timedelta | float = 2.5 * 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, poke_interval=poke_interval, max_wait=max_wait, timeout=timeout, **kwargs)
        if self.exponential_backoff and not self.poke_interval:
            raise ValueError("exponential_backoff doubles poke_interval: give one above 0")
        self.outlets = [*self.outlets, tilesets_of(self.dag_id)]
        self.upload_id = upload_id
        self.mapbox_conn_id = mapbox_conn_id
        self._throttled_for = 0.0
        self._seen: Upload | None = None

    @cached_property
    def hook(self) -> MapboxUploadsHook:
        """The hook; it raises at a rate limit instead of waiting in the slot."""
        from airflow_mapbox.hooks.uploads import MapboxUploadsHook
        from airflow_mapbox.uploads.throttle import RetryPolicy

        return MapboxUploadsHook(self.mapbox_conn_id, retry=RetryPolicy(max_throttle_wait=0))

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        from airflow_mapbox.uploads.errors import ThrottledError
        from airflow_mapbox.uploads.waiting import require_success

        self._throttled_for = 0.0
        with airflow_errors():
            try:
                upload = require_success(self.hook.get_upload(_id_of(self.upload_id)))
            except ThrottledError as error:
                self._throttled_for = error.retry_after
                self.log.info("The account's rate limit is spent; looking again in %.0f s", error.retry_after)
                return PokeReturnValue(is_done=False)
        self._seen = upload
        if upload.is_successful:
            announce(context, tilesets_of(self.dag_id), upload, _source_of(self.upload_id))
        self.log.info("Upload %s of tileset %s: %.0f %%", upload.id, upload.tileset, upload.progress * 100)
        return PokeReturnValue(upload.is_successful, upload.to_json() if upload.is_successful else None)

    def _get_next_poke_interval(
        self, started_at: datetime.datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Give the seconds to the next look: by progress, after a rate limit's reset, and never sooner than safe."""
        safe = seconds_until_exit_is_noticed() if self.reschedule else 1.0
        floor = max(self.poke_interval, safe, self._throttled_for)
        if self.exponential_backoff or self._seen is None:
            return max(floor, super()._get_next_poke_interval(started_at, run_duration, poke_count))
        ceiling = self.max_wait.total_seconds() if self.max_wait else float("inf")
        return seconds_to_next_look(self._seen, self.hook.get_conn().server_now(), floor=floor, ceiling=ceiling)


def _id_of(upload: str | Mapping[str, Any]) -> str:
    from airflow_mapbox.uploads.errors import InvalidUploadIdError

    upload_id = upload.get("id") if isinstance(upload, Mapping) else upload
    if not isinstance(upload_id, str) or not upload_id or upload_id == "None":
        raise InvalidUploadIdError(
            f"There is no upload id: `upload_id` is {type(upload).__name__} without one. Give it the output of "
            'StageAndCreateUploadOperator, as `upload.output["id"]` or `upload.output`.'
        )
    return upload_id


def _source_of(upload: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what the operator's result tells of the source, where all of it was given."""
    source = upload.get("source") if isinstance(upload, Mapping) else None
    return source if isinstance(source, Mapping) else {}
