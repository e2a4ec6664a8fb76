"""
Measure a backfill under Mapbox's rate limit in a real Airflow, beside the time of the limit alone and of Airflow alone.

python -m benchmarks.backfill --days 200 --window 30 --waits reschedule deferred
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.support.backfill import LIMIT, backfill, min_requests, stack_for


def measure_limit(requests_left: int, window: float) -> float:
    """
    Measure how long a number of requests takes under the rate limit, for a client that only makes requests.

    :param requests_left: number of requests.
    :param window: length of the limit's window in seconds.
    :return: seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = EmulatorSettings(rate_limit=LIMIT, rate_window=window)
        with Emulator(folder, settings=settings) as emulator, requests.Session() as session:
            session.trust_env = False
            url = f"{emulator.url}/uploads/v1/{emulator.account}/credentials"
            started = time.monotonic()
            while requests_left:
                response = session.post(url, params={"access_token": emulator.token}, timeout=30)
                if response.status_code == 429:
                    time.sleep(max(0.05, float(response.headers["X-Rate-Limit-Reset"]) - time.time()))
                else:
                    requests_left -= 1
            return time.monotonic() - started


def main() -> int:
    """Run the backfills and print their times. Return 1 if the limit slows one down by more than 25 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument(
        "--window", type=float, default=60, help="length of the window for 30 requests in seconds (Mapbox: 60)"
    )
    parser.add_argument("--at-once", type=int, default=16, help="number of runs at a time")
    parser.add_argument("--slots", type=int, default=4, help="number of tasks at a time (Airflow's default: 32)")
    parser.add_argument("--waits", nargs="+", choices=("reschedule", "deferred"), default=("reschedule", "deferred"))
    parser.add_argument(
        "--folder", type=Path, default=None, help="keep the state in this folder (default: a temporary folder)"
    )
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="backfill-"))
    print(
        f"{options.days} days, {LIMIT} requests in {options.window:g} s (a clock {60 / options.window:g} times as fast)"
    )
    is_fast_enough = True
    for name in options.waits:
        deferred = name == "deferred"
        count = min_requests(options.days, deferred=deferred)
        outcomes = {}
        # In a thread beside the backfill, because it sleeps nearly all the time.
        with ThreadPoolExecutor(1) as executor:
            limit_alone = executor.submit(measure_limit, count, options.window)
            for kind, window in (("limited", options.window), ("alone", None)):
                with stack_for(
                    folder / f"{name}-{kind}", window=window, deferred=deferred, slots=options.slots
                ) as stack:
                    outcome = outcomes[kind] = backfill(stack, options.days, max_active_runs=options.at_once)
                outcome.check(options.days)
                print(f"{name}, {kind}: {outcome.seconds:.0f} s; requests {dict(outcome.request_counts)}", flush=True)
        limit = limit_alone.result()
        bound = max(limit, outcomes["alone"].seconds)
        ratio = outcomes["limited"].seconds / bound
        is_fast_enough = is_fast_enough and ratio <= 1.25
        print(
            f"{name}: {outcomes['limited'].seconds:.0f} s under the limit; {outcomes['alone'].seconds:.0f} s without "
            f"limit and processing; {limit:.0f} s for {count} requests alone; ratio {ratio:.2f}",
            flush=True,
        )
    return 0 if is_fast_enough else 1


if __name__ == "__main__":
    sys.exit(main())
