"""One loop that asks for every upload that is waited for with the same client: a list request for a hundred."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from airflow_mapbox.uploads.errors import MapboxError, NotFoundError, ThrottledError
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.redaction import redact
from airflow_mapbox.uploads.watch import Terms, Watch, judge, timed_out

if TYPE_CHECKING:
    from airflow_mapbox.uploads.client import UploadsClient

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAGE = 100  # "up to 100" (Uploads API, "Retrieve recent upload statuses")
# Uploads that a further page of the list should be able to show.
_WORTH_A_PAGE = 10
# At this rate waiting leaves two thirds of Mapbox's 30 requests a minute to those that create uploads.
SECONDS_PER_REQUEST = 6.0
# Waits that begin within this time are asked for together from the first look on.
_GATHERING = 1.0
_SECONDS_AFTER_CRASH = 10.0
# Between these the loop is let go, which other triggers need too.
_JUDGED_AT_ONCE = 50


@dataclass(eq=False)
class _Waiting:
    """One wait, and when it is to be looked at next."""

    watch: Watch
    terms: Terms
    due: float
    ended: asyncio.Future[Upload] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Poller:
    """
    The waits of one event loop that share a client.

    Requests are made one after another in another thread; the loop itself only waits. It runs while anybody waits, and
    is started again where it crashed.

    :param connect: gives the client; asked at each round, so that a changed connection is followed. Its retry policy
        must be one try that raises at a rate limit.
    :param executor: where requests are made.
    :param name: for the log.
    :param clock: gives the unix time.
    :param rng: the source of the jitter.
    :param seconds_per_request: that a round of requests keeps from the next one, for each of its requests.
    :param gathering: seconds before the first round.
    :param after_crash: seconds before a crashed loop is started again.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[UploadsClient]],
        executor: Executor,
        *,
        name: str = "",
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        seconds_per_request: float = SECONDS_PER_REQUEST,
        gathering: float = _GATHERING,
        after_crash: float = _SECONDS_AFTER_CRASH,
    ) -> None:
        self._connect = connect
        self._executor = executor
        self._name = name
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._seconds_per_request = seconds_per_request
        self._gathering = gathering
        self._after_crash = after_crash
        self._waiting: set[_Waiting] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._list_refused = False

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting

    async def wait(self, watch: Watch, terms: Terms) -> Upload:
        """
        Wait for one upload.

        :param watch: what is known of it.
        :param terms: how the wait goes on; ``stall_timeout`` and ``deadline`` end it.
        :return: the successful upload.
        :raises MapboxError: as :func:`~airflow_mapbox.uploads.watch.judge` has it.
        """
        waiting = _Waiting(watch, terms, due=self._clock())
        self._waiting.add(waiting)
        self._changed.set()
        if self._task is None and self._restart is None:
            self._not_before = max(self._not_before, self._clock() + self._gathering)
            self._start()
        left = None if terms.deadline is None else max(0.0, terms.deadline - self._clock())
        try:
            # The deadline holds whatever becomes of the loop.
            async with asyncio.timeout(left):
                return await waiting.ended
        except TimeoutError:
            raise timed_out(waiting.watch, self._clock()) from None
        finally:
            self._waiting.discard(waiting)
            if self.is_idle:
                self._stop()

    def _start(self) -> None:
        # An own context, or its log lines would carry the ids of the trigger that happened to come first.
        context = contextvars.Context()
        self._restart = None
        self._task = asyncio.create_task(self._run(), name=f"mapbox-poller {self._name}", context=context)
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
            self._name,
            reason,
            len(self._waiting),
            self._after_crash,
        )
        self._restart = task.get_loop().call_later(self._after_crash, self._start)

    async def _run(self) -> None:
        while True:
            left = self._next_round() - self._clock()
            if left > 0:
                self._changed.clear()
                try:
                    async with asyncio.timeout(left):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                continue
            began = self._clock()
            requests = await self._round()
            floor = min((one.terms.floor for one in self._waiting), default=0.0)
            self._not_before = max(self._not_before, began + max(floor, requests * self._seconds_per_request))

    def _next_round(self) -> float:
        due = min((one.due for one in self._waiting), default=float("inf"))
        return min(max(due, self._not_before), self._clock() + 3600)

    async def _round(self) -> int:
        """Look at every upload that is waited for, those that no list shows only where they are due."""
        try:
            client = await self._connect()
        except MapboxError as error:
            self._judge_all(error, self._clock())
            return 0
        began = self._clock()
        ids = {one.watch.upload_id for one in self._waiting}
        listed = Listed({}, requests=0, left=len(ids))
        if len(ids) > 1:
            try:
                listed = await self._in_thread(partial(find_in_list, client, ids))
            except NotFoundError as error:
                listed = Listed({}, requests=1, left=len(ids))
                self._note_refused_list(error)
            except MapboxError as error:
                self._judge_all(error, client.server_now())
                return 1
        by_itself: dict[str, list[_Waiting]] = {}
        for number, one in enumerate(sorted(self._waiting, key=lambda one: one.due), start=1):
            if number % _JUDGED_AT_ONCE == 0:
                await asyncio.sleep(0)
            upload = listed.found.get(one.watch.upload_id)
            if upload is not None:
                self._judge(one, upload, client.server_now())
            elif one.due <= began:
                by_itself.setdefault(one.watch.upload_id, []).append(one)
        requests = listed.requests
        for upload_id, waiting in islice(by_itself.items(), listed.left):
            requests += 1
            seen: Upload | MapboxError
            try:
                seen = await self._in_thread(partial(client.get_upload, upload_id))
            except ThrottledError as error:
                self._judge_all(error, client.server_now())
                break
            except MapboxError as error:
                seen = error
            for one in waiting:
                self._judge(one, seen, client.server_now())
        return requests

    def _judge_all(self, error: MapboxError, server_now: float) -> None:
        if isinstance(error, ThrottledError):
            log.info("%s", error)
            self._not_before = self._clock() + error.retry_after
        for one in list(self._waiting):
            self._judge(one, error, server_now)
            one.due = min(one.due, self._not_before)  # one poller has nobody to part from

    def _judge(self, waiting: _Waiting, seen: Upload | MapboxError, server_now: float) -> None:
        if waiting.ended.done():
            return
        now = self._clock()
        try:
            following = judge(seen, waiting.watch, waiting.terms, now=now, server_now=server_now, rng=self._rng)
        except MapboxError as error:
            waiting.ended.set_exception(error)
            self._waiting.discard(waiting)
            return
        waiting.watch, waiting.due = following.watch, now + following.pause
        if following.upload is not None:
            waiting.ended.set_result(following.upload)
            # At once: whoever waits may be heard only after a further round has begun.
            self._waiting.discard(waiting)

    def _note_refused_list(self, error: NotFoundError) -> None:
        if not self._list_refused:
            log.warning("%s Without it each upload is asked for by itself, which takes a request each.", error)
        self._list_refused = True

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


@dataclass(frozen=True)
class Listed:
    """
    What a look into the account's list has brought.

    :param found: uploads by id.
    :param requests: that it took.
    :param left: requests that a round may still take: one for each hundred uploads, and one for each that these do not
        show, are all that it may take together.
    """

    found: dict[str, Upload]
    requests: int
    left: int


def find_in_list(client: UploadsClient, ids: Collection[str]) -> Listed:
    """
    Look for uploads in the account's list, newest first.

    A request for each hundred that is looked for. Where many are missing then, as other uploads stand between them, the
    list is followed for as long as it brings some; a few are asked for more cheaply by themselves.

    :param client: for the account.
    :param ids: of the uploads.
    :raises MapboxError: as the API or the network has it.
    """
    found: dict[str, Upload] = {}
    pages = math.ceil(len(ids) / _PAGE)
    missing = len(ids)
    of_page = listed = 0
    for listed, upload in enumerate(client.list_uploads(), start=1):
        if upload.id in ids:
            found[upload.id] = upload
            of_page += 1
        if len(found) == len(ids):
            break
        if listed % _PAGE == 0:
            if listed == pages * _PAGE:
                missing = len(ids) - len(found)
            if listed >= pages * _PAGE and (of_page < 2 or len(ids) - len(found) < _WORTH_A_PAGE):
                break
            of_page = 0
    requests = max(1, math.ceil(listed / _PAGE))
    if requests <= pages:
        missing = len(ids) - len(found)
    return Listed(found, requests, max(0, pages + missing - requests))
