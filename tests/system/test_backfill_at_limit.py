"""Backfill twenty days under Mapbox's rate limit in a real Airflow, with rescheduled and with deferred waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from airflow_mapbox.uploads.waiting.poller import SECONDS_PER_REQUEST
from tests.support.backfill import LIMIT, Outcome, backfill, min_requests, stack_for
from tests.support.simulation import Simulation, World
from tests.system.canaries import places_with_secrets

DAYS = 20
# 30 requests in a window, like at Mapbox. The window is a sixth of Mapbox's.
WINDOW = 10.0
# Long enough for several intervals: half of the remaining time each, and the minimum of 6 s at the end.
PROCESSING = 45.0
MAX_POLLS = 6
# On a busy machine, tasks start later than in the simulation, and so poll less often.
TOLERANCE = 0.3

KINDS = ("status", "list")

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module", params=[False, True], ids=["reschedule", "deferred"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[bool, Any, Outcome]]:
    folder = tmp_path_factory.mktemp("stack")
    debug = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"}
    with stack_for(
        folder, window=WINDOW, deferred=request.param, processing=PROCESSING, airflow_options=debug
    ) as stack:
        yield request.param, stack, backfill(stack, DAYS, timeout=1200)


def test_every_day_ends_with_one_tileset_at_the_first_try(run: tuple[bool, Any, Outcome]) -> None:
    run[2].check(DAYS)


def test_waiting_takes_few_requests(run: tuple[bool, Any, Outcome]) -> None:
    deferred, _, outcome = run
    counts = {kind: outcome.request_counts[kind, 200] for kind in KINDS}
    if deferred:
        # One request in six seconds, however many uploads are waited for.
        assert counts["status"] + counts["list"] <= outcome.seconds / SECONDS_PER_REQUEST + 1
    else:
        # An operator that gave its slot back at the limit continues in a new process, which reads the list's clock.
        assert counts["list"] <= outcome.request_counts["create", 429]
        assert DAYS <= counts["status"] <= DAYS * MAX_POLLS
    assert outcome.counted_requests >= min_requests(DAYS, deferred=deferred) - (DAYS if deferred else 0)


def test_no_secret_is_in_any_log_or_in_the_database(run: tuple[bool, Any, Outcome]) -> None:
    assert places_with_secrets(run[1]) == []


def test_the_simulation_makes_as_many_requests_as_a_real_backfill(run: tuple[bool, Any, Outcome]) -> None:
    deferred, _, outcome = run
    polls = outcome.polls()
    uploads = sorted(outcome.uploads, key=lambda upload: upload["created"])
    created = [when(upload["created"]) for upload in uploads]
    real = sum(outcome.request_counts[kind, 200] for kind in KINDS)

    def simulate(wait: Callable[[Simulation], None], limit: int = LIMIT) -> int:
        world = World(uploads=DAYS, limit=limit, window=WINDOW, workers=4, floor=10.0, busy=1.0)
        simulation = Simulation(world, seed=1)
        for job, upload in zip(simulation.jobs, uploads, strict=True):
            job.seconds = when(upload["modified"]) - when(upload["created"])
        wait(simulation)
        assert all(job.noticed_at for job in simulation.jobs)
        return simulation.requests

    if deferred:
        counts = {"poller": simulate(lambda simulation: simulation.replay_deferred(created))}
    else:
        moments = [(time, polls[upload["id"]][0]) for time, upload in zip(created, uploads, strict=True)]
        counts = {
            "sensor": simulate(lambda simulation: simulation.replay(moments, simulation.provider_interval())),
            # Without a limit, at which a plain sensor would fail.
            "fixed, 6 s": simulate(
                lambda simulation: simulation.replay(moments, simulation.fixed_interval(6)), limit=0
            ),
            "fixed, 3 s": simulate(
                lambda simulation: simulation.replay(moments, simulation.fixed_interval(3)), limit=0
            ),
        }
    print(f"Requests: {real} in the real run, {counts} simulated")
    (ours, *others) = counts.values()
    assert abs(ours - real) <= TOLERANCE * real
    # Other strategies must differ, or the comparison proves nothing.
    assert all(abs(other - real) > TOLERANCE * real for other in others)


def when(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
