"""The trigger that waits for an upload. All triggers of an account in one triggerer share a poller."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mapbox import defaults
from airflow_mapbox.errors import MapboxError
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.tasks.events import to_event
from airflow_mapbox.tasks.rescheduling import min_reschedule_delay
from airflow_mapbox.triggers.connector import EXECUTOR, Connector
from airflow_mapbox.uploads.waiting.decide import timed_out
from airflow_mapbox.uploads.waiting.policy import WaitPolicy, WaitState
from airflow_mapbox.uploads.waiting.poller import Account, AccountChangedError, Poller

if TYPE_CHECKING:
    from airflow_mapbox.tasks.wait import TaskWait
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.models import Upload

_SECONDS_AFTER_FAULT = 10.0
# A connection may take this many seconds after the deadline.
_CONNECT_SECONDS = 5.0
# Ask for a connection for this many seconds if the wait has no deadline.
_MAX_CONNECT_SECONDS = 3600.0

log = logging.getLogger(__name__)


class UploadCompleteTrigger(BaseTrigger):
    """
    Wait for an upload in the triggerer.

    It fires once, with the finished or failed upload or with the error that ended the wait; see
    ``airflow_mapbox.tasks.events``. Its arguments are JSON without a secret, and its times are absolute. So the
    deadline stays the same if a triggerer starts it again.

    :param upload_id: the upload.
    :param mapbox_conn_id: the connection.
    :param poll_interval: shortest time between two polls, in seconds.
    :param max_wait: longest time between two polls, in seconds. A rate limit may make it longer. None for no bound.
    :param stall_timeout: end the wait after this many seconds without progress; None for never.
    :param deadline: Unix time that ends the wait; None for never.
    :param not_before: Unix time before which it does not fire; None for at once. A task that is queued before the
        scheduler has seen its exit is marked as failed.
    :param state: the state of the wait, from ``WaitState.to_json``. A triggerer that starts the trigger again begins
        with this state.
    """

    def __init__(
        self,
        upload_id: str,
        mapbox_conn_id: str = defaults.CONN_ID,
        *,
        poll_interval: float = defaults.MIN_POLL_INTERVAL,
        max_wait: float | None = defaults.MAX_POLL_INTERVAL,
        stall_timeout: float | None = None,
        deadline: float | None = None,
        not_before: float | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.upload_id = upload_id
        self.mapbox_conn_id = mapbox_conn_id
        self.policy = WaitPolicy(poll_interval, max_wait, stall_timeout, deadline)
        self.not_before = not_before
        self.state = WaitState.from_json(state or {}, upload_id) or WaitState(upload_id, started=time.time())

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments that make the same trigger in another process."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "upload_id": self.upload_id,
                "mapbox_conn_id": self.mapbox_conn_id,
                "poll_interval": self.policy.min_interval,
                "max_wait": self.policy.max_interval,
                "stall_timeout": self.policy.stall_timeout,
                "deadline": self.policy.deadline,
                "not_before": self.not_before,
                "state": self.state.to_json(),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire once."""
        state = self.state
        while True:
            try:
                result, base_url = await _shared().wait(self.mapbox_conn_id, state, self.policy)
            except AccountChangedError as changed:
                state = changed.state
                continue
            except Exception as error:
                # Airflow stores what a trigger raises as a traceback in its database, and tells the task nothing.
                event = to_event(error)
            else:
                event = to_event(result, base_url)
            break
        if self.not_before is not None:
            await asyncio.sleep(max(0.0, self.not_before - time.time()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]


def deferral(wait: TaskWait, policy: WaitPolicy, mapbox_conn_id: str) -> dict[str, Any]:
    """
    Save a task's wait, and return the arguments with which the task defers: the trigger, and Airflow's own timeout.

    :param wait: the wait.
    :param policy: how often to poll, and what ends the wait.
    :param mapbox_conn_id: the connection.
    """
    wait.save(wait.state)
    trigger = UploadCompleteTrigger(
        wait.state.upload_id,
        mapbox_conn_id,
        poll_interval=policy.min_interval,
        max_wait=policy.max_interval,
        stall_timeout=policy.stall_timeout,
        deadline=policy.deadline,
        not_before=wait.now() + min_reschedule_delay(),
        state=wait.state.to_json(),
    )
    return {"trigger": trigger, "timeout": wait.deferral_timeout(policy)}


class _Shared:
    """What the triggers of one event loop share: a client for each connection, a poller for each account."""

    def __init__(self) -> None:
        self.pollers: dict[Account, Poller] = {}
        self._connectors: dict[str, Connector] = {}
        self._users: Counter[str] = Counter()

    async def wait(self, conn_id: str, state: WaitState, policy: WaitPolicy) -> tuple[Upload | Exception, str]:
        """
        Wait for an upload, together with the other waits for uploads of its account.

        Return the finished upload or the error that ended the wait, and the base URL of the API.

        :param conn_id: the connection.
        :param state: the state of the wait.
        :param policy: how often to poll, and what ends the wait.
        :raises AccountChangedError: if the connection belongs to another account than when the wait started.
        :raises MapboxError: if the connection cannot be used.
        """
        connector = self._connectors.setdefault(conn_id, Connector(conn_id))
        self._users[conn_id] += 1
        try:
            account = Account.of(await self._client(connector, state, policy))
            poller = self.pollers.setdefault(account, Poller(account, EXECUTOR))
            try:
                return await poller.wait(state, policy, connector.client), account.base_url
            except AccountChangedError:
                raise
            except Exception as error:
                return error, account.base_url
            finally:
                if poller.is_idle and self.pollers.get(account) is poller:
                    del self.pollers[account]
        finally:
            self._users[conn_id] -= 1
            if not self._users[conn_id]:
                del self._users[conn_id], self._connectors[conn_id]

    async def _client(self, connector: Connector, state: WaitState, policy: WaitPolicy) -> UploadsClient:
        """Return the client. Ask for it until the deadline, because all of Airflow may just be restarting."""
        problem: Exception | None = None
        deadline = time.time() + _MAX_CONNECT_SECONDS if policy.deadline is None else policy.deadline
        try:
            # A finished upload counts, even if the triggerer starts after the deadline.
            async with asyncio.timeout(max(0.0, deadline - time.time()) + _CONNECT_SECONDS):
                while True:
                    try:
                        return await connector.client()
                    except Exception as error:
                        if isinstance(error, MapboxError) and not error.retryable:
                            raise
                        problem = error
                    message = redact(str(problem))[:300]
                    log.warning("%s: %s\nRetrying in %g s", connector, message, _SECONDS_AFTER_FAULT)
                    await asyncio.sleep(_SECONDS_AFTER_FAULT)
        except TimeoutError:
            pass
        raise timed_out(state, time.time(), problem)


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


def _shared() -> _Shared:
    return _by_loop.setdefault(asyncio.get_running_loop(), _Shared())
