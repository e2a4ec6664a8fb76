"""The clients of connections in the triggerer, and the threads that their requests run in."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mapbox.errors import without_frames
from airflow_mapbox.http.retry import ONE_TRY
from airflow_mapbox.tasks.connection import client_of, no_connection

if TYPE_CHECKING:
    from airflow_mapbox.uploads.client import UploadsClient

# The event loop's own thread pool also serves the triggerer's logging. Requests that hang must not block it.
EXECUTOR = ThreadPoolExecutor(max_workers=2, thread_name_prefix="mapbox-triggers")
# Seconds to connect, for the next bytes, and for the whole reply. Shorter than in a task, because two threads serve all
# waits of the triggerer.
_TIMEOUT = (5.0, 15.0, 45.0)
# The fields of a connection that its client is made of.
_FIELDS = ("conn_type", "schema", "host", "port", "login", "password")

log = logging.getLogger(__name__)


class Connector:
    """
    Returns the client of a connection, and keeps it while the connection stays the same.

    :param conn_id: the connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._fields: tuple[Any, ...] | None = None
        self._client: UploadsClient | None = None
        self._missing = False
        self._lock = asyncio.Lock()

    def __str__(self) -> str:
        return f"Connection {self._conn_id}"

    @without_frames
    async def client(self) -> UploadsClient:
        """
        Return the client of the connection as it is now. If Airflow cannot find it now, return the last client.

        :raises ConnectionNotFoundError: if Airflow has never found the connection.
        :raises ConfigurationError: if it cannot be used.
        """
        connection = None
        with suppress(AirflowNotFoundException):
            connection = await BaseHook.aget_connection(self._conn_id)
        if connection is None:
            if self._client is None:
                raise no_connection(self._conn_id)
            if not self._missing:
                log.warning("Airflow cannot find %s at the moment. The waits continue with its last values", self)
            self._missing = True
            return self._client
        self._missing = False
        # Without the extra: reading that would call the supervisor from the event loop.
        fields = tuple(getattr(connection, name) for name in _FIELDS)
        async with self._lock:  # one client, however many triggers start together
            if self._client is None or fields != self._fields:
                make = partial(client_of, connection, ONE_TRY, timeout=_TIMEOUT)
                self._client = await asyncio.get_running_loop().run_in_executor(EXECUTOR, make)
                self._fields = fields
            return self._client
