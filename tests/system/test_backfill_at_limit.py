"""Twenty days under Mapbox's rate limit in a running Airflow, waited for by looks and in the triggerer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.backfill import Outcome, backfill, stack_for, unavoidable
from benchmarks.waiting import Simulation, World
from tests.system.canaries import places_with_secrets

DAYS = 20
# 30 requests in a window, as at Mapbox; the window is a sixth of Mapbox's, as under a clock six times as fast.
WINDOW = 10.0

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module", params=[False, True], ids=["reschedule", "deferred"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[bool, Any, Outcome]]:
    folder = tmp_path_factory.mktemp("stack")
    debug = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"}
    with stack_for(folder, window=WINDOW, deferred=request.param, airflow_options=debug) as stack:
        yield request.param, stack, backfill(stack, DAYS, patience=1200)


def test_every_day_ends_with_one_tileset_at_the_first_try(run: tuple[bool, Any, Outcome]) -> None:
    run[2].check(DAYS)


def test_waiting_takes_few_requests(run: tuple[bool, Any, Outcome]) -> None:
    deferred, _, outcome = run
    asked = {
        name: sum(number for (kind, status), number in outcome.asked.items() if kind == name and status == 200)
        for name in ("status", "list")
    }
    if deferred:
        assert asked["status"] + asked["list"] <= DAYS  # for each single wait one would do, and most are shared
    else:
        assert asked["list"] == 0
        assert DAYS <= asked["status"] <= 2 * DAYS
    assert outcome.counted >= unavoidable(DAYS, deferred=deferred) - (DAYS if deferred else 0)


def test_no_secret_is_in_any_log_or_in_the_database(run: tuple[bool, Any, Outcome]) -> None:
    assert places_with_secrets(run[1]) == []


def test_the_simulation_counts_as_the_emulator_does(run: tuple[bool, Any, Outcome]) -> None:
    deferred, _, outcome = run
    # The pace at which the real run created its uploads, and the processing that the emulator was told to do.
    world = World(
        uploads=DAYS,
        arrivals=DAYS / (outcome.seconds / 60),
        window=WINDOW,
        workers=4,
        floor=6.0,
        median=3.0,
        sigma=0.0,
    )
    simulation = Simulation(world, seed=1)
    if deferred:
        simulation.deferred()
    else:
        simulation.rescheduled(simulation.providers())

    assert all(job.noticed for job in simulation.jobs)
    looked = sum(n for (kind, status), n in outcome.asked.items() if kind in ("status", "list") and status == 200)
    assert abs(simulation.asked - looked) <= DAYS / 2
