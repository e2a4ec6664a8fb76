"""A backfill under Mapbox's rate limit in a running Airflow, and what came of it."""

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
_OF_A_DAY = 5
_SAMPLE = ROOT / "dags" / "data" / "usgs-earthquakes-2018-01-31-to-02-07.geojson"


@dataclass(frozen=True)
class Outcome:
    """
    What a backfill came to.

    :param seconds: from the start of a scheduler that finds the backfill to Airflow's word that it is complete.
    :param runs: by state.
    :param tries: of tasks, by task, state and number of the try.
    :param uploads: of the account, as the API shows them.
    :param seen: requests to the emulator, as it shows them.
    """

    seconds: float
    runs: Counter[str]
    tries: Counter[tuple[str, str, int]]
    uploads: list[dict[str, Any]]
    seen: list[dict[str, Any]]

    @property
    def asked(self) -> Counter[tuple[str, int]]:
        """Requests by endpoint (credentials, create, status, list) and status."""
        return Counter((_endpoint(one), one["status"]) for one in self.seen)

    def looks(self) -> dict[str, list[float]]:
        """Give the times at which each upload was looked at by itself."""
        found: dict[str, list[float]] = {upload["id"]: [] for upload in self.uploads}
        for one in self.seen:
            if _endpoint(one) == "status" and one["status"] == 200:
                found[one["path"].rpartition("/")[2]].append(one["time"])
        return found

    @property
    def counted(self) -> int:
        """Requests that the limit counted: those that it did not refuse."""
        return sum(number for (_, status), number in self.asked.items() if status != 429)

    def check(self, days: int) -> None:
        """
        Complain of what is not as promised: every task a success at its first try, one upload a day.

        :param days: that were backfilled.
        """
        wanted = {(task, "success", 1): days for task in TASKS}
        uploads = Counter(Counter(upload["tileset"] for upload in self.uploads).values())
        if self.runs != {"success": days} or self.tries != wanted or uploads != {1: days}:
            raise StackError(f"runs {self.runs}, tasks {self.tries}, tilesets by number of uploads {uploads}")


def write_feed(path: Path, days: int) -> Path:
    """
    Write a few of the sample's earthquakes for each day, moved to it.

    :param path: of the file to write.
    :param days: from the first day on.
    """
    sample = json.loads(_SAMPLE.read_text())
    features = []
    for number in range(days):
        noon = datetime.combine(FIRST_DAY + timedelta(days=number), datetime.min.time(), UTC) + timedelta(hours=12)
        for index, feature in enumerate(sample["features"][:_OF_A_DAY]):
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
    Start Airflow, all but its scheduler, and an emulator for one backfill.

    :param folder: for all that they keep.
    :param window: seconds in which 30 requests are allowed; None for no limit and instant processing.
    :param deferred: wait in the triggerer.
    :param processing: seconds that it takes, where there is a limit.
    :param slots: of the LocalExecutor: tasks that run at a time. A task that waits for the limit's next window keeps
        its own.
    :param airflow_options: further settings.
    """
    limited = ("--rate-limit", str(LIMIT), "--rate-window", f"{window:g}") if window else ("--rate-limit", "0")
    options = (*limited, "--workers", "32", "--processing-seconds", f"{processing:g}" if window else "0")
    settings = {
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": str(deferred),
        "AIRFLOW__CORE__PARALLELISM": str(slots),
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
        yield stack


def backfill(stack: Stack, days: int, *, at_once: int = 16, patience: float = 7200) -> Outcome:
    """
    Backfill the example DAG and wait for its end.

    :param stack: that is running, without a scheduler yet.
    :param days: from the first day on.
    :param at_once: runs at a time.
    :param patience: seconds to wait at most.
    """
    feed = write_feed(stack.folder / "feed.geojson", days)
    last = FIRST_DAY + timedelta(days=days - 1)
    wanted = {
        "dag_id": DAG_ID,
        "from_date": f"{FIRST_DAY}T00:00:00Z",
        "to_date": f"{last}T00:00:00Z",
        "max_active_runs": at_once,
        "dag_run_conf": {"feed": str(feed)},
    }
    stack.api("POST", "backfills", json=wanted)
    began = time.monotonic()
    stack.start_scheduler()
    for _ in every(1, patience):
        stack.check_alive()
        if all(one["completed_at"] for one in stack.api("GET", "backfills", params={"dag_id": DAG_ID})["backfills"]):
            break
    else:
        raise StackError(f"the backfill did not end within {patience:g} s; the logs are in {stack.logs}")
    seconds = time.monotonic() - began
    runs = [run for run in _pages(stack, f"dags/{DAG_ID}/dagRuns", "dag_runs") if run["run_type"] == "backfill"]
    ids = {run["dag_run_id"] for run in runs}
    tasks = [
        task
        for task in _pages(stack, f"dags/{DAG_ID}/dagRuns/~/taskInstances", "task_instances")
        if task["dag_run_id"] in ids
    ]
    # Counted before the list is asked for below.
    seen = requests.get(f"{stack.emulator.url}/_emulator/requests", timeout=30).json()
    return Outcome(
        seconds,
        Counter(run["state"] for run in runs),
        Counter((task["task_id"], task["state"], task["try_number"]) for task in tasks),
        list(_uploads(stack)),
        seen,
    )


def _endpoint(request: Mapping[str, Any]) -> str:
    parts = request["path"].split("/")[3:]  # behind /uploads/v1
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
        answer = requests.get(url, params={"access_token": stack.emulator.token}, timeout=30)
        if answer.status_code == 429:
            time.sleep(1)
            continue
        yield from answer.json()
        url = answer.links.get("next", {}).get("url")


def unavoidable(days: int, *, deferred: bool) -> int:
    """
    Give the calls that a backfill cannot do without: credentials, create, and one look at each upload.

    :param days: that are backfilled.
    :param deferred: whether one list request looks at a hundred.
    """
    return 2 * days + (math.ceil(days / 100) if deferred else days)
