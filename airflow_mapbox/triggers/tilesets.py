"""The trigger that fires when a tileset was changed. All triggers of a connection share one request at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Hashable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_mapbox import defaults
from airflow_mapbox.compat import read_asset_state, watched_asset_states, write_asset_state
from airflow_mapbox.errors import NotFoundError
from airflow_mapbox.names import check_tileset
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.tasks.parameters import to_time
from airflow_mapbox.tilesets.changes import Changes, recent_changes
from airflow_mapbox.tilesets.client import TilesetsClient
from airflow_mapbox.tilesets.models import Tileset
from airflow_mapbox.triggers.connector import EXECUTOR, Connector

_STATE_KEY = "mapbox_modified"
# Ask again after a fault, after twice as long each time.
_FIRST_DELAY_AFTER_FAULT, _MAX_DELAY_AFTER_FAULT = 10.0, 600.0
# Mapbox's list may show a change later than another one that was made after it. Reading so far back costs no request.
_OVERLAP = timedelta(hours=1)
_BEFORE_ALL = datetime.fromtimestamp(0, UTC)

log = logging.getLogger(__name__)


class TilesetUpdatedTrigger(BaseEventTrigger):
    """
    Fire when a tileset was changed: by an upload, by Mapbox Studio, or by another program.

    It serves :class:`~airflow_mapbox.sensors.tilesets.TilesetUpdatedSensor`, and an ``AssetWatcher``, which starts a
    DAG run for each change. All triggers of a connection with the same interval share one request of the account's list
    (scope tilesets:list). An error does not end it: it is logged, and the trigger asks again later.

    As the trigger of an asset, it keeps the time of the last change in the asset's state. So a triggerer that restarts
    misses no change. It may report the last change twice.

    :param tileset: ``name`` or ``account.name``, of the connection's account.
    :param mapbox_conn_id: the connection.
    :param since: a time, ISO 8601 with a time zone: changes after it count. None for changes from now on.
    :param poll_interval: seconds between two requests.
    :param once: end after the first change.
    :param not_before: Unix time before which it does not fire; None for at once. A task that is queued before the
        scheduler has seen its exit is marked as failed.
    :raises ValueError: if the tileset's name or ``since`` is invalid.

    Example::

        parcels = Asset(
            "mapbox://tilesets/acme.parcels",
            watchers=[AssetWatcher(name="studio", trigger=TilesetUpdatedTrigger("acme.parcels"))],
        )
    """

    def __init__(
        self,
        tileset: str,
        mapbox_conn_id: str = defaults.CONN_ID,
        *,
        since: str | None = None,
        poll_interval: float = defaults.TILESET_POLL_INTERVAL,
        once: bool = False,
        not_before: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        check_tileset(tileset)
        if since is not None:
            to_time(since)
        self.tileset = tileset
        self.mapbox_conn_id = mapbox_conn_id
        self.since = since
        self.poll_interval = poll_interval
        self.once = once
        self.not_before = not_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments that make the same trigger in another process."""
        names = ("tileset", "mapbox_conn_id", "since", "poll_interval", "once", "not_before")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    def shared_stream_key(self) -> Hashable:
        """Return what the triggers that share a stream have in common."""
        return ("mapbox_tilesets", self.mapbox_conn_id, self.poll_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Changes]:
        """
        Read the account's changes again and again.

        :param kwargs: the arguments of one of the triggers.
        """
        connector = Connector(kwargs["mapbox_conn_id"])
        newest: datetime | None = None
        delay = _FIRST_DELAY_AFTER_FAULT
        while True:
            try:
                client = TilesetsClient.sharing(await connector.client())
                changes = await _in_thread(recent_changes, client, newest and newest - _OVERLAP)
            except Exception as error:
                # The end of this stream would end all of its triggers.
                delay = getattr(error, "retry_after", None) or delay
                log.warning("%s\nAsking for the tilesets again in %.0f s.", redact(str(error))[:500], delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _MAX_DELAY_AFTER_FAULT)
                continue
            delay = _FIRST_DELAY_AFTER_FAULT
            newest = changes.newest or newest
            yield changes
            await asyncio.sleep(kwargs["poll_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Changes]) -> AsyncIterator[TriggerEvent]:
        """
        Fire for each change of the tileset.

        :param shared_stream: the account's changes.
        """
        last = await self._stored() or (None if self.since is None else datetime.fromisoformat(self.since))
        seen, saved = last, last  # all changes until `seen` were seen
        async for changes in shared_stream:
            # A change is stored only now, because its event is in Airflow's database by now. If the triggerer stops
            # before, the change is reported again, and not lost.
            if last is not None and last != saved:
                await self._store(last)
                saved = last
            tileset, seen = await self._find(changes, seen)
            modified = None if tileset is None else tileset.modified_at
            if last is None:
                last = modified or changes.since or _BEFORE_ALL
                await self._store(last)
                saved = last
            elif tileset is not None and modified is not None and modified > last:
                await asyncio.sleep(max(0.0, (self.not_before or 0.0) - time.time()))
                yield TriggerEvent(to_event(tileset))  # type: ignore[no-untyped-call]
                last = modified
                if self.once:
                    return

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire for each change, if triggers share nothing, such as in ``dag.test()``."""
        async for event in self.filter_shared_stream(self.open_shared_stream(self.serialize()[1])):
            yield event

    async def _find(self, changes: Changes, seen: datetime | None) -> tuple[Tileset | None, datetime | None]:
        """
        Return the tileset if it may have changed, and until when all changes were seen.

        :param changes: the newest changes of the account.
        :param seen: until when all changes were seen before.
        """
        tileset, newest = changes.find(self.tileset), changes.newest
        if changes.id_of(self.tileset).rpartition(".")[0] != changes.account.lower():
            log.error(
                "Tileset %s belongs to another account than connection %r, which is to %s. Use a connection to its "
                "account: changes of this one are not seen.",
                self.tileset,
                self.mapbox_conn_id,
                changes.account,
            )
        if tileset is None and changes.since is not None and seen is not None and seen < changes.since:
            # The shared request did not go back as far as this trigger needs. This happens once, at its start.
            try:
                client = TilesetsClient.sharing(await Connector(self.mapbox_conn_id).client())
                tileset = await _in_thread(client.get_tileset, self.tileset)
            except NotFoundError:
                pass
            except Exception as error:
                log.warning("Tileset %s is read again later: %s", self.tileset, redact(str(error))[:500])
                return None, seen
        return tileset, max(filter(None, (seen, newest)), default=None)

    async def _stored(self) -> datetime | None:
        """Return the time of the last change that was reported. Wait until Airflow's API server can be asked."""
        while True:
            try:
                stored = [await read_asset_state(state, self._key) for state in watched_asset_states(self)]
            except Exception as error:  # Airflow's errors are not public
                log.warning(
                    "The state of the asset of tileset %s cannot be read: %s", self.tileset, type(error).__name__
                )
                await asyncio.sleep(_FIRST_DELAY_AFTER_FAULT)
            else:
                return min(filter(None, map(_time_of, stored)), default=None)

    async def _store(self, last: datetime) -> None:
        for state in watched_asset_states(self):
            try:
                await write_asset_state(state, self._key, last.isoformat())
            except Exception as error:
                log.warning(
                    "The state of the asset of tileset %s was not saved: %s", self.tileset, type(error).__name__
                )

    @property
    def _key(self) -> str:
        return f"{_STATE_KEY}/{self.tileset}"


def to_event(tileset: Tileset) -> dict[str, Any]:
    """
    Return the event of a changed tileset.

    :param tileset: the tileset.
    """
    return {"tileset": tileset.to_json()}


def _time_of(stored: object) -> datetime | None:
    """Return a stored time, or None if there is none that can be read."""
    if not isinstance(stored, str):
        return None
    try:
        time = datetime.fromisoformat(stored)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        log.warning("The stored time %.40r of a tileset's last change cannot be read, and does not count", stored)
        return None
    return time


async def _in_thread(function: Any, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(EXECUTOR, function, *arguments)
