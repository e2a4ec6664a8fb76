"""Twenty days under Mapbox's rate limit in a running Airflow, waited for by looks and in the triggerer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from benchmarks.backfill import Outcome, backfill, stack_for, unavoidable
from benchmarks.waiting import Simulation, World
from tests.system.canaries import places_with_secrets

DAYS = 20
# 30 requests in a window, as at Mapbox; the window is a sixth of Mapbox's, as under a clock six times as fast.
WINDOW = 10.0

KINDS = ("status", "list")

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
        for name in KINDS
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
    looks = outcome.looks()
    uploads = sorted(outcome.uploads, key=lambda upload: upload["created"])
    real = sum(number for (kind, status), number in outcome.asked.items() if kind in KINDS and status == 200)
    simulation = Simulation(World(uploads=DAYS, window=WINDOW, workers=4, floor=6.0, busy=1.0), seed=1)
    for job, upload in zip(simulation.jobs, uploads, strict=True):
        job.seconds = when(upload["modified"]) - when(upload["created"])
    if deferred:
        # When each wait came to the triggerer the emulator cannot tell; no sooner than its upload was created.
        simulation.world = replace(simulation.world, arrivals=60 * DAYS / outcome.seconds)
        simulation.deferred()
        assert real <= simulation.asked + 2
    else:
        moments = [(when(upload["created"]), looks[upload["id"]][0]) for upload in uploads]
        simulation.replay(moments, simulation.providers())
        print(f"looks: {real} in the real run, {simulation.asked} simulated")
        assert abs(simulation.asked - real) <= 0.15 * real + 1
    assert all(job.noticed for job in simulation.jobs)


def when(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
