"""The trigger that waits for an upload; all triggers of a connection in one triggerer share a poller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mapbox.connections import client_of, no_connection
from airflow_mapbox.events import told
from airflow_mapbox.uploads.poller import Poller
from airflow_mapbox.uploads.throttle import ONE_TRY
from airflow_mapbox.uploads.watch import Terms, Watch

if TYPE_CHECKING:
    from airflow_mapbox.uploads.client import UploadsClient

# The loop's own pool serves the triggerer's logging too, which requests that hang must not hold up.
_EXECUTOR = ThreadPoolExecutor(max_workers=2, thread_name_prefix="mapbox-uploads")
# Seconds for a connection, for the next bytes, and for a whole answer: less than in a task, since two threads serve
# every wait of the triggerer.
_TIMEOUT = (5.0, 15.0, 45.0)
_FIELDS = ("conn_type", "schema", "host", "port", "login", "password")

_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = WeakKeyDictionary()


class UploadCompleteTrigger(BaseTrigger):
    """
    Wait for an upload in the triggerer.

    It fires once: with the finished or failed upload, or with what ended the wait instead; see
    :mod:`airflow_mapbox.events`. All that it is made of is JSON without a secret, and times are absolute, so that a
    triggerer that starts it again goes on with the same clocks.

    :param upload_id: the upload.
    :param mapbox_conn_id: the connection.
    :param poll_interval: seconds between two looks, at least.
    :param max_wait: seconds between two looks, at most, but for a rate limit; None for no bound.
    :param stall_timeout: seconds without progress that end the wait; None for any number.
    :param deadline: unix time that ends the wait; None for never.
    :param watch: what earlier looks have shown, as :meth:`airflow_mapbox.uploads.watch.Watch.to_json` gives it.
    """

    def __init__(
        self,
        upload_id: str,
        mapbox_conn_id: str = "mapbox_default",
        *,
        poll_interval: float = 10.0,
        max_wait: float | None = 120.0,
        stall_timeout: float | None = None,
        deadline: float | None = None,
        watch: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.upload_id = upload_id
        self.mapbox_conn_id = mapbox_conn_id
        self.terms = Terms(poll_interval, max_wait, stall_timeout, deadline)
        self.watch = Watch.from_json(watch or {}, upload_id) or Watch(upload_id, since=time.time())

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class and the arguments that make the same trigger elsewhere."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "upload_id": self.upload_id,
                "mapbox_conn_id": self.mapbox_conn_id,
                "poll_interval": self.terms.floor,
                "max_wait": self.terms.ceiling,
                "stall_timeout": self.terms.stall_timeout,
                "deadline": self.terms.deadline,
                "watch": self.watch.to_json(),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        try:
            async with _poller(self.mapbox_conn_id) as poller:
                event = told(await poller.wait(self.watch, self.terms))
        except Exception as error:
            # What a trigger raises goes to the database as a traceback, and the task learns nothing of it.
            event = told(error)
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def _poller(conn_id: str) -> AsyncIterator[Poller]:
    """Give the poller that this event loop has for a connection, and forget it once nobody waits."""
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    if conn_id not in pollers:
        pollers[conn_id] = Poller(_Connector(conn_id).client, _EXECUTOR, name=f"connection {conn_id}")
    poller = pollers[conn_id]
    try:
        yield poller
    finally:
        if poller.is_idle and pollers.get(conn_id) is poller:
            del pollers[conn_id]


class _Connector:
    """
    Gives the client of a connection as it now is; the same one while the connection stays the same.

    :param conn_id: of the connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._made_of: tuple[Any, ...] | None = None
        self._client: UploadsClient | None = None

    async def client(self) -> UploadsClient:
        """
        Give the client.

        :raises ConfigurationError: where the connection is missing or cannot be used.
        """
        connection = None
        with suppress(AirflowNotFoundException):
            connection = await BaseHook.aget_connection(self._conn_id)
        if connection is None:
            raise no_connection(self._conn_id)
        # What the client is made of, and no extra: reading that would call the supervisor from the event loop.
        made_of = tuple(getattr(connection, name) for name in _FIELDS)
        if self._client is None or made_of != self._made_of:
            make = partial(client_of, connection, ONE_TRY, timeout=_TIMEOUT)
            self._client = await asyncio.get_running_loop().run_in_executor(_EXECUTOR, make)
            self._made_of = made_of
        return self._client
