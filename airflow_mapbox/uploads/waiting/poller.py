"""One loop that polls all uploads of an account that tasks wait for: one list request for a hundred of them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from airflow_mapbox.errors import MapboxError, UnexpectedError
from airflow_mapbox.limits import LIST_PAGE, RATE_LIMIT_INTERVAL_SECONDS
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.uploads.errors import NotFoundError, ThrottledError
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.waiting.decide import decide, explain_refusal, is_repeated_refusal, timed_out

if TYPE_CHECKING:
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.models import TokenState
    from airflow_mapbox.uploads.waiting.policy import WaitPolicy, WaitState

log = logging.getLogger(__name__)

T = TypeVar("T")

Connect = Callable[[], Awaitable["UploadsClient"]]

# Request another page of the list only if this many uploads are still missing.
_WORTH_A_PAGE = 10
# Upper bound of single-upload requests a round, so that listed uploads are not delayed. One less than what is worth a
# page, so that the cost of a page without a match stays bounded.
_SINGLE_REQUESTS = _WORTH_A_PAGE - 1
# Leave two thirds of the account's requests to the tasks that create uploads.
_SHARE = 1 / 3
# The limit is 30 or 60 requests a minute, by the age of Mapbox's page. Assume 30 until a reply's headers say the limit.
SECONDS_PER_REQUEST = 60 / 30 / _SHARE
# When the rate limit is reached, many tasks create uploads, and each poll takes a request from them. So the delay after
# a throttled round doubles, up to the time of this many requests. It halves after that many seconds without a 429.
_MAX_DELAY_REQUESTS = 5
_CALM_SECONDS = RATE_LIMIT_INTERVAL_SECONDS
# Waits that start within this time are polled together from the first round.
_GATHER_SECONDS = 1.0
_SECONDS_AFTER_CRASH = 10.0
# A finished upload counts, however late it is seen. So the last poll may take this long after the deadline: it includes
# the delay after a round and one window of the rate limit.
LAST_POLL_SECONDS = 120.0
_CONNECT_SECONDS = 2.0
# Yield to other triggers of the event loop after this many decisions.
_DECISIONS_AT_ONCE = 50


class Account(NamedTuple):
    """The account whose uploads are polled, and the API's address."""

    base_url: str
    username: str

    @classmethod
    def of(cls, client: UploadsClient) -> Account:
        """Return the account of a client."""
        return cls(client.base_url, client.username)


class AccountChangedError(Exception):
    """
    The connection of a wait belongs to another account now.

    :param state: the state with which the wait continues there.
    """

    def __init__(self, state: WaitState) -> None:
        super().__init__(f"The connection belongs to another account now. The wait for {state} continues there.")
        self.state = state


@dataclass(eq=False)
class _Wait:
    """One wait, and the Unix time of its next poll."""

    state: WaitState
    policy: WaitPolicy
    connect: Connect
    due: float
    ended: asyncio.Future[Upload] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Poller:
    """
    All waits of one event loop for uploads of one account.

    The loop works in rounds::

        wait until a poll is due ─► get the clients ─► read the list, page by page ─► request single uploads
                  ▲                (one a connection)   (one request a hundred)       (those not listed, if due)
                  └────────────────────── decide for each upload, wait ◄──────────────────────┘

    Requests run one after another in another thread, at most one in ``seconds_per_request``. After a rate limit's reset
    the same request is sent again, so that no wait falls behind. If the limit is met again and again, rounds become
    rarer. The poller runs while there are waits, and starts again after a crash.

    :param account: the account. Its uploads are polled together, whichever connection a wait came with.
    :param executor: runs the requests.
    :param clock: returns the Unix time.
    :param rng: the source of the jitter.
    :param seconds_per_request: time from one request to the next; None for a third of the account's rate limit, as the
        replies say it.
    :param gather: seconds before the first round.
    :param after_crash: seconds before a crashed loop starts again.
    :param last_poll: seconds that the last poll may take after the deadline.
    :param connect_timeout: seconds that a round waits for connections. Slower ones join a later round.
    """

    def __init__(
        self,
        account: Account,
        executor: Executor,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        seconds_per_request: float | None = None,
        gather: float = _GATHER_SECONDS,
        after_crash: float = _SECONDS_AFTER_CRASH,
        last_poll: float = LAST_POLL_SECONDS,
        connect_timeout: float = _CONNECT_SECONDS,
    ) -> None:
        self._account = account
        self._executor = executor
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._follows_limit = seconds_per_request is None
        self._seconds_per_request = SECONDS_PER_REQUEST if seconds_per_request is None else seconds_per_request
        self._gather = gather
        self._after_crash = after_crash
        self._last_poll = last_poll
        self._connect_timeout = connect_timeout
        self._tokens: dict[UploadsClient, TokenState | MapboxError] = {}
        self._connecting: dict[Connect, asyncio.Future[UploadsClient]] = {}
        self._waits: dict[_Wait, None] = {}  # in the order in which they started
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._next_round = 0.0
        self._next_request = 0.0
        self._list_refused = False
        self._throttled = False
        self._delay = 0.0
        self._delay_set_at = -math.inf

    @property
    def is_idle(self) -> bool:
        """Whether there are no waits."""
        return not self._waits

    async def wait(self, state: WaitState, policy: WaitPolicy, connect: Connect) -> Upload:
        """
        Wait for one upload.

        :param state: the state of the wait so far.
        :param policy: how often to poll, and what ends the wait.
        :param connect: returns the client of the wait's connection. Called in each round, so that a changed connection
            takes effect. The client must raise at a rate limit and must not retry.
        :return: the successful upload.
        :raises AccountChangedError: if ``connect`` returns the client of another account.
        :raises MapboxError: as :func:`~airflow_mapbox.uploads.waiting.decide.decide` does.
        """
        wait = _Wait(state, policy, connect, due=self._clock())
        self._waits[wait] = None
        self._changed.set()
        if self._task is None and self._restart is None:
            self._next_round = max(self._next_round, self._clock() + self._gather)
            self._start()
        remaining = None if policy.deadline is None else max(0.0, policy.deadline - self._clock())
        try:
            # The deadline holds even if the loop crashes.
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    return await asyncio.shield(wait.ended)
            # The last poll may be running or come soon, except during a rate limit.
            if self._next_request - self._clock() <= self._seconds_per_request:
                async with asyncio.timeout(self._last_poll):
                    return await wait.ended
            raise timed_out(wait.state, self._clock())
        except TimeoutError:
            raise timed_out(wait.state, self._clock()) from None
        finally:
            self._waits.pop(wait, None)
            if self.is_idle:
                self._stop()

    def _start(self) -> None:
        # A new context: otherwise the poller's log lines would carry the ids of the first trigger.
        context = contextvars.Context()
        self._restart = None
        self._task = asyncio.create_task(self._run(), name=f"mapbox-poller {self._account.username}", context=context)
        self._task.add_done_callback(self._stopped, context=context)

    def _stop(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._task is not None:
            self._task.cancel()

    def _stopped(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if self.is_idle:
            return
        reason = "it was cancelled" if error is None else f"{type(error).__name__}: {redact(str(error))[:300]}"
        log.error(
            "The poller of %s stopped (%s) during %d waits; it starts again in %g s",
            self._account.username,
            reason,
            len(self._waits),
            self._after_crash,
        )
        self._restart = task.get_loop().call_later(self._after_crash, self._start)

    async def _run(self) -> None:
        while True:
            await self._until(self._due)
            began, self._throttled = self._clock(), False
            await self._round()
            self._adapt_delay()
            min_interval = min((wait.policy.min_interval for wait in self._waits), default=0.0)
            self._next_round = max(self._next_round, began + min_interval, self._clock() + self._delay)

    def _adapt_delay(self) -> None:
        now, shortest = self._clock(), self._seconds_per_request
        if self._throttled:
            self._delay, self._delay_set_at = min(2 * max(self._delay, shortest), _MAX_DELAY_REQUESTS * shortest), now
        elif now - self._delay_set_at >= _CALM_SECONDS:
            self._delay, self._delay_set_at = self._delay / 2 if self._delay > shortest else 0.0, now

    def _due(self) -> float:
        due = min((wait.due for wait in self._waits), default=math.inf)
        return min(max(due, self._next_round), self._clock() + 3600)

    async def _until(self, moment: Callable[[], float]) -> None:
        while (remaining := moment() - self._clock()) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._changed.wait()

    async def _round(self) -> None:
        """Poll every upload: with the list as far as it shows them, the others by themselves once they are due."""
        began = self._clock()
        self._tokens = {}
        clients = await self._clients()
        polled = await self._poll_list(clients)
        single: dict[tuple[UploadsClient, str], list[_Wait]] = {}
        for client, waits in clients.items():
            for wait in waits:
                if wait not in polled and wait.due <= began and not wait.ended.done():
                    single.setdefault((client, wait.state.upload_id), []).append(wait)
        longest_due = sorted(single.items(), key=lambda item: min(wait.due for wait in item[1]))
        for (client, upload_id), waits in longest_due[:_SINGLE_REQUESTS]:
            reply = await _reply(self._request(partial(client.get_upload, upload_id)))
            if isinstance(reply, MapboxError):
                reply = await self._explain(reply, client, waits)
            for wait in waits:
                self._decide(wait, reply, client.server_now())

    async def _explain(self, error: MapboxError, client: UploadsClient, waits: Collection[_Wait]) -> MapboxError:
        """Return the reason of an error. Before a refusal ends a wait, the token is checked, once a round."""
        if not any(is_repeated_refusal(error, wait.state, self._clock()) for wait in waits):
            return error
        if client not in self._tokens:
            self._tokens[client] = await _reply(self._request(client.check_token))
        return explain_refusal(error, partial(_result, self._tokens[client]))

    async def _clients(self) -> dict[UploadsClient, list[_Wait]]:
        """
        Return the waits by client. There is one client unless several connections lead to the account.

        If Airflow cannot return a connection now, its own waits have a failed poll. A slow connection is awaited while
        the other waits are polled.
        """
        by_connection: dict[Connect, list[_Wait]] = {}
        for wait in self._waits:
            by_connection.setdefault(wait.connect, []).append(wait)
        for connect in [connect for connect in self._connecting if connect not in by_connection]:
            self._connecting.pop(connect).cancel()
        for connect in by_connection:
            self._connecting.setdefault(connect, asyncio.ensure_future(connect()))
        await asyncio.wait([self._connecting[connect] for connect in by_connection], timeout=self._connect_timeout)
        clients: dict[UploadsClient, list[_Wait]] = {}
        for connect, waits in by_connection.items():
            client: UploadsClient | MapboxError
            if self._connecting[connect].done():
                client = await _reply(self._connecting.pop(connect))
            else:
                client = UnexpectedError("Airflow has not returned the connection yet.")
                now = self._clock()
                waits = [wait for wait in waits if wait.policy.deadline is not None and now >= wait.policy.deadline]
            for wait in waits:
                if isinstance(client, MapboxError):
                    self._decide(wait, client, self._clock())
                elif Account.of(client) == self._account:
                    clients.setdefault(client, []).append(wait)
                    if self._follows_limit and client.seconds_per_request is not None:
                        self._seconds_per_request = client.seconds_per_request / _SHARE
                else:
                    self._end(wait, AccountChangedError(wait.state))
        return clients

    async def _poll_list(self, clients: dict[UploadsClient, list[_Wait]]) -> set[_Wait]:
        """Read the account's list with the first client that may, and return the waits that this was a poll of."""
        by_upload: dict[str, list[_Wait]] = {}
        for waits in clients.values():
            for wait in waits:
                by_upload.setdefault(wait.state.upload_id, []).append(wait)
        polled: set[_Wait] = set()
        if len(by_upload) < 2:
            return polled
        for client, waits in clients.items():
            search = ListSearch(by_upload.keys() - {wait.state.upload_id for wait in polled})
            try:
                async for upload_id, reply in self._pages(client, search):
                    for wait in by_upload[upload_id]:
                        self._decide(wait, reply, client.server_now())
                        polled.add(wait)
            except NotFoundError as error:
                self._warn_of_missing_list(error)
            except MapboxError as error:
                # It says nothing about the uploads of earlier pages.
                error = await self._explain(error, client, waits)
                for wait in waits:
                    if wait not in polled:
                        self._decide(wait, error, client.server_now())
                        polled.add(wait)
            else:
                break
        return polled

    async def _pages(
        self, client: UploadsClient, search: ListSearch
    ) -> AsyncIterator[tuple[str, Upload | MapboxError]]:
        """Yield the uploads of a search, page by page, as long as another page is worth its request."""
        url: str | None = None
        while search.continues:
            page = await _reply(self._request(partial(client.list_page, url)))
            if isinstance(page, MapboxError):
                raise page
            for number, item in enumerate(search.take(page.items).items(), start=1):
                if number % _DECISIONS_AT_ONCE == 0:
                    await asyncio.sleep(0)
                yield item
            url = page.next
            if url is None:
                return

    async def _request(self, call: Callable[[], T]) -> T:
        """Make one request when it is due. After a rate limit, make the same request again at the reset."""
        while True:
            await self._until(lambda: self._next_request)
            self._next_request = self._clock() + self._seconds_per_request
            try:
                return await asyncio.get_running_loop().run_in_executor(self._executor, call)
            except ThrottledError as error:
                log.info("%s", error)
                self._throttled = True
                self._next_request = max(self._next_request, self._clock() + error.retry_after)
            except MapboxError as error:
                self._next_request = max(self._next_request, self._clock() + (error.retry_after or 0.0))
                raise

    def _decide(self, wait: _Wait, reply: Upload | MapboxError, server_now: float) -> None:
        if wait.ended.done():
            return
        now = self._clock()
        try:
            decision = decide(reply, wait.state, wait.policy, now=now, server_now=server_now, rng=self._rng)
        except MapboxError as error:
            self._end(wait, error)
            return
        wait.state, wait.due = decision.state, now + decision.delay
        if decision.upload is not None:
            self._end(wait, decision.upload)

    def _end(self, wait: _Wait, result: Upload | Exception) -> None:
        # Remove it at once: its coroutine may run only after the next round has started.
        self._waits.pop(wait, None)
        if wait.ended.done():
            return
        if isinstance(result, Upload):
            wait.ended.set_result(result)
        else:
            wait.ended.set_exception(result)

    def _warn_of_missing_list(self, error: NotFoundError) -> None:
        if not self._list_refused:
            log.warning("%s Without the list, each upload takes a request of its own.", error)
        self._list_refused = True


async def _reply(work: Awaitable[T]) -> T | MapboxError:
    """Return the result or the error. An unexpected error counts as transient, so that it ends no other wait."""
    try:
        return await work
    except MapboxError as error:
        return error
    except Exception as error:
        problem = f"{type(error).__name__}: {redact(str(error))[:300]}"
    log.warning("A poll failed with an unexpected error (%s)", problem)
    return UnexpectedError(f"The poll failed with an unexpected error ({problem}).")


def _result(reply: T | MapboxError) -> T:
    if isinstance(reply, MapboxError):
        raise reply
    return reply


class ListSearch:
    """
    A search for uploads in the account's list, newest first, that costs no more requests than it saves.

    It takes one request for each hundred uploads. If many are still missing then, because other uploads stand between
    them, it continues while pages show some of them. A few missing uploads cost less as single requests.

    :param ids: ids of the uploads.
    """

    def __init__(self, ids: Collection[str]) -> None:
        self._missing = set(ids)
        self._pages = math.ceil(len(ids) / LIST_PAGE)
        self._requests = 0
        self._on_last_page = 0

    @property
    def continues(self) -> bool:
        """Whether another page is worth its request."""
        if self._requests < self._pages:
            return bool(self._missing)
        return self._on_last_page > 1 and len(self._missing) >= _WORTH_A_PAGE

    def take(self, items: Sequence[object]) -> dict[str, Upload | MapboxError]:
        """
        Take the uploads of a page.

        :param items: the page's items, at most a hundred.
        :return: the uploads of this search by id, or the error of each that cannot be read. Other uploads are ignored,
            so that an unreadable one affects no wait.
        """
        uploads: dict[str, Upload | MapboxError] = {}
        for item in items:
            upload_id = item.get("id") if isinstance(item, dict) else None
            if isinstance(upload_id, str) and upload_id in self._missing:
                self._missing.remove(upload_id)
                try:
                    uploads[upload_id] = Upload.from_json(item)
                except MapboxError as error:
                    uploads[upload_id] = error
        self._requests += 1
        self._on_last_page = len(uploads)
        return uploads
