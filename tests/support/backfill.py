"""Run a backfill in a real Airflow under Mapbox's rate limit, and collect its outcome."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from demo.postgres import Postgres
from demo.stack import ROOT, Stack, StackError, every

DAG_ID = "earthquakes_daily"
FIRST_DAY = date(2018, 1, 31)
LIMIT = 30
TASKS = ("export", "upload", "wait")
_EARTHQUAKES_A_DAY = 5
_SAMPLE = ROOT / "dags" / "data" / "usgs-earthquakes-2018-01-31-to-02-07.geojson"


@dataclass(frozen=True)
class Outcome:
    """
    The outcome of a backfill.

    :param seconds: from the scheduler's start until Airflow reports the backfill as complete.
    :param runs: number of runs by state.
    :param tries: number of task instances by task, state and try number.
    :param uploads: the account's uploads, from the API.
    :param requests: the requests to the emulator, from its log.
    """

    seconds: float
    runs: Counter[str]
    tries: Counter[tuple[str, str, int]]
    uploads: list[dict[str, Any]]
    requests: list[dict[str, Any]]

    @property
    def request_counts(self) -> Counter[tuple[str, int]]:
        """Number of requests by endpoint (credentials, create, status, list) and status."""
        return Counter((_endpoint(request), request["status"]) for request in self.requests)

    def polls(self) -> dict[str, list[float]]:
        """Return the Unix times of the successful status requests for each upload."""
        polls: dict[str, list[float]] = {upload["id"]: [] for upload in self.uploads}
        for request in self.requests:
            if _endpoint(request) == "status" and request["status"] == 200:
                polls[request["path"].rpartition("/")[2]].append(request["time"])
        return polls

    @property
    def counted_requests(self) -> int:
        """Number of requests that the rate limit counted. It does not count the requests that it refused."""
        return sum(number for (_, status), number in self.request_counts.items() if status != 429)

    def check(self, days: int) -> None:
        """
        Check that each task succeeded at its first try, and that each day has one upload.

        :param days: number of days in the backfill.
        :raises StackError: if not.
        """
        expected = {(task, "success", 1): days for task in TASKS}
        uploads = Counter(Counter(upload["tileset"] for upload in self.uploads).values())
        if self.runs != {"success": days} or self.tries != expected or uploads != {1: days}:
            raise StackError(f"runs {self.runs}, tasks {self.tries}, tilesets by number of uploads {uploads}")


def write_feed(path: Path, days: int) -> Path:
    """
    Write a GeoJSON file with a few earthquakes for each day.

    :param path: the file.
    :param days: number of days from ``FIRST_DAY`` on.
    """
    sample = json.loads(_SAMPLE.read_text())
    features = []
    for number in range(days):
        noon = datetime.combine(FIRST_DAY + timedelta(days=number), datetime.min.time(), UTC) + timedelta(hours=12)
        for index, feature in enumerate(sample["features"][:_EARTHQUAKES_A_DAY]):
            properties = {**feature["properties"], "time": int(noon.timestamp() * 1000) + index}
            features.append({**feature, "id": f"day{number}-{index}", "properties": properties})
    path.write_text(json.dumps({**sample, "features": features}))
    return path


@contextmanager
def stack_for(
    folder: Path,
    *,
    window: float | None,
    deferred: bool,
    processing: float = 3,
    slots: int = 4,
    airflow_options: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """
    Start Airflow without its scheduler, and an emulator, for one backfill.

    :param folder: the folder of their state.
    :param window: length of the rate limit's window in seconds; None for no limit and instant processing.
    :param deferred: wait in the triggerer.
    :param processing: seconds that Mapbox's processing takes, if there is a limit.
    :param slots: number of tasks that run at a time. A task that waits for the limit's next window keeps its slot.
    :param airflow_options: more settings of Airflow, as environment variables.
    """
    limited = ("--rate-limit", str(LIMIT), "--rate-window", f"{window:g}") if window else ("--rate-limit", "0")
    options = (*limited, "--workers", "32", "--processing-seconds", f"{processing:g}" if window else "0")
    settings = {
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": str(deferred),
        "AIRFLOW__CORE__PARALLELISM": str(slots),
        # Some examples have a schedule. Their requests would count too.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        **(airflow_options or {}),
    }
    with Stack(
        folder,
        emulator_options=options,
        airflow_options=settings,
        triggerer=deferred,
        scheduler=False,
        postgres=Postgres.is_installed(),
    ) as stack:
        stack.await_dag(DAG_ID)
        stack.api("PATCH", f"dags/{DAG_ID}", json={"is_paused": False})
        yield stack


def backfill(stack: Stack, days: int, *, max_active_runs: int = 16, timeout: float = 7200) -> Outcome:
    """
    Backfill the example DAG and wait until the backfill is complete.

    :param stack: a running stack without a scheduler.
    :param days: number of days from ``FIRST_DAY`` on.
    :param max_active_runs: number of runs at a time.
    :param timeout: maximum seconds to wait.
    :raises StackError: if the backfill is not complete in time.
    """
    feed = write_feed(stack.folder / "feed.geojson", days)
    last = FIRST_DAY + timedelta(days=days - 1)
    request = {
        "dag_id": DAG_ID,
        "from_date": f"{FIRST_DAY}T00:00:00Z",
        "to_date": f"{last}T00:00:00Z",
        "max_active_runs": max_active_runs,
        "dag_run_conf": {"feed": str(feed)},
    }
    stack.api("POST", "backfills", json=request)
    started = time.monotonic()
    stack.start_scheduler()
    for _ in every(1, timeout):
        stack.check_alive()
        backfills = stack.api("GET", "backfills", params={"dag_id": DAG_ID})["backfills"]
        if all(entry["completed_at"] for entry in backfills):
            break
    else:
        raise StackError(f"The backfill was not complete after {timeout:g} s. The logs are in {stack.logs}.")
    seconds = time.monotonic() - started
    runs = [run for run in _pages(stack, f"dags/{DAG_ID}/dagRuns", "dag_runs") if run["run_type"] == "backfill"]
    ids = {run["dag_run_id"] for run in runs}
    tasks = [
        task
        for task in _pages(stack, f"dags/{DAG_ID}/dagRuns/~/taskInstances", "task_instances")
        if task["dag_run_id"] in ids
    ]
    # Read before `_uploads` makes requests of its own.
    request_log = requests.get(f"{stack.emulator.url}/_emulator/requests", timeout=30).json()
    return Outcome(
        seconds,
        Counter(run["state"] for run in runs),
        Counter((task["task_id"], task["state"], task["try_number"]) for task in tasks),
        list(_uploads(stack)),
        request_log,
    )


def _endpoint(request: Mapping[str, Any]) -> str:
    parts = request["path"].split("/")[3:]  # after /uploads/v1
    if request["method"] == "POST":
        return "create" if len(parts) == 1 else "credentials"
    return "list" if len(parts) == 1 else "status"


def _pages(stack: Stack, path: str, key: str) -> Iterator[dict[str, Any]]:
    offset = 0
    while page := stack.api("GET", path, params={"limit": 100, "offset": offset})[key]:
        yield from page
        offset += len(page)


def _uploads(stack: Stack) -> Iterator[dict[str, Any]]:
    url: str | None = f"{stack.emulator.url}/uploads/v1/{stack.emulator.account}?limit=100"
    while url:
        response = requests.get(url, params={"access_token": stack.emulator.token}, timeout=30)
        if response.status_code == 429:
            time.sleep(1)
            continue
        yield from response.json()
        url = response.links.get("next", {}).get("url")


def min_requests(days: int, *, deferred: bool) -> int:
    """
    Return the minimum number of requests for a backfill: credentials, create, and one poll for each upload.

    :param days: number of days in the backfill.
    :param deferred: whether one list request polls a hundred uploads.
    """
    return 2 * days + (math.ceil(days / 100) if deferred else days)
