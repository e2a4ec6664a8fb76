"""The trigger that waits for an upload; all triggers of an account in one triggerer share a poller."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mapbox.errors import MapboxError, without_frames
from airflow_mapbox.http.retry import ONE_TRY
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.tasks.connection import client_of, no_connection
from airflow_mapbox.tasks.events import told
from airflow_mapbox.uploads.waiting.decide import Terms, Watch, timed_out
from airflow_mapbox.uploads.waiting.poller import Account, AccountChangedError, Poller

if TYPE_CHECKING:
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.models import Upload

# The loop's own pool serves the triggerer's logging too, which requests that hang must not hold up.
_EXECUTOR = ThreadPoolExecutor(max_workers=2, thread_name_prefix="mapbox-uploads")
# Seconds for a connection, for the next bytes, and for a whole answer: less than in a task, since two threads serve
# every wait of the triggerer.
_TIMEOUT = (5.0, 15.0, 45.0)
_FIELDS = ("conn_type", "schema", "host", "port", "login", "password")

_SECONDS_AFTER_FAULT = 10.0
# Seconds that a connection may take beyond the deadline.
_SECONDS_TO_CONNECT = 5.0
# Seconds for which a connection is asked for where a wait has no deadline.
_LONGEST_CONNECTING = 3600.0

log = logging.getLogger(__name__)


class UploadCompleteTrigger(BaseTrigger):
    """
    Wait for an upload in the triggerer.

    It fires once: with the finished or failed upload, or with what ended the wait instead; see
    :mod:`airflow_mapbox.tasks.events`. Its arguments are JSON without a secret, and times are absolute, so that a
    triggerer that starts it again keeps to the same deadline; of the progress it knows only what the task knew.

    :param upload_id: the upload.
    :param mapbox_conn_id: the connection.
    :param poll_interval: seconds between two looks, at least.
    :param max_wait: seconds between two looks, at most, but for a rate limit; None for no bound.
    :param stall_timeout: seconds without progress that end the wait; None for any number.
    :param deadline: unix time that ends the wait; None for never.
    :param not_before: unix time before which it does not fire, since a task that is queued again before the scheduler
        has read of its exit is marked failed; None for at once.
    :param watch: the state of the wait so far, from :meth:`airflow_mapbox.uploads.waiting.decide.Watch.to_json`.
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
        not_before: float | None = None,
        watch: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.upload_id = upload_id
        self.mapbox_conn_id = mapbox_conn_id
        self.terms = Terms(poll_interval, max_wait, stall_timeout, deadline)
        self.not_before = not_before
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
                "not_before": self.not_before,
                "watch": self.watch.to_json(),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        watch = self.watch
        while True:
            try:
                upload = await _shared().wait(self.mapbox_conn_id, watch, self.terms)
            except AccountChangedError as changed:
                watch = changed.watch
                continue
            except Exception as error:
                # What a trigger raises goes to the database as a traceback, and the task learns nothing of it.
                event = told(error)
            else:
                event = told(upload)
            break
        if self.not_before is not None:
            await asyncio.sleep(max(0.0, self.not_before - time.time()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]


class _Shared:
    """What the triggers of one event loop have in common: a client for each connection, a poller for each account."""

    def __init__(self) -> None:
        self.pollers: dict[Account, Poller] = {}
        self._connectors: dict[str, _Connector] = {}
        self._users: Counter[str] = Counter()

    async def wait(self, conn_id: str, watch: Watch, terms: Terms) -> Upload:
        """
        Wait for an upload together with whoever else waits for one of the account's.

        :param conn_id: of the connection.
        :param watch: what is known of the upload.
        :param terms: how the wait goes on.
        :raises AccountChangedError: where the connection leads to another account than at the beginning.
        :raises MapboxError: as :meth:`~airflow_mapbox.uploads.waiting.poller.Poller.wait` has it.
        """
        connector = self._connectors.setdefault(conn_id, _Connector(conn_id))
        self._users[conn_id] += 1
        try:
            account = Account.of(await self._client(connector, watch, terms))
            poller = self.pollers.setdefault(account, Poller(account, _EXECUTOR))
            try:
                return await poller.wait(watch, terms, connector.client)
            finally:
                # Forgotten once nobody waits.
                if poller.is_idle and self.pollers.get(account) is poller:
                    del self.pollers[account]
        finally:
            self._users[conn_id] -= 1
            if not self._users[conn_id]:
                del self._users[conn_id], self._connectors[conn_id]

    async def _client(self, connector: _Connector, watch: Watch, terms: Terms) -> UploadsClient:
        """Ask for the client until it comes, as where all of Airflow is started again, or the deadline does."""
        problem: Exception | None = None
        deadline = time.time() + _LONGEST_CONNECTING if terms.deadline is None else terms.deadline
        try:
            # An upload that is done is done, also for a triggerer that starts after the deadline.
            async with asyncio.timeout(max(0.0, deadline - time.time()) + _SECONDS_TO_CONNECT):
                while True:
                    try:
                        return await connector.client()
                    except Exception as error:
                        if isinstance(error, MapboxError) and not error.retryable:
                            raise
                        problem = error
                    said = redact(str(problem))[:300]
                    log.warning("%s: %s\nTrying again in %g s", connector, said, _SECONDS_AFTER_FAULT)
                    await asyncio.sleep(_SECONDS_AFTER_FAULT)
        except TimeoutError:
            pass
        raise timed_out(watch, time.time(), problem)


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


def _shared() -> _Shared:
    return _of_loops.setdefault(asyncio.get_running_loop(), _Shared())


class _Connector:
    """
    Gives the client of a connection as it now is; the same one while the connection stays the same.

    :param conn_id: of the connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._made_of: tuple[Any, ...] | None = None
        self._client: UploadsClient | None = None
        self._missing = False
        self._making = asyncio.Lock()

    def __str__(self) -> str:
        return f"Connection {self._conn_id}"

    @without_frames
    async def client(self) -> UploadsClient:
        """
        Return the client of the connection as it is now, or as it was if Airflow does not give it just now.

        :raises ConnectionNotFoundError: if Airflow has not given it yet.
        :raises ConfigurationError: if it cannot be used.
        """
        connection = None
        with suppress(AirflowNotFoundException):
            connection = await BaseHook.aget_connection(self._conn_id)
        if connection is None:
            if self._client is None:
                raise no_connection(self._conn_id)
            if not self._missing:
                log.warning("%s is not found just now; the waits continue with what it was before", self)
            self._missing = True
            return self._client
        self._missing = False
        # What the client is made of, and no extra: reading that would call the supervisor from the event loop.
        made_of = tuple(getattr(connection, name) for name in _FIELDS)
        async with self._making:  # once, however many triggers begin together
            if self._client is None or made_of != self._made_of:
                make = partial(client_of, connection, ONE_TRY, timeout=_TIMEOUT)
                self._client = await asyncio.get_running_loop().run_in_executor(_EXECUTOR, make)
                self._made_of = made_of
            return self._client
