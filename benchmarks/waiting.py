"""Five thousand waits at once, simulated: what each way to wait asks of the account's limit, and how late it notices.

python -m benchmarks.waiting
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable

from tests.support.simulation import Result, Simulation, World


def compare(world: World, seed: int) -> list[Result]:
    """
    Wait in each way, in the same world.

    :param world: what is waited for.
    :param seed: of everything random.
    """
    ways: tuple[tuple[str, Callable[[Simulation], None]], ...] = (
        ("fixed, 60 s", lambda one: one.rescheduled(one.fixed(60))),
        ("Airflow's exponential_backoff, 60 s to 10 min", lambda one: one.rescheduled(one.airflows_backoff(60, 600))),
        ("UploadCompleteSensor", lambda one: one.rescheduled(one.providers())),
        ("UploadCompleteSensor(deferrable=True)", lambda one: one.deferred()),
    )
    results = []
    for name, wait in ways:
        simulation = Simulation(world, seed)
        wait(simulation)
        results.append(simulation.result(name))
    return results


def table(results: list[Result]) -> str:
    """
    Write the results as Markdown.

    :param results: one line each.
    """
    lines = ["| | requests per upload | refused | noticed after, median | 95 % | failures | hours |", "|---" * 7 + "|"]
    lines += [
        f"| {one.name} | {one.requests:.2f} | {one.refused:.2f} | {one.median:.0f} s | {one.most:.0f} s | "
        f"{one.failures:,} | {one.hours:.1f} |"
        for one in results
    ]
    return "\n".join(lines)


def main() -> int:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=World.uploads)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--arrivals", type=float, nargs="+", default=(5.0, 8.0), help="uploads a minute")
    given = parser.parse_args()
    for arrivals in given.arrivals:
        world = World(uploads=given.uploads, arrivals=arrivals)
        seconds = sorted(world.durations(random.Random(given.seed)))
        marks = ", ".join(
            f"{share:.0%} {seconds[int(share * (len(seconds) - 1))]:.0f} s" for share in (0.05, 0.5, 0.95)
        )
        print(f"{world.uploads:,} uploads, {arrivals:g} a minute, {world.workers} workers; processing {marks}\n")
        print(table(compare(world, given.seed)), "\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
