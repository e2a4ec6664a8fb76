"""
Simulate five thousand waits at once: the requests of each strategy, and how late it notices the end of an upload.

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
    Simulate each strategy in the same world.

    :param world: the uploads, the rate limit and the workers.
    :param seed: the seed of all random numbers.
    """
    strategies: tuple[tuple[str, Callable[[Simulation], None]], ...] = (
        ("fixed, 60 s", lambda simulation: simulation.rescheduled(simulation.fixed_interval(60))),
        (
            "Airflow's exponential_backoff, 60 s to 10 min",
            lambda simulation: simulation.rescheduled(simulation.airflow_backoff(60, 600)),
        ),
        ("UploadCompleteSensor", lambda simulation: simulation.rescheduled(simulation.provider_interval())),
        ("UploadCompleteSensor(deferrable=True)", lambda simulation: simulation.deferred()),
    )
    results = []
    for name, wait in strategies:
        simulation = Simulation(world, seed)
        wait(simulation)
        results.append(simulation.result(name))
    return results


def table(results: list[Result]) -> str:
    """
    Return the results as a Markdown table.

    :param results: one row each.
    """
    lines = ["| | requests per upload | refused | delay, median | delay, 95 % | failures | hours |", "|---" * 7 + "|"]
    lines += [
        f"| {result.name} | {result.requests:.2f} | {result.refused:.2f} | {result.median:.0f} s | "
        f"{result.percentile_95:.0f} s | {result.failures:,} | {result.hours:.1f} |"
        for result in results
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the simulations and print their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=World.uploads)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--arrivals", type=float, nargs="+", default=(5.0, 8.0), help="uploads a minute")
    options = parser.parse_args()
    for arrivals in options.arrivals:
        world = World(uploads=options.uploads, arrivals=arrivals)
        seconds = sorted(world.durations(random.Random(options.seed)))
        quantiles = ", ".join(
            f"{share:.0%} {seconds[int(share * (len(seconds) - 1))]:.0f} s" for share in (0.05, 0.5, 0.95)
        )
        print(f"{world.uploads:,} uploads, {arrivals:g} a minute, {world.workers} workers; processing {quantiles}\n")
        print(table(compare(world, options.seed)), "\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
