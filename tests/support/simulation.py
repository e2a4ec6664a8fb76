"""
Simulate thousands of waits at once: the requests of a strategy, and its delay in noticing the end of an upload.

The simulation replaces the parts that take hours of real time: the processing of uploads, a limit of 30 requests a
minute that does not count refused requests, and workers that are busy while a task starts.

The decisions are those of the provider. Rescheduled polls call :func:`airflow_mapbox.uploads.waiting.decide.decide`.
Deferred waits run :class:`airflow_mapbox.uploads.waiting.poller.Poller` in virtual time. Airflow's back-off is computed
like in ``BaseSensorOperator``.
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
    The uploads, the rate limit and the workers of a simulation. Times are in seconds.

    :param uploads: number of uploads.
    :param arrivals: uploads created per minute. Each takes two requests of the same limit: credentials and create.
    :param limit: requests in one window; 0 for no limit.
    :param window: length of the window.
    :param workers: number of polls at the same time.
    :param busy: time for which a poll occupies a worker while Airflow starts the task.
    :param timeout: time until a wait fails.
    :param floor: minimum time between two polls of a rescheduled task.
    :param median: median of the processing time, which has a lognormal distribution.
    :param sigma: standard deviation of the processing time's logarithm.
    :param shortest: minimum processing time.
    :param longest: maximum processing time.
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
        """Return the processing time of each upload in seconds."""
        for _ in range(self.uploads):
            yield min(max(rng.lognormvariate(math.log(self.median), self.sigma), self.shortest), self.longest)


class Limit:
    """The emulator's rate limit: a window starts with a request, and refused requests are not counted."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._opened = -math.inf
        self._count = 0
        self.refused = 0

    def request(self, now: float) -> float | None:
        """
        Make a request.

        :return: None if the limit allows it, else the Unix time of the reset.
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
    """An upload, and its wait. Times are Unix times."""

    number: int
    created: float = 0.0
    seconds: float = 0.0
    state: WaitState = field(default_factory=lambda: WaitState("", 0.0))
    polls: int = 0
    first_poll: float | None = None
    noticed_at: float | None = None
    failed: bool = False

    def upload_at(self, now: float) -> Upload:
        """Return the upload at a time, like the API."""
        progress = min(1.0, max(0.0, (now - self.created) / self.seconds))
        created = datetime.fromtimestamp(self.created, UTC).isoformat()
        return Upload(str(self.number), f"demo.t{self.number}", progress >= 1, None, progress, created=created)


@dataclass(frozen=True)
class Result:
    """
    The result of a strategy.

    :param name: the strategy.
    :param requests: status and list requests that the limit counted, per upload.
    :param refused: requests with the response 429, per upload.
    :param median: median seconds from the end of an upload until the wait notices it.
    :param percentile_95: the same time for 95 % of the uploads.
    :param failures: waits that failed although their upload did not.
    :param hours: time until the last wait noticed the end of its upload.
    """

    name: str
    requests: float
    refused: float
    median: float
    percentile_95: float
    failures: int
    hours: float


# A function of the job, the time, and the reset if the poll was throttled. It returns the seconds until the next poll,
# or None if the task fails.
NextPoll = Callable[[Job, float, float | None], float | None]


class Simulation:
    """
    One strategy of waiting in one world.

    :param world: the uploads, the rate limit and the workers.
    :param seed: the seed of all random numbers.
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
        self.requests = 0

    def schedule(self, when: float, action: Callable[[float], None]) -> None:
        """Call a function at a simulated time."""
        self._order += 1
        heapq.heappush(self._events, (when, self._order, action))

    def run(self) -> None:
        """Call the scheduled functions in the order of their times."""
        while self._events:
            when, _, action = heapq.heappop(self._events)
            action(when)

    def on_worker(self, now: float, action: Callable[[float], None]) -> None:
        """Call a function when a worker is free and has started the task."""
        free = heapq.heappop(self._free)
        ready = max(now, free) + self.world.busy
        heapq.heappush(self._free, ready)
        self.schedule(ready, action)

    def create(self, then: Callable[[Job, float], None]) -> None:
        """Create the uploads at the world's rate, each with two requests that obey the rate limit."""
        for job in self.jobs:
            start = START + job.number * 60 / self.world.arrivals
            self.schedule(start, lambda now, job=job: self._create(job, 2, now, then))  # type: ignore[misc]

    def _create(self, job: Job, requests_left: int, now: float, then: Callable[[Job, float], None]) -> None:
        reset = self.limit.request(now)
        if reset is not None:
            self.limit.refused -= 1  # the result counts the refused requests of the waits only
            self.schedule(reset + self.rng.uniform(0, 5), lambda again: self._create(job, requests_left, again, then))
        elif requests_left > 1:
            self._create(job, requests_left - 1, now, then)
        else:
            job.created = now
            job.state = WaitState(str(job.number), started=now)
            then(job, now)

    def rescheduled(self, next_poll: NextPoll) -> None:
        """Wait with a task for each upload. It polls, releases its slot, and is rescheduled."""
        poll = self._poll(next_poll)
        self.create(lambda job, now: self.on_worker(now, lambda ready: poll(job, ready)))
        self.run()

    def replay(self, moments: Sequence[tuple[float, float]], next_poll: NextPoll) -> None:
        """
        Continue from a real run, which determines when each upload was created and first polled.

        :param moments: the two Unix times for each upload.
        :param next_poll: the strategy of the later polls.
        """
        poll = self._poll(next_poll)
        for job, (created, first) in zip(self.jobs, moments, strict=True):
            job.created, job.state = created, WaitState(str(job.number), started=first)
            for _ in range(2):
                self.schedule(created, lambda now: self.limit.request(now) and None)
            self.schedule(first, lambda now, job=job: poll(job, now))  # type: ignore[misc]
        self.run()

    def _poll(self, next_poll: NextPoll) -> Callable[[Job, float], None]:
        def poll(job: Job, now: float) -> None:
            job.first_poll = now if job.first_poll is None else job.first_poll
            reset = self.limit.request(now)
            if reset is None:
                self.requests += 1
                job.polls += 1
                if job.upload_at(now).complete:
                    job.noticed_at = now
                    return
            pause = next_poll(job, now, reset)
            if pause is None or now - job.first_poll > self.world.timeout:
                job.failed = True
                return
            self.schedule(now + pause, lambda again: self.on_worker(again, lambda ready: poll(job, ready)))

        return poll

    def deferred(self) -> None:
        """Wait in one triggerer, with the provider's poller."""
        virtual_time.run(self._deferred(self._arrived))

    def replay_deferred(self, moments: Sequence[float]) -> None:
        """
        Wait in one triggerer for the uploads of a real run.

        :param moments: the Unix time of each upload's creation.
        """

        async def arrived(job: Job, clock: Callable[[], float]) -> None:
            await asyncio.sleep(moments[job.number] - moments[0])
            for _ in range(2):
                self.limit.request(clock())

        virtual_time.run(self._deferred(arrived))

    async def _arrived(self, job: Job, clock: Callable[[], float]) -> None:
        await asyncio.sleep(job.number * 60 / self.world.arrivals)
        for _ in range(2):
            while (reset := self.limit.request(clock())) is not None:
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
            earliest_return = clock() + self.world.floor
            try:
                await poller.wait(WaitState(str(job.number), started=clock()), policy, api.connect)
            except MapboxError:
                job.failed = True
                return
            await asyncio.sleep(max(0.0, earliest_return - clock()))
            await task_starts()  # Airflow starts the deferred task again
            job.noticed_at = clock()

        await asyncio.gather(*(wait(job) for job in self.jobs))

    def after(self, reset: float, now: float) -> float:
        """Return the seconds until a reset, with the client's jitter of a tenth of the window."""
        return reset - now + self.rng.uniform(0, min(5.0, self.world.window / 10))

    def _policy(self) -> WaitPolicy:
        return WaitPolicy(self.world.floor)

    # Strategies of rescheduled waits

    def fixed_interval(self, seconds: float) -> NextPoll:
        """Return the strategy of a plain sensor. It fails at a 429, like at any other error."""
        return lambda _job, _now, reset: None if reset is not None else seconds

    def airflow_backoff(self, interval: float, longest: float) -> NextPoll:
        """Return the strategy of a plain sensor with ``exponential_backoff=True``. It fails at a 429."""

        def pause(job: Job, now: float, reset: float | None) -> float | None:
            if reset is not None:
                return None
            elapsed, passed, count = now - (job.first_poll or now), 0.0, 0
            while passed <= elapsed:
                count += 1
                min_delay = max(int(interval * 2 ** (count - 2)), 1)
                passed += min_delay + self.rng.randrange(min_delay)
            min_delay = max(int(interval * 2 ** (count - 2)), 1)
            return max(self.world.floor, min(min_delay + self.rng.randrange(min_delay), longest))

        return pause

    def provider_interval(self) -> NextPoll:
        """Return the strategy of this provider's sensor."""

        def pause(job: Job, now: float, reset: float | None) -> float | None:
            poll_result: Upload | MapboxError = job.upload_at(now)
            if reset is not None:
                poll_result = ThrottledError("429", status=429, message="", retry_after=self.after(reset, now))
            decision = decide(poll_result, job.state, self._policy(), now=now, server_now=now, rng=self.rng)
            job.state = decision.state
            return max(decision.delay, decision.min_delay)

        return pause

    def result(self, name: str) -> Result:
        """Return the result after the simulation."""
        delays = [job.noticed_at - job.created - job.seconds for job in self.jobs if job.noticed_at is not None]
        quantiles = statistics.quantiles(delays, n=20) if len(delays) > 1 else [math.nan] * 19
        return Result(
            name,
            self.requests / len(self.jobs),
            self.limit.refused / len(self.jobs),
            statistics.median(delays) if delays else math.nan,
            quantiles[18],
            sum(job.noticed_at is None for job in self.jobs),
            (max((job.noticed_at or 0) for job in self.jobs) - START) / 3600,
        )


class _Api:
    """The API of the account under the rate limit, for the poller."""

    base_url, username = "https://api.example", "demo"

    def __init__(self, simulation: Simulation, clock: Callable[[], float]) -> None:
        self._simulation = simulation
        self._clock = clock
        self.created: list[Job] = []
        self.seconds_per_request: float | None = None

    async def connect(self) -> Any:
        return self

    def server_now(self) -> float:
        return self._clock()

    def list_page(self, url: str | None = None) -> ListPage:
        """Return a page of uploads, newest first. The URL of a page is the index at which the page before ended."""
        now = self._request()
        end = len(self.created) if url is None else int(url)
        start = max(0, end - PAGE)
        items = [job.upload_at(now).to_json() for job in reversed(self.created[start:end])]
        return ListPage(items, str(start) if start else None)

    def get_upload(self, upload_id: str) -> Upload:
        return self._simulation.jobs[int(upload_id)].upload_at(self._request())

    def _request(self) -> float:
        now, simulation = self._clock(), self._simulation
        reset = simulation.limit.request(now)
        if reset is not None:
            raise ThrottledError("429", status=429, message="", retry_after=simulation.after(reset, now))
        simulation.requests += 1
        return now
