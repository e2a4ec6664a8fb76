"""One loop that asks for every upload of an account that is waited for: a list request for a hundred."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from airflow_mapbox.errors import MapboxError, UnexpectedError
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.uploads.errors import NotFoundError, ThrottledError
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.waiting.decide import Terms, Watch, explain_refusal, judge, timed_out

if TYPE_CHECKING:
    from airflow_mapbox.uploads.client import UploadsClient
    from airflow_mapbox.uploads.models import TokenState

log = logging.getLogger(__name__)

T = TypeVar("T")

Connect = Callable[[], Awaitable["UploadsClient"]]

_PAGE = 100  # "up to 100" (Uploads API, "Retrieve recent upload statuses")
# Uploads that a further page of the list should be able to show.
_WORTH_A_PAGE = 10
# Uploads that a round asks for by themselves, at most: those that the list shows are not to wait for long. One less
# than what is worth a page, so that a page asked for in vain is made up for.
_SINGLE_LOOKS = _WORTH_A_PAGE - 1
# At this rate waiting leaves two thirds of Mapbox's 30 requests a minute to those that create uploads.
SECONDS_PER_REQUEST = 6.0
# Where the limit is spent, those who create uploads are many, and each request for waiting is one that they lack. So
# the pause after a round that met the limit is twice the one before, up to so many requests' time, and it is halved
# when the limit was not met for so many seconds, Mapbox's window.
_LONGEST_PAUSE = 5
_CALM = 60.0
# Waits that begin within this time are asked for together from the first look on.
_GATHERING = 1.0
_SECONDS_AFTER_CRASH = 10.0
# An upload that is done is done however late it is looked at: what a look at the deadline may take, the pause
# after a round and a rate limit's window before it included.
LAST_LOOK = 120.0
_SECONDS_TO_CONNECT = 2.0
# Between these the loop is let go, which other triggers need too.
_JUDGED_AT_ONCE = 50


class Account(NamedTuple):
    """Whose uploads are asked for, and where."""

    base_url: str
    username: str

    @classmethod
    def of(cls, client: UploadsClient) -> Account:
        """Give a client's."""
        return cls(client.base_url, client.username)


class AccountChangedError(Exception):
    """
    The connection of a wait leads to another account now.

    :param watch: what the wait goes on with there.
    """

    def __init__(self, watch: Watch) -> None:
        super().__init__(f"The connection leads to another account now, where {watch} is waited for further.")
        self.watch = watch


@dataclass(eq=False)
class _Waiting:
    """One wait, and when it is to be looked at next."""

    watch: Watch
    terms: Terms
    connect: Connect
    due: float
    ended: asyncio.Future[Upload] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Poller:
    """
    The waits of one event loop for uploads of one account.

    Requests are made one after another in another thread, and never faster than ``seconds_per_request``; the loop
    itself only waits. A rate limit is waited out and the request that met it made again, so that none of the waits
    falls behind; where it is met again and again, rounds become rarer. The poller runs while anybody waits, and is
    started again where it crashed.

    :param account: all of whose uploads, whatever connection a wait came with, are asked for together.
    :param executor: where requests are made.
    :param clock: gives the unix time.
    :param rng: the source of the jitter.
    :param seconds_per_request: from one request to the next.
    :param gathering: seconds before the first round.
    :param after_crash: seconds before a crashed loop is started again.
    :param last_look: seconds that a wait's last look may take beyond the deadline.
    :param connecting: seconds that a round waits for connections; slower ones take part in a later round.
    """

    def __init__(
        self,
        account: Account,
        executor: Executor,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        seconds_per_request: float = SECONDS_PER_REQUEST,
        gathering: float = _GATHERING,
        after_crash: float = _SECONDS_AFTER_CRASH,
        last_look: float = LAST_LOOK,
        connecting: float = _SECONDS_TO_CONNECT,
    ) -> None:
        self._account = account
        self._executor = executor
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._seconds_per_request = seconds_per_request
        self._gathering = gathering
        self._after_crash = after_crash
        self._last_look = last_look
        self._connecting_seconds = connecting
        self._tokens: dict[UploadsClient, TokenState | MapboxError] = {}
        self._connecting: dict[Connect, asyncio.Future[UploadsClient]] = {}
        self._waiting: dict[_Waiting, None] = {}  # in the order of their coming
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._next_round = 0.0
        self._next_request = 0.0
        self._list_refused = False
        self._throttled = False
        self._pause = 0.0
        self._pause_of = -math.inf

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting

    async def wait(self, watch: Watch, terms: Terms, connect: Connect) -> Upload:
        """
        Wait for one upload.

        :param watch: what is known of it.
        :param terms: how the wait goes on; ``stall_timeout`` and ``deadline`` end it.
        :param connect: gives the client of the wait's connection; asked at each round, so that a changed connection is
            followed. Its retry policy must be one try that raises at a rate limit.
        :return: the successful upload.
        :raises AccountChangedError: where ``connect`` gives the client of another account.
        :raises MapboxError: as :func:`~airflow_mapbox.uploads.waiting.decide.judge` has it.
        """
        waiting = _Waiting(watch, terms, connect, due=self._clock())
        self._waiting[waiting] = None
        self._changed.set()
        if self._task is None and self._restart is None:
            self._next_round = max(self._next_round, self._clock() + self._gathering)
            self._start()
        left = None if terms.deadline is None else max(0.0, terms.deadline - self._clock())
        try:
            # The deadline holds whatever becomes of the loop.
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    return await asyncio.shield(waiting.ended)
            # A last look may be under way or come soon, but while a rate limit lasts none does.
            if self._next_request - self._clock() <= self._seconds_per_request:
                async with asyncio.timeout(self._last_look):
                    return await waiting.ended
            raise timed_out(waiting.watch, self._clock())
        except TimeoutError:
            raise timed_out(waiting.watch, self._clock()) from None
        finally:
            self._waiting.pop(waiting, None)
            if self.is_idle:
                self._stop()

    def _start(self) -> None:
        # An own context, or its log lines would carry the ids of the trigger that happened to come first.
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
            "The poller of %s stopped (%s) while %d uploads are waited for; starting it again in %g s",
            self._account.username,
            reason,
            len(self._waiting),
            self._after_crash,
        )
        self._restart = task.get_loop().call_later(self._after_crash, self._start)

    async def _run(self) -> None:
        while True:
            await self._until(self._due)
            began, self._throttled = self._clock(), False
            await self._round()
            self._adapt_pause()
            floor = min((one.terms.floor for one in self._waiting), default=0.0)
            self._next_round = max(self._next_round, began + floor, self._clock() + self._pause)

    def _adapt_pause(self) -> None:
        now, shortest = self._clock(), self._seconds_per_request
        if self._throttled:
            self._pause, self._pause_of = min(2 * max(self._pause, shortest), _LONGEST_PAUSE * shortest), now
        elif now - self._pause_of >= _CALM:
            self._pause, self._pause_of = self._pause / 2 if self._pause > shortest else 0.0, now

    def _due(self) -> float:
        due = min((one.due for one in self._waiting), default=math.inf)
        return min(max(due, self._next_round), self._clock() + 3600)

    async def _until(self, moment: Callable[[], float]) -> None:
        while (left := moment() - self._clock()) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    async def _round(self) -> None:
        """Look at every upload that is waited for, those that no list shows only where they are due."""
        began = self._clock()
        self._tokens = {}
        clients = await self._clients()
        judged = await self._list(clients)
        by_itself: dict[tuple[UploadsClient, str], list[_Waiting]] = {}
        for client, own in clients.items():
            for one in own:
                if one not in judged and one.due <= began and not one.ended.done():
                    by_itself.setdefault((client, one.watch.upload_id), []).append(one)
        longest = sorted(by_itself.items(), key=lambda item: min(one.due for one in item[1]))
        for (client, upload_id), waiting in longest[:_SINGLE_LOOKS]:
            seen = await _outcome(self._ask(partial(client.get_upload, upload_id)))
            if isinstance(seen, MapboxError):
                seen = await self._explained(seen, client, waiting)
            for one in waiting:
                self._judge(one, seen, client.server_now())

    async def _explained(self, error: MapboxError, client: UploadsClient, waiting: Collection[_Waiting]) -> MapboxError:
        """Return what explains an error: of a refusal that ends a wait the token is asked first, once a round."""
        if not any(one.watch.is_refused_again(error, self._clock()) for one in waiting):
            return error
        if client not in self._tokens:
            self._tokens[client] = await _outcome(self._ask(client.check_token))
        return explain_refusal(error, partial(_result, self._tokens[client]))

    async def _clients(self) -> dict[UploadsClient, list[_Waiting]]:
        """
        Return the waits by client: one for all unless they came with several connections to the account.

        A connection that cannot be had just now is a failed look of its own waits. One that takes long is asked for on,
        while the other waits are looked at.
        """
        own: dict[Connect, list[_Waiting]] = {}
        for one in self._waiting:
            own.setdefault(one.connect, []).append(one)
        for connect in [connect for connect in self._connecting if connect not in own]:
            self._connecting.pop(connect).cancel()
        for connect in own:
            self._connecting.setdefault(connect, asyncio.ensure_future(connect()))
        await asyncio.wait([self._connecting[connect] for connect in own], timeout=self._connecting_seconds)
        clients: dict[UploadsClient, list[_Waiting]] = {}
        for connect, waits in own.items():
            outcome: UploadsClient | MapboxError
            if self._connecting[connect].done():
                outcome = await _outcome(self._connecting.pop(connect))
            else:
                outcome = UnexpectedError("Airflow does not answer for the connection.")
                waits = [one for one in waits if one.terms.deadline is not None and self._clock() >= one.terms.deadline]
            for one in waits:
                if isinstance(outcome, MapboxError):
                    self._judge(one, outcome, self._clock())
                elif Account.of(outcome) == self._account:
                    clients.setdefault(outcome, []).append(one)
                else:
                    self._end(one, AccountChangedError(one.watch))
        return clients

    async def _list(self, clients: dict[UploadsClient, list[_Waiting]]) -> set[_Waiting]:
        """Look into the account's list, with the first client that may; give the waits of which that was a look."""
        waiting: dict[str, list[_Waiting]] = {}
        for own in clients.values():
            for one in own:
                waiting.setdefault(one.watch.upload_id, []).append(one)
        judged: set[_Waiting] = set()
        if len(waiting) < 2:
            return judged
        for client, own in clients.items():
            search, url = Search(waiting.keys() - {one.watch.upload_id for one in judged}), None
            try:
                while search.goes_on:
                    page = await _outcome(self._ask(partial(client.list_page, url)))
                    if isinstance(page, MapboxError):
                        raise page
                    for number, (upload_id, seen) in enumerate(search.take(page.items).items(), start=1):
                        if number % _JUDGED_AT_ONCE == 0:
                            await asyncio.sleep(0)
                        for one in waiting[upload_id]:
                            self._judge(one, seen, client.server_now())
                            judged.add(one)
                    url = page.next
                    if url is None:
                        break
            except NotFoundError as error:
                self._note_refused_list(error)
            except MapboxError as error:
                # Of what the pages before have shown it says nothing.
                error = await self._explained(error, client, own)
                for one in own:
                    if one not in judged:
                        self._judge(one, error, client.server_now())
                        judged.add(one)
            else:
                break
        return judged

    async def _ask(self, call: Callable[[], T]) -> T:
        """Make one request when its time has come; one that meets a rate limit is made again at the reset."""
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

    def _judge(self, waiting: _Waiting, seen: Upload | MapboxError, server_now: float) -> None:
        if waiting.ended.done():
            return
        now = self._clock()
        try:
            following = judge(seen, waiting.watch, waiting.terms, now=now, server_now=server_now, rng=self._rng)
        except MapboxError as error:
            self._end(waiting, error)
            return
        waiting.watch, waiting.due = following.watch, now + following.pause
        if following.upload is not None:
            self._end(waiting, following.upload)

    def _end(self, waiting: _Waiting, ended: Upload | Exception) -> None:
        # Forgotten at once: whoever waits may be heard only after a further round has begun.
        self._waiting.pop(waiting, None)
        if waiting.ended.done():
            return
        if isinstance(ended, Upload):
            waiting.ended.set_result(ended)
        else:
            waiting.ended.set_exception(ended)

    def _note_refused_list(self, error: NotFoundError) -> None:
        if not self._list_refused:
            log.warning("%s Without it each upload is asked for by itself, which takes a request each.", error)
        self._list_refused = True


async def _outcome(work: Awaitable[T]) -> T | MapboxError:
    """Return the result, or the error; one that is not this package's may pass too, and must end no other wait."""
    try:
        return await work
    except MapboxError as error:
        return error
    except Exception as error:
        problem = f"{type(error).__name__}: {redact(str(error))[:300]}"
    log.warning("A look failed with an error that was not foreseen (%s)", problem)
    return UnexpectedError(f"The look failed with an error that was not foreseen ({problem}).")


def _result(outcome: T | MapboxError) -> T:
    if isinstance(outcome, MapboxError):
        raise outcome
    return outcome


class Search:
    """
    A search for uploads in the account's list, newest first, that takes no more requests than it spares.

    A request for each hundred that is looked for. Where many are missing then, as other uploads stand between them, the
    list is followed for as long as it brings some; a few are asked for more cheaply by themselves.

    :param ids: of the uploads.
    """

    def __init__(self, ids: Collection[str]) -> None:
        self._missing = set(ids)
        self._pages = math.ceil(len(ids) / _PAGE)
        self._requests = 0
        self._brought = 0

    @property
    def goes_on(self) -> bool:
        """Whether a further page is worth its request."""
        if self._requests < self._pages:
            return bool(self._missing)
        return self._brought > 1 and len(self._missing) >= _WORTH_A_PAGE

    def take(self, items: Sequence[object]) -> dict[str, Upload | MapboxError]:
        """
        Take what a request has brought.

        :param items: of a page, which may be short.
        :return: what it says of uploads that are searched for, by id. What others are is not looked at: one of them
            that makes no sense stops no wait.
        """
        found: dict[str, Upload | MapboxError] = {}
        for item in items:
            upload_id = item.get("id") if isinstance(item, dict) else None
            if isinstance(upload_id, str) and upload_id in self._missing:
                self._missing.remove(upload_id)
                try:
                    found[upload_id] = Upload.from_json(item)
                except MapboxError as error:
                    found[upload_id] = error
        self._requests += 1
        self._brought = len(found)
        return found
