"""Thousands of waits at once, simulated: what a way to wait asks of the account's limit, and how late it notices.

Simulated is what costs hours of real time: uploads in processing, a limit of 30 requests a minute that refuses without
counting, workers that a task's start occupies for a while. Not simulated is what decides: rescheduled looks ask the
provider's own :func:`airflow_mapbox.uploads.waiting.decide.decide`, deferred waits are those of its own
:class:`airflow_mapbox.uploads.waiting.poller.Poller` in virtual time, and Airflow's back-off is reckoned as
``BaseSensorOperator`` does it.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_mapbox.uploads.client import ListPage
from airflow_mapbox.uploads.errors import MapboxError, ThrottledError
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.waiting.decide import decide
from airflow_mapbox.uploads.waiting.policy import WaitPolicy, WaitState
from airflow_mapbox.uploads.waiting.poller import Account, Poller
from tests.support import virtual_time

START = 1_700_000_000.0
PAGE = 100


@dataclass(frozen=True)
class World:
    """
    What is waited for, and under which limit.

    :param uploads: that are created.
    :param arrivals: uploads a minute; each creation takes two requests of the same limit, credentials and create.
    :param limit: requests in one window.
    :param window: seconds.
    :param workers: looks that can be under way at the same time.
    :param busy: seconds that a look occupies a worker for: Airflow's start of the task.
    :param timeout: seconds until a wait fails.
    :param floor: seconds between two looks of a rescheduled task, at least.
    :param median: seconds of processing; a lognormal distribution cut to between ``shortest`` and ``longest``.
    :param sigma: of its logarithm.
    :param shortest: seconds.
    :param longest: seconds.
    """

    uploads: int = 5_000
    arrivals: float = 6.0
    limit: int = 30
    window: float = 60.0
    workers: int = 64
    busy: float = 2.5
    timeout: float = 9_000.0
    floor: float = 10.0
    median: float = 90.0
    sigma: float = 1.4
    shortest: float = 3.0
    longest: float = 3_600.0

    def durations(self, rng: random.Random) -> Iterator[float]:
        """Give the seconds of processing of each upload."""
        for _ in range(self.uploads):
            yield min(max(rng.lognormvariate(math.log(self.median), self.sigma), self.shortest), self.longest)


class Limit:
    """The limit as the emulator keeps it: windows that open with a request; what is refused is not counted."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._opened = -math.inf
        self._count = 0
        self.refused = 0

    def ask(self, now: float) -> float | None:
        """
        Make a request.

        :return: None where it is let pass, else the time of the reset.
        """
        if now >= self._opened + self._world.window:
            self._opened, self._count = now, 0
        if self._world.limit and self._count >= self._world.limit:
            self.refused += 1
            return math.ceil(self._opened + self._world.window)
        self._count += 1
        return None


@dataclass
class Job:
    """One upload, and its wait."""

    number: int
    created: float = 0.0
    seconds: float = 0.0
    state: WaitState = field(default_factory=lambda: WaitState("", 0.0))
    looks: int = 0
    began: float | None = None
    noticed: float | None = None
    failed: bool = False

    def seen(self, now: float) -> Upload:
        """Give the upload as the API would."""
        progress = min(1.0, max(0.0, (now - self.created) / self.seconds))
        created = datetime.fromtimestamp(self.created, UTC).isoformat()
        return Upload(str(self.number), f"demo.t{self.number}", progress >= 1, None, progress, created=created)


@dataclass(frozen=True)
class Result:
    """
    What a way to wait came to.

    :param name: of the way.
    :param requests: for status and list that the limit counted, per upload.
    :param refused: requests that were answered 429, per upload.
    :param median: seconds between finished and noticed.
    :param most: of them, for 95 of 100 uploads.
    :param failures: waits that failed though their upload did not.
    :param hours: until the last upload was noticed.
    """

    name: str
    requests: float
    refused: float
    median: float
    most: float
    failures: int
    hours: float


# Gives the seconds to the next look, or None where the task fails; told the job, the time, and a reset where throttled.
Pace = Callable[[Job, float, float | None], float | None]


class Simulation:
    """
    One way to wait, in one world.

    :param world: what is waited for.
    :param seed: of everything random.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.limit = Limit(world)
        seconds = enumerate(world.durations(random.Random(seed)))
        self.jobs = [Job(number, seconds=taken) for number, taken in seconds]
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0
        self._free = [0.0] * world.workers
        self.asked = 0

    def at(self, when: float, what: Callable[[float], None]) -> None:
        """Have something happen at a time."""
        self._order += 1
        heapq.heappush(self._events, (when, self._order, what))

    def run(self) -> None:
        """Let everything happen, in order."""
        while self._events:
            when, _, what = heapq.heappop(self._events)
            what(when)

    def on_worker(self, now: float, what: Callable[[float], None]) -> None:
        """Have a worker do something as soon as one is free; a task that starts takes a while before it does."""
        free = heapq.heappop(self._free)
        ready = max(now, free) + self.world.busy
        heapq.heappush(self._free, ready)
        self.at(ready, what)

    def create(self, then: Callable[[Job, float], None]) -> None:
        """Create the uploads at their pace, each by two requests that wait for the limit's reset where they must."""
        for job in self.jobs:
            self.at(START + job.number * 60 / self.world.arrivals, lambda now, job=job: self._create(job, 2, now, then))  # type: ignore[misc]

    def _create(self, job: Job, left: int, now: float, then: Callable[[Job, float], None]) -> None:
        reset = self.limit.ask(now)
        if reset is not None:
            self.limit.refused -= 1  # of the creating side, which is not what is compared
            self.at(reset + self.rng.uniform(0, 5), lambda again: self._create(job, left, again, then))
        elif left > 1:
            self._create(job, left - 1, now, then)
        else:
            job.created = now
            job.state = WaitState(str(job.number), started=now)
            then(job, now)

    def rescheduled(self, pace: Pace) -> None:
        """Wait by a task for each upload that looks, gives its slot back, and comes again."""

        look = self._look(pace)
        self.create(lambda job, now: self.on_worker(now, lambda ready: look(job, ready)))
        self.run()

    def replay(self, moments: Sequence[tuple[float, float]], pace: Pace) -> None:
        """
        Go on from what was seen of a real run: when each upload was created, and when it was looked at first.

        :param moments: of each upload, unix time.
        :param pace: of the further looks.
        """
        look = self._look(pace)
        for job, (created, first) in zip(self.jobs, moments, strict=True):
            job.created, job.state = created, WaitState(str(job.number), started=first)
            for _ in range(2):
                self.at(created, lambda now: self.limit.ask(now) and None)
            self.at(first, lambda now, job=job: look(job, now))  # type: ignore[misc]
        self.run()

    def _look(self, pace: Pace) -> Callable[[Job, float], None]:
        def look(job: Job, now: float) -> None:
            job.began = now if job.began is None else job.began
            reset = self.limit.ask(now)
            if reset is None:
                self.asked += 1
                job.looks += 1
                if job.seen(now).complete:
                    job.noticed = now
                    return
            pause = pace(job, now, reset)
            if pause is None or now - job.began > self.world.timeout:
                job.failed = True
                return
            self.at(now + pause, lambda again: self.on_worker(again, lambda ready: look(job, ready)))

        return look

    def deferred(self) -> None:
        """Wait in one triggerer, by the provider's own poller."""
        virtual_time.run(self._deferred(self._arrived))

    def replay_deferred(self, moments: Sequence[float]) -> None:
        """
        Wait in one triggerer for what was created in a real run.

        :param moments: when each upload was created, unix time.
        """

        async def arrived(job: Job, clock: Callable[[], float]) -> None:
            await asyncio.sleep(moments[job.number] - moments[0])
            for _ in range(2):
                self.limit.ask(clock())

        virtual_time.run(self._deferred(arrived))

    async def _arrived(self, job: Job, clock: Callable[[], float]) -> None:
        await asyncio.sleep(job.number * 60 / self.world.arrivals)
        for _ in range(2):
            while (reset := self.limit.ask(clock())) is not None:
                self.limit.refused -= 1
                await asyncio.sleep(reset + self.rng.uniform(0, 5) - clock())

    async def _deferred(self, arrived: Callable[[Job, Callable[[], float]], Awaitable[None]]) -> None:
        clock = virtual_time.clock(START)
        api = _Api(self, clock)
        poller = Poller(Account(api.base_url, api.username), virtual_time.AtOnce(), clock=clock, rng=self.rng)
        workers = asyncio.Semaphore(self.world.workers)

        async def task_starts() -> None:
            async with workers:
                await asyncio.sleep(self.world.busy)

        async def wait(job: Job) -> None:
            await arrived(job, clock)
            job.created = clock()
            api.created.append(job)
            await task_starts()
            policy = WaitPolicy(self.world.floor, deadline=clock() + self.world.timeout)
            may_come_back = clock() + self.world.floor
            try:
                await poller.wait(WaitState(str(job.number), started=clock()), policy, api.connect)
            except MapboxError:
                job.failed = True
                return
            await asyncio.sleep(max(0.0, may_come_back - clock()))
            await task_starts()  # which was deferred, and goes on
            job.noticed = clock()

        await asyncio.gather(*(wait(job) for job in self.jobs))

    def after(self, reset: float, now: float) -> float:
        """Give the seconds to a reset, and a jitter of a tenth of the window, as the client has it."""
        return reset - now + self.rng.uniform(0, min(5.0, self.world.window / 10))

    def _terms(self) -> WaitPolicy:
        return WaitPolicy(self.world.floor)

    # The ways to wait that reschedule

    def fixed(self, seconds: float) -> Pace:
        """Give the pace of a plain sensor, which fails at a 429 as it does at any other error."""
        return lambda _job, _now, reset: None if reset is not None else seconds

    def airflows_backoff(self, interval: float, longest: float) -> Pace:
        """Give the pace of ``exponential_backoff=True`` in a plain sensor, which fails at a 429."""

        def pause(job: Job, now: float, reset: float | None) -> float | None:
            if reset is not None:
                return None
            elapsed, passed, count = now - (job.began or now), 0.0, 0
            while passed <= elapsed:
                count += 1
                least = max(int(interval * 2 ** (count - 2)), 1)
                passed += least + self.rng.randrange(least)
            least = max(int(interval * 2 ** (count - 2)), 1)
            return max(self.world.floor, min(least + self.rng.randrange(least), longest))

        return pause

    def providers(self) -> Pace:
        """Give the pace of this provider's sensor."""

        def pause(job: Job, now: float, reset: float | None) -> float | None:
            seen: Upload | MapboxError = job.seen(now)
            if reset is not None:
                seen = ThrottledError("429", status=429, message="", retry_after=self.after(reset, now))
            decision = decide(seen, job.state, self._terms(), now=now, server_now=now, rng=self.rng)
            job.state = decision.state
            return max(decision.delay, decision.min_delay)

        return pause

    def result(self, name: str) -> Result:
        """Sum up."""
        late = [job.noticed - job.created - job.seconds for job in self.jobs if job.noticed is not None]
        quantiles = statistics.quantiles(late, n=20) if len(late) > 1 else [math.nan] * 19
        return Result(
            name,
            self.asked / len(self.jobs),
            self.limit.refused / len(self.jobs),
            statistics.median(late) if late else math.nan,
            quantiles[18],
            sum(job.noticed is None for job in self.jobs),
            (max((job.noticed or 0) for job in self.jobs) - START) / 3600,
        )


class _Api:
    """The account as the poller sees it, with what the limit says."""

    base_url, username = "https://api.example", "demo"

    def __init__(self, simulation: Simulation, clock: Callable[[], float]) -> None:
        self._simulation = simulation
        self._clock = clock
        self.created: list[Job] = []

    async def connect(self) -> Any:
        return self

    def server_now(self) -> float:
        return self._clock()

    def list_page(self, url: str | None = None) -> ListPage:
        """Give uploads newest first, of the place behind an upload that the page before ended with."""
        now = self._ask()
        end = len(self.created) if url is None else int(url)
        start = max(0, end - PAGE)
        items = [job.seen(now).to_json() for job in reversed(self.created[start:end])]
        return ListPage(items, str(start) if start else None)

    def get_upload(self, upload_id: str) -> Upload:
        return self._simulation.jobs[int(upload_id)].seen(self._ask())

    def _ask(self) -> float:
        now, simulation = self._clock(), self._simulation
        reset = simulation.limit.ask(now)
        if reset is not None:
            raise ThrottledError("429", status=429, message="", retry_after=simulation.after(reset, now))
        simulation.asked += 1
        return now
