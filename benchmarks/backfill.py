"""A backfill under Mapbox's rate limit in a running Airflow, held against what the limit and Airflow alone would take.

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
from tests.support.backfill import LIMIT, backfill, stack_for, unavoidable


def measure_limit(calls: int, window: float) -> float:
    """
    Measure how long the limit makes a number of calls take, for a client that does nothing else and never comes early.

    :param calls: to be made.
    :param window: seconds in which 30 are allowed.
    :return: seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = EmulatorSettings(rate_limit=LIMIT, rate_window=window)
        with Emulator(folder, settings=settings) as emulator, requests.Session() as session:
            session.trust_env = False
            url = f"{emulator.url}/uploads/v1/{emulator.account}/credentials"
            began = time.monotonic()
            while calls:
                answer = session.post(url, params={"access_token": emulator.token}, timeout=30)
                if answer.status_code == 429:
                    time.sleep(max(0.05, float(answer.headers["X-Rate-Limit-Reset"]) - time.time()))
                else:
                    calls -= 1
            return time.monotonic() - began


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument(
        "--window", type=float, default=60, help="seconds in which 30 requests are allowed (Mapbox: 60)"
    )
    parser.add_argument("--at-once", type=int, default=16, help="runs at a time")
    parser.add_argument("--slots", type=int, default=4, help="tasks at a time (Airflow's default: 32)")
    parser.add_argument("--waits", nargs="+", choices=("reschedule", "deferred"), default=("reschedule", "deferred"))
    parser.add_argument("--folder", type=Path, default=None, help="kept; by default a temporary one")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="backfill-"))
    print(f"{given.days} days, {LIMIT} requests in {given.window:g} s (a clock {60 / given.window:g} times as fast)")
    within = True
    for name in given.waits:
        deferred = name == "deferred"
        calls = unavoidable(given.days, deferred=deferred)
        outcomes = {}
        with ThreadPoolExecutor(1) as beside:  # it sleeps nearly all of its time
            allowed = beside.submit(measure_limit, calls, given.window)
            for kind, window in (("limited", given.window), ("alone", None)):
                with stack_for(folder / f"{name}-{kind}", window=window, deferred=deferred, slots=given.slots) as stack:
                    outcome = outcomes[kind] = backfill(stack, given.days, at_once=given.at_once)
                outcome.check(given.days)
                print(f"{name}, {kind}: {outcome.seconds:.0f} s; requests {dict(outcome.asked)}", flush=True)
        limit = allowed.result()
        bound = max(limit, outcomes["alone"].seconds)
        ratio = outcomes["limited"].seconds / bound
        within = within and ratio <= 1.25
        print(
            f"{name}: {outcomes['limited'].seconds:.0f} s under the limit; no limit and instant processing "
            f"{outcomes['alone'].seconds:.0f} s; the limit for {calls} calls {limit:.0f} s; ratio {ratio:.2f}",
            flush=True,
        )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
