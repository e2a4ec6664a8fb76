"""Twenty days under Mapbox's rate limit in a running Airflow, waited for by looks and in the triggerer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from airflow_mapbox.uploads.waiting.poller import SECONDS_PER_REQUEST
from tests.support.backfill import LIMIT, Outcome, backfill, stack_for, unavoidable
from tests.support.simulation import Simulation, World
from tests.system.canaries import places_with_secrets

DAYS = 20
# 30 requests in a window, as at Mapbox; the window is a sixth of Mapbox's, as under a clock six times as fast.
WINDOW = 10.0
# Long enough for the pace to show: half of the time that is left, and the floor of 6 s at the end.
PROCESSING = 45.0
LOOKS = 6
# A task starts later on a busy machine than in the simulation, and so looks less often.
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
        yield request.param, stack, backfill(stack, DAYS, patience=1200)


def test_every_day_ends_with_one_tileset_at_the_first_try(run: tuple[bool, Any, Outcome]) -> None:
    run[2].check(DAYS)


def test_waiting_takes_few_requests(run: tuple[bool, Any, Outcome]) -> None:
    deferred, _, outcome = run
    asked = {
        name: sum(number for (kind, status), number in outcome.asked.items() if kind == name and status == 200)
        for name in KINDS
    }
    if deferred:
        # One for each six seconds that anybody waits, whatever the number of those who do.
        assert asked["status"] + asked["list"] <= outcome.seconds / SECONDS_PER_REQUEST + 1
    else:
        assert asked["list"] == 0
        assert DAYS <= asked["status"] <= DAYS * LOOKS
    assert outcome.counted >= unavoidable(DAYS, deferred=deferred) - (DAYS if deferred else 0)


def test_no_secret_is_in_any_log_or_in_the_database(run: tuple[bool, Any, Outcome]) -> None:
    assert places_with_secrets(run[1]) == []


def test_the_simulation_counts_as_the_emulator_does(run: tuple[bool, Any, Outcome]) -> None:
    deferred, _, outcome = run
    looks = outcome.looks()
    uploads = sorted(outcome.uploads, key=lambda upload: upload["created"])
    created = [when(upload["created"]) for upload in uploads]
    real = sum(number for (kind, status), number in outcome.asked.items() if kind in KINDS and status == 200)

    def simulated(wait: Callable[[Simulation], None], limit: int = LIMIT) -> int:
        world = World(uploads=DAYS, limit=limit, window=WINDOW, workers=4, floor=10.0, busy=1.0)
        simulation = Simulation(world, seed=1)
        for job, upload in zip(simulation.jobs, uploads, strict=True):
            job.seconds = when(upload["modified"]) - when(upload["created"])
        wait(simulation)
        assert all(job.noticed for job in simulation.jobs)
        return simulation.asked

    if deferred:
        ways = {"poller": simulated(lambda one: one.replay_deferred(created))}
    else:
        moments = [(made, looks[upload["id"]][0]) for made, upload in zip(created, uploads, strict=True)]
        ways = {
            "pace": simulated(lambda one: one.replay(moments, one.providers())),
            # Without a limit, at which a plain sensor fails and looks no more.
            "fixed, 6 s": simulated(lambda one: one.replay(moments, one.fixed(6)), limit=0),
            "fixed, 3 s": simulated(lambda one: one.replay(moments, one.fixed(3)), limit=0),
        }
    print(f"looks: {real} in the real run; simulated {ways}")
    (ours, *others) = ways.values()
    assert abs(ours - real) <= TOLERANCE * real
    # Else the simulation would be held against nothing.
    assert all(abs(other - real) > TOLERANCE * real for other in others)


def when(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
