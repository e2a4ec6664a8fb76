"""Five hundred tasks that meet random faults and die random deaths, from a seed that is printed."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.crashes.one_try import Step
from tests.crashes.task import Death, Task
from tests.crashes.test_matrix import (
    API_FAULTS,
    REQUESTS,
    S3_FAULTS,
    SIGNALS,
    STAGING,
    add_fault,
    assert_no_secret,
    assert_one_whole_upload,
    unfinished_multiparts,
)

COMBINATIONS = int(os.environ.get("CRASH_COMBINATIONS", "500"))
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**9))
# Each with an emulator of its own, because faults are an emulator's.
_SIDE_BY_SIDE = 3

pytestmark = pytest.mark.timeout(1800)


@dataclass
class Plan:
    """What happens to one task."""

    number: int
    large: bool
    deaths: list[Death] = field(default_factory=list)
    faults: list[tuple[str, str, int, int]] = field(default_factory=list)  # request, fault, times, after

    @property
    def can_take_parts_back(self) -> bool:
        """Whether nothing keeps it from that: sudden death, or an answer that is lost with the id of what was begun."""
        dies = any(step in STAGING and by is signal.SIGKILL for step, by in self.deaths)
        return not dies and not any(request == "begin" for request, *_ in self.faults)

    @classmethod
    def draw(cls, number: int) -> Plan:
        rng = random.Random(f"{SEED}-{number}")
        plan = cls(number, large=rng.random() < 0.3)
        plan.deaths = [(rng.choice(list(Step)), rng.choice(SIGNALS)) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            request = rng.choice(list(REQUESTS))
            fault = rng.choice(list(API_FAULTS if REQUESTS[request][0] == "api" else S3_FAULTS))
            plan.faults.append((request, fault, rng.choice((1, 1, 2, 3)), rng.choice((0, 0, 1))))
        return plan


@pytest.fixture(scope="module")
def emulators(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Emulator]]:
    settings = EmulatorSettings(processing_seconds=0, rate_limit=0, workers=1)
    with ExitStack() as stack:
        more = [
            stack.enter_context(Emulator(tmp_path_factory.mktemp("emulator"), settings=settings))
            for _ in range(_SIDE_BY_SIDE - 1)
        ]
        yield [emulator, *more]


def test_random_faults_and_deaths_end_with_one_upload_or_a_clear_error(
    emulators: list[Emulator],
    small: Path,
    large: Path,
    made_of: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capsys.disabled():
        print(f"\n{COMBINATIONS} combinations from seed {SEED}; again with CRASH_SEED={SEED}")
    ended: Counter[str] = Counter()

    def run(emulator: Emulator, numbers: range) -> None:
        for number in numbers:
            plan = Plan.draw(number)
            unfinished = len(unfinished_multiparts(emulator))
            task = Task(emulator, tmp_path / str(number), str(large if plan.large else small), f"random-{number}")
            for request, fault, times, after in plan.faults:
                add_fault(emulator, request, fault, times=times, after=after)
            outcome = task.run(plan.deaths)
            emulator.faults.clear()
            try:
                check(task, outcome, plan)
                if plan.can_take_parts_back:
                    assert len(unfinished_multiparts(emulator)) == unfinished, "parts are left behind"
            except AssertionError as error:
                raise AssertionError(f"seed {SEED}, {plan}: {task.outcomes}: {error}") from error

    def check(task: Task, outcome: dict[str, object], plan: Plan) -> None:
        if "upload" in outcome:
            ended["one upload"] += 1
            assert_one_whole_upload(task, outcome, made_of)
        else:
            ended[f"{outcome['error']}"] += 1
            task.await_idle()
            # What refuses the token, or answers what makes no sense there, is for a person to look at.
            met = {fault for _, fault, _, _ in plan.faults}
            causes = {"TokenRejectedError": {"401"}, "NotFoundError": {"404"}}
            assert met & causes.get(str(outcome["error"]), {"active", "could not access"}), outcome
            assert len(task.uploads()) <= 1
            # And once it is put right, the same task ends with its one upload.
            assert_one_whole_upload(task, task.run(), made_of)
        ended["in processes"] += len(task.outcomes)
        ended["of which died"] += sum("died" in each for each in task.outcomes)
        assert_no_secret(task)

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as side_by_side:
        shares = [range(first, COMBINATIONS, _SIDE_BY_SIDE) for first in range(_SIDE_BY_SIDE)]
        list(side_by_side.map(run, emulators, shares))
    with capsys.disabled():
        print(dict(ended))
    assert ended["one upload"] > 0.8 * COMBINATIONS
