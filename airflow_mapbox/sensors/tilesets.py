"""The task that waits until a tileset was changed, by whomever."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_mapbox import defaults
from airflow_mapbox.errors import InvalidAnswerError, MapboxError
from airflow_mapbox.exceptions import MapboxFailError, airflow_errors
from airflow_mapbox.names import check_tileset
from airflow_mapbox.tasks.parameters import is_template, or_default_deferrable
from airflow_mapbox.tasks.rescheduling import min_reschedule_delay

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.tilesets.client import TilesetsClient

# The key of the time of the first poll in the task state store.
_SINCE_KEY = "mapbox_updated_since"


class TilesetUpdatedSensor(BaseSensorOperator):
    """
    Wait until a tileset was changed: by an upload, by Mapbox Studio, or by another program.

    Each poke is one request of the account's list, with the last change first (scope tilesets:list). Between two pokes
    the task holds no worker slot (``mode="reschedule"``). With ``deferrable=True`` the triggerer waits, and one request
    at a time serves all tilesets of the connection. A rate limit or a fault of Mapbox delays the next poke and does not
    fail the task.

    To start a DAG run for each change instead, use :class:`~airflow_mapbox.triggers.tilesets.TilesetUpdatedTrigger`.

    :param tileset: ``name`` or ``account.name``. It need not exist yet.
    :param since: a time with a time zone: only changes after it count. A string such as
        ``"{{ data_interval_start }}"``, or a datetime. None for changes after the first poke.
    :param mapbox_conn_id: the connection.
    :param deferrable: wait in the triggerer. The default is ``[operators] default_deferrable``.
    :param poke_interval: seconds between two pokes.
    :return: the changed tileset, as its list entry in JSON.
    :raises MapboxFailError: if the tileset's name, ``since``, the connection or the token's scopes must be changed.

    Example::

        TilesetUpdatedSensor(task_id="edited", tileset="acme.parcels", since="{{ data_interval_start }}")
    """

    template_fields: Sequence[str] = ("tileset", "since", "mapbox_conn_id")
    ui_color = "#e6f1f2"

    def __init__(
        self,
        *,
        tileset: str,
        since: datetime.datetime | str | None = None,
        mapbox_conn_id: str = defaults.CONN_ID,
        deferrable: bool | None = None,
        mode: str = "reschedule",
        poke_interval: datetime.timedelta | float = defaults.TILESET_POLL_INTERVAL,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode=mode, poke_interval=poke_interval, **kwargs)
        self.tileset = tileset
        self.since = since
        self.mapbox_conn_id = mapbox_conn_id
        self.deferrable = or_default_deferrable(deferrable)
        with airflow_errors():
            self._check(rendered=False)
        self._delay: float | None = None

    def _check(self, *, rendered: bool) -> None:
        """
        Check the templated parameters.

        :param rendered: whether the templates are rendered. When the DAG is parsed, a template cannot be checked.
        """
        if isinstance(self.tileset, str) and (rendered or not is_template(self.tileset)):
            check_tileset(self.tileset)
        if self.since is not None and (rendered or not (isinstance(self.since, str) and is_template(self.since))):
            to_time(self.since)

    @cached_property
    def _client(self) -> TilesetsClient:
        from airflow_mapbox.http.retry import ONE_TRY
        from airflow_mapbox.tasks.connection import client_for
        from airflow_mapbox.tilesets.client import TilesetsClient

        return TilesetsClient.sharing(client_for(self.mapbox_conn_id, ONE_TRY))

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Look once whether the tileset was changed. With ``deferrable``, defer instead.

        :param context: the task's context.
        """
        from airflow_mapbox.tasks.state import stored_value
        from airflow_mapbox.tilesets.changes import recent_changes

        self._delay = None
        try:
            self._check(rendered=True)
        except ValueError as error:
            raise MapboxFailError(str(error)) from None
        with airflow_errors():
            try:
                store = stored_value(context, _SINCE_KEY)
                stored = (store.read() or {}).get("since")
                since = to_time(self.since or stored) if self.since or stored else None
                if since is None:
                    since = self._first_poke()
                    store.write({"since": since.isoformat()})
                if self.deferrable:
                    self._defer(since)
                tileset = recent_changes(self._client, since).find(self.tileset)
            except MapboxError as error:
                if not error.retryable:
                    raise
                self._delay = getattr(error, "retry_after", None)
                self.log.info("%s", error)
                return PokeReturnValue(is_done=False)
        modified = None if tileset is None else tileset.modified_at
        if tileset is None or modified is None or modified <= since:
            self.log.info("Tileset %s was not changed since %s", self.tileset, since.isoformat(timespec="seconds"))
            return PokeReturnValue(is_done=False)
        self.log.info("Tileset %s was changed at %s", tileset.id, modified.isoformat(timespec="seconds"))
        return PokeReturnValue(is_done=True, xcom_value=tileset.to_json())

    def _first_poke(self) -> datetime.datetime:
        """Return the time by Mapbox's clock, which a reply shows, and check the token's scope."""
        next(self._client.list_tilesets(limit=1), None)
        return datetime.datetime.fromtimestamp(self._client.server_now(), datetime.UTC)

    def _defer(self, since: datetime.datetime) -> None:
        from airflow_mapbox.triggers.tilesets import TilesetUpdatedTrigger

        self.log.info("The triggerer waits for a change of tileset %s", self.tileset)
        trigger = TilesetUpdatedTrigger(
            self.tileset,
            self.mapbox_conn_id,
            since=since.isoformat(),
            poll_interval=self.poke_interval,
            once=True,
            not_before=time.time() + min_reschedule_delay(),
        )
        timeout = datetime.timedelta(seconds=self.timeout)
        self.defer(trigger=trigger, timeout=timeout, method_name=self.execute_complete.__name__)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """
        Check the trigger's event and return its tileset.

        :param context: the task's context.
        :param event: the event of the trigger.
        :return: the changed tileset.
        """
        from airflow_mapbox.tilesets.models import Tileset

        with airflow_errors():
            document = event.get("tileset") if isinstance(event, dict) else None
            if document is None:
                raise InvalidAnswerError(
                    f"The trigger of tileset {self.tileset} sent no tileset.\nRun the task again, and look in the "
                    "triggerer's log for the reason."
                )
            tileset = Tileset.from_json(document)
        self.log.info("Tileset %s was changed at %s", tileset.id, tileset.modified)
        return dict(document)

    def _get_next_poke_interval(self, *arguments: Any, **keywords: Any) -> float:
        """Return the seconds until the next poke: a rate limit's reset, or the interval."""
        interval = super()._get_next_poke_interval(*arguments, **keywords)
        return max(interval, self._delay or 0.0, min_reschedule_delay() if self.reschedule else 0.0)


def to_time(value: object) -> datetime.datetime:
    """
    Read a time with a time zone.

    :param value: a datetime, or a string in ISO 8601.
    :raises ValueError: if it is neither, or has no time zone.
    """
    time_read = value
    if isinstance(value, str):
        try:
            time_read = datetime.datetime.fromisoformat(value)
        except ValueError:
            time_read = None
    if not isinstance(time_read, datetime.datetime) or time_read.tzinfo is None:
        raise ValueError(
            f"since must be a time with a time zone, such as '2026-11-29T00:00:00+00:00', got {str(value)[:80]!r}"
        )
    return time_read
