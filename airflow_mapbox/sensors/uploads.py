"""The task that waits for an upload without holding a worker."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf

from airflow_mapbox.exceptions import airflow_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.hooks.uploads import MapboxUploadsHook


class UploadCompleteSensor(BaseSensorOperator):
    """
    Wait until Mapbox has made the tileset.

    Each poke is one status request; between pokes no worker slot is held (``mode="reschedule"``). A rate limit moves
    the next poke to the limit's reset and is no failure. The result is the finished upload object.

    :param upload_id: the id of an upload, or the whole result of
        :class:`~airflow_mapbox.operators.uploads.StageAndCreateUploadOperator`, so that it can be mapped over.
    :param mapbox_conn_id: the connection.
    :param poke_interval: seconds between two looks. Rescheduled, never under twice ``[workers]
        min_heartbeat_interval`` (10 s unless configured): a task that comes back sooner than its last exit is noticed
        is failed by the scheduler.
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
        poke_interval: datetime.timedelta | float = 30,
        timeout: datetime.timedelta | float = 2.5 * 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.upload_id = upload_id
        self.mapbox_conn_id = mapbox_conn_id
        self._throttled_for = 0.0

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
        self.log.info("Upload %s of tileset %s: %.0f %%", upload.id, upload.tileset, upload.progress * 100)
        return PokeReturnValue(upload.is_successful, upload.to_json() if upload.is_successful else None)

    def _get_next_poke_interval(
        self, started_at: datetime.datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Give the seconds to the next look: as Airflow has it, but after a rate limit's reset, and never unsafe."""
        interval = max(super()._get_next_poke_interval(started_at, run_duration, poke_count), self._throttled_for)
        # The supervisor may report a task's exit that late; the second interval is the margin.
        safe = 2 * conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0) if self.reschedule else 0.0
        return max(interval, safe)


def _id_of(upload: str | Mapping[str, Any]) -> str:
    from airflow_mapbox.uploads.errors import InvalidUploadIdError

    upload_id = upload.get("id") if isinstance(upload, Mapping) else upload
    if not isinstance(upload_id, str) or not upload_id or upload_id == "None":
        raise InvalidUploadIdError(
            f"There is no upload id: `upload_id` is {type(upload).__name__} without one. Give it the output of "
            'StageAndCreateUploadOperator, as `upload.output["id"]` or `upload.output`.'
        )
    return upload_id
