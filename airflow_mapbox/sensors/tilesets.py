"""The task that waits until a tileset was changed."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_mapbox import defaults
from airflow_mapbox.errors import (
    InvalidAnswerError,
    MapboxError,
    MissingScopeError,
    NotFoundError,
    TokenRejectedError,
)
from airflow_mapbox.exceptions import MapboxFailError, airflow_errors
from airflow_mapbox.names import check_tileset
from airflow_mapbox.tasks.parameters import is_template, or_default_deferrable, to_time
from airflow_mapbox.tasks.rescheduling import min_reschedule_delay

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mapbox.tasks.state import MemoryValue, StoredValue
    from airflow_mapbox.tilesets.client import TilesetsClient

# The key of the state in the task state store.
_STATE_KEY = "mapbox_updated"


class TilesetUpdatedSensor(BaseSensorOperator):
    """
    Wait until a tileset of the account was changed: by an upload, by Mapbox Studio, or by another program.

    Each poke is one request of the account's list, sorted by the last change (scope tilesets:list). Between two pokes
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
        Check once whether the tileset was changed. With ``deferrable``, defer if it was not.

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
            store = stored_value(context, _STATE_KEY)
            state = store.read() or {}
            try:
                tileset_id = self._client.own_id(self.tileset)
                since = self._since(state, store)
                # Deferred tasks ask once, too: a missing scope then fails here, and not in the triggerer's log.
                tileset = recent_changes(self._client, since, only=self.tileset).find(self.tileset)
            except MapboxError as error:
                if not self._may_pass(error, state, store):
                    raise
                self._delay = getattr(error, "retry_after", None)
                self.log.info("%s", error)
                return PokeReturnValue(is_done=False)
        modified = None if tileset is None else tileset.modified_at
        if tileset is None or modified is None or modified <= since:
            self.log.info(
                "The list shows no change of tileset %s since %s", tileset_id, since.isoformat(timespec="seconds")
            )
            if self.deferrable:
                self._defer(since)
            return PokeReturnValue(is_done=False)
        self.log.info("Tileset %s was changed at %s", tileset.id, modified.isoformat(timespec="seconds"))
        return PokeReturnValue(is_done=True, xcom_value=tileset.to_json())

    def _since(self, state: dict[str, Any], store: StoredValue | MemoryValue) -> datetime.datetime:
        """Return the time after which changes count. Without the parameter, it is that of the first poke."""
        since = self.since or state.get("since")
        if since is None:
            next(self._client.list_tilesets(limit=1), None)  # a reply shows Mapbox's clock
            since = datetime.datetime.fromtimestamp(self._client.server_now(), datetime.UTC).isoformat()
            state["since"] = since
            store.write(state)
        return to_time(since)

    def _may_pass(self, error: MapboxError, state: dict[str, Any], store: StoredValue | MemoryValue) -> bool:
        """Return whether another poke may succeed. A single refusal may come from a gateway or a deployment."""
        if error.retryable:
            return True
        is_refusal = isinstance(error, TokenRejectedError | NotFoundError) and not isinstance(error, MissingScopeError)
        if not is_refusal or state.get("refused"):
            return False
        state["refused"] = True
        store.write(state)
        return True

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
