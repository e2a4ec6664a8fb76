"""CeleryExecutor whose workers, triggerers and scheduler are killed: one upload for each intent, and no secret left."""

from __future__ import annotations

import base64
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import requests

from demo.postgres import Postgres
from demo.stack import ROOT, every
from tests.support.celery_stack import LOGS, XCOMS, CeleryStack
from tests.support.redis_server import RedisServer
from tests.system.canaries import exports_of, issued_secrets
from tests.system.celery_dags.under_fire import DEFERRED

BACKFILLED = "earthquakes_daily"
DAYS = [date(2018, 1, 31) + timedelta(days=number) for number in range(8)]
# Examples that run without parameters, and the tilesets that they make.
EXAMPLES = {
    "virginia_counties": ["virginia-counties"],
    "counties_approved": ["virginia-counties-approved"],
    "counties_approved_above": ["virginia-counties-limited"],
    "counties_as_tiles": ["virginia-counties-tiles"],
    "counties_deferred": ["virginia-counties-deferred"],
    "counties_if_changed": ["virginia-counties-if-changed"],
    "earthquakes_by_magnitude": [f"earthquakes-magnitude-{low}" for low in (2, 4, 5)],
    "earthquakes_decorated": ["earthquakes-strong"],
    "layer_in_parts": ["virginia-counties-in-parts"],
}
UNDER_FIRE = ["staged", "held-poked", "held-rescheduled", *DEFERRED]
SECONDS = 420
# ApprovalOperator fails if it is answered sooner.
SECONDS_BEFORE_APPROVAL = 4

pytestmark = pytest.mark.timeout(900)


class Drill:
    """One run of everything, with its deaths, and a line for each event."""

    def __init__(self, stack: CeleryStack, say: Callable[[str], None]) -> None:
        self.stack = stack
        self.say = say
        self.runs: list[tuple[str, str]] = []
        self.deaths: list[str] = []
        self.victims = Counter[str]()
        self.redis_keys: set[str] = set()

    def run(self) -> None:
        """Start all DAG runs, kill their processes, let the uploads finish, and wait for all runs."""
        self.hold_uploads()
        self.trigger()
        self.kill_worker(while_task=self.staging)
        self.kill_worker(while_task=self.waiting)
        self.restart_triggerers()
        self.restart_scheduler()
        self.let_uploads_finish()
        self.await_runs()

    def hold_uploads(self) -> None:
        """Let a part of the staged file hang, and processing stall, until the test has killed what waits for them."""
        self.fault(kind="delay", where="s3", path="partNumber=2", seconds=20)
        self.fault(kind="stall", where="processing", path="held-", times=0, progress=0.4)

    def trigger(self) -> None:
        """Start the backfill and the other DAG runs."""
        for dag_id in (BACKFILLED, *EXAMPLES, "under_fire"):
            self.stack.await_dag(dag_id)
        for dag_id in ("under_fire", *EXAMPLES):
            run = self.stack.api("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": "2018-02-01T00:00:00Z"})
            self.runs.append((dag_id, run["dag_run_id"]))
        backfill = {
            "dag_id": BACKFILLED,
            "from_date": f"{DAYS[0]}T00:00:00Z",
            "to_date": f"{DAYS[-1]}T00:00:00Z",
            "max_active_runs": 4,
        }
        self.stack.api("POST", "backfills", json=backfill)
        self.say(f"triggered {', '.join(dag_id for dag_id, _ in self.runs)}; backfill of {len(DAYS)} days")

    def kill_worker(self, while_task: Callable[[], dict[str, Any] | None]) -> None:
        """Kill the worker that runs a task with SIGKILL, and start another one."""
        for _ in every(0.4, SECONDS):
            self.look_after()
            if (task := while_task()) and (worker := self.stack.worker_of(task)):
                break
        else:
            pytest.fail("the task did not run")
        victims = [item for item in self.tasks(state="running") if self.stack.worker_of(item) == worker]
        self.stack.kill(worker)
        names = ", ".join(sorted(f"{item['dag_id']}.{item['task_id']}" for item in victims))
        waiting = len(self.tasks(state="up_for_reschedule"))
        self.victims.update(item["task_id"] for item in victims if item["dag_id"] == "under_fire")
        self.death(f"{worker} killed (-9) while it ran {names}, and {waiting} sensors waited for their next poll")
        self.say(f"started {self.stack.start_part('worker')}")

    def staging(self) -> dict[str, Any] | None:
        """Return the task whose second part hangs at the bucket."""
        faults = requests.get(f"{self.stack.emulator.url}/_emulator/faults", timeout=10).json()
        if any(fault["where"] == "s3" for fault in faults):
            return None
        return self.task("under_fire", "stage", "running")

    def waiting(self) -> dict[str, Any] | None:
        """Return the task that waits on a worker, while another one waits for its next poll."""
        if self.task("under_fire", "reschedule", "up_for_reschedule") is None:
            return None
        return self.task("under_fire", "poke", "running")

    def restart_triggerers(self) -> None:
        """Kill one triggerer after the other while deferred waits run in them."""
        for _ in every(0.5, SECONDS):
            self.look_after()
            if len(self.tasks(dag_id="under_fire", state="deferred")) == len(DEFERRED):
                break
        else:
            pytest.fail("the waits were not deferred")
        for name in self.stack.names("triggerer"):
            known = self.stack.jobs("triggerer")
            self.stack.kill(name)
            fresh = self.stack.start_part("triggerer")
            self.death(f"{name} killed (-9) while {len(self.tasks(state='deferred'))} waits were deferred")
            self.stack.await_job(fresh, known)
            self.say(f"started {fresh}")

    def restart_scheduler(self) -> None:
        """Kill the scheduler in the middle of the backfill, and start another one."""
        known = self.stack.jobs("scheduler")
        (name,) = self.stack.names("scheduler")
        states = Counter(task["state"] or "none" for task in self.tasks())
        self.stack.kill(name)
        fresh = self.stack.start_part("scheduler")
        self.death(f"{name} killed (-9) with tasks {dict(states)}")
        self.stack.await_job(fresh, known)
        self.say(f"started {fresh}")

    def let_uploads_finish(self) -> None:
        """Clear all faults."""
        requests.delete(f"{self.stack.emulator.url}/_emulator/faults", timeout=10)
        self.say("held uploads finish now")

    def await_runs(self) -> None:
        """Wait until every DAG run has ended."""
        for _ in every(1, SECONDS):
            self.look_after()
            backfills = self.stack.api("GET", "backfills", params={"dag_id": BACKFILLED})["backfills"]
            ended = all(state in ("success", "failed") for state in self.states().values())
            if ended and all(backfill["completed_at"] for backfill in backfills):
                break
        self.say(f"runs {dict(Counter(self.states().values()))}")

    def look_after(self) -> None:
        """Fail if a process has ended by itself, answer the approval, and note Redis's keys."""
        self.stack.check_alive()
        self.redis_keys |= set(self.stack.redis.keys())
        task = self.task("counties_approved", "approve", "awaiting_input")
        if task is None or not task["start_date"]:
            return
        waited = time.time() - datetime.fromisoformat(task["start_date"]).timestamp()
        if waited > SECONDS_BEFORE_APPROVAL:
            path = f"dags/counties_approved/dagRuns/{task['dag_run_id']}/taskInstances/approve/-1/hitlDetails"
            self.stack.api("PATCH", path, json={"chosen_options": ["Approve"], "params_input": {}})
            self.say("approved counties_approved")

    def states(self) -> dict[tuple[str, str], str]:
        """Return the state of every DAG run, by DAG and run."""
        runs = self.stack.api("GET", "dags/~/dagRuns", params={"limit": 100})["dag_runs"]
        wanted = {(dag_id, run_id) for dag_id, run_id in self.runs}
        return {
            (run["dag_id"], run["dag_run_id"]): run["state"]
            for run in runs
            if run["run_type"] == "backfill" or (run["dag_id"], run["dag_run_id"]) in wanted
        }

    def tasks(self, **filters: str) -> list[dict[str, Any]]:
        """Return the task instances of all runs, if they match."""
        found = self.stack.api("GET", "dags/~/dagRuns/~/taskInstances", params={"limit": 300})["task_instances"]
        return [task for task in found if all(task[name] == value for name, value in filters.items())]

    def task(self, dag_id: str, task_id: str, state: str) -> dict[str, Any] | None:
        """Return a task instance in a state, or None."""
        return next(iter(self.tasks(dag_id=dag_id, task_id=task_id, state=state)), None)

    def fault(self, **fields: Any) -> None:
        """Add a fault to the emulator."""
        response = requests.post(f"{self.stack.emulator.url}/_emulator/faults", json=fields, timeout=10)
        assert response.status_code == 201, response.text

    def death(self, message: str) -> None:
        """Note and print a death."""
        self.deaths.append(message)
        self.say(message)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the test as Ctrl-C does, so that no process is left."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def printing(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Yield a function that prints a line with the seconds so far, also if pytest captures the output."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    started = time.monotonic()

    def say(message: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{time.monotonic() - started:5.0f} s  {message}", end="", flush=True)

    yield say
    say("stopped all\n")


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Drill]:
    missing = [
        package
        for package, server in {"redis-server": RedisServer, "postgresql": Postgres}.items()
        if not server.is_installed()
    ]
    assert not missing, f"apt-get install {' '.join(missing)}"
    stack = CeleryStack(
        tmp_path_factory.mktemp("workers"),
        bundles=(ROOT / "tests" / "system" / "celery_dags",),
        # Mapbox's limit by its newer page.
        emulator_options=("--rate-limit", "60", "--workers", "32", "--processing-seconds", "1"),
        airflow_options={"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG", "PYTHONPATH": str(ROOT)},
    )
    exports = exports_of(stack)
    (exports / "small.csv").write_text("lon,lat,n\n" + "".join(f"{n},{n % 80},{n}\n" for n in range(100)))
    text = "x" * 20_000
    (exports / "large.csv").write_text("lon,lat,n\n" + "".join(f"{n % 170},{n % 80},{text}{n}\n" for n in range(600)))
    with stopped_by_signals(), printing(request) as say, stack:
        say(f"started {', '.join(stack._processes)}; Redis, PostgreSQL and an object store")
        drill = Drill(stack, say)
        drill.run()
        yield drill


def uploads(stack: CeleryStack) -> Counter[str]:
    """Return the number of uploads of each tileset, from the account's list."""
    url: str | None = f"{stack.emulator.url}/uploads/v1/{stack.emulator.account}?limit=100"
    made: Counter[str] = Counter()
    for _ in every(2, 120):
        answer = requests.get(url, params={"access_token": stack.emulator.token}, timeout=10)
        if answer.status_code == 429:
            continue
        made.update(upload["tileset"].partition(".")[2] for upload in answer.json())
        url = answer.links.get("next", {}).get("url")
        if url is None:
            return made
    pytest.fail("the emulator's rate limit did not reset")


def test_every_run_is_green_after_two_workers_two_triggerers_and_the_scheduler_were_killed(drill: Drill) -> None:
    states = drill.states()
    failed = [f"{task['dag_id']}.{task['task_id']}" for task in drill.tasks(state="failed")]
    assert Counter(states.values()) == {"success": len(DAYS) + len(EXAMPLES) + 1}, failed
    assert len(drill.deaths) == 5


def test_the_tasks_that_died_were_tried_again(drill: Drill) -> None:
    for task_id in ("stage", "poke"):
        task = drill.task("under_fire", task_id, "success")
        assert task is not None
        # The worker that was killed first may have run the second task too.
        assert drill.victims[task_id] in (1, 2)
        assert task["try_number"] == 1 + drill.victims[task_id], task_id


def test_each_intent_has_one_upload(drill: Drill) -> None:
    made = uploads(drill.stack)
    drill.say(f"uploads {made.total()} of {len(made)} tilesets")
    expected = [f"earthquakes-{day:%Y%m%d}" for day in DAYS]
    expected += [tileset for tilesets in EXAMPLES.values() for tileset in tilesets] + UNDER_FIRE
    assert made == Counter(expected)
    with sqlite3.connect(drill.stack.folder / "emulator" / "emulator.sqlite3") as books:
        assert books.execute("SELECT error FROM uploads WHERE error IS NOT NULL").fetchall() == []


def test_no_secret_is_in_redis_the_database_the_buckets_or_any_log(drill: Drill) -> None:
    stack = drill.stack
    secrets = [*issued_secrets(stack), stack.objects.secret_key]
    assert len(secrets) >= 2 + 3 * (len(DAYS) + len(EXAMPLES) + len(UNDER_FIRE))
    places = dict(stack.objects.objects())
    buckets = Counter(name.partition("/")[0] for name in places)
    assert buckets[XCOMS] > 0
    assert buckets[LOGS] > 0
    files = [path for folder in (stack.logs, stack.home / "logs") for path in folder.rglob("*") if path.is_file()]
    places |= {str(path): path.read_text(errors="replace") for path in files}
    places["PostgreSQL"] = decoded(stack.database_dump())
    places["Redis"] = decoded("\n".join(stack.redis.commands))
    drill.say(
        f"looked for {len(secrets)} secrets in {len(stack.redis.commands)} commands and {len(drill.redis_keys)} keys "
        f"of Redis, {len(places['PostgreSQL']):,} bytes of PostgreSQL, {len(files)} files, "
        f"{buckets[XCOMS]} XComs and {buckets[LOGS]} logs in buckets"
    )

    # The search finds what is known to be there.
    assert f'"dag_id":"{BACKFILLED}"' in re.sub(r"[\s\\]", "", places["Redis"])
    assert "held-poked" in places["PostgreSQL"]
    assert any("[debug" in text or '"level":"debug"' in text for text in places.values()), "nothing at DEBUG"
    assert [name for name, text in places.items() if any(secret in text for secret in secrets)] == []


def decoded(text: str) -> str:
    """Return a text, followed by what its base64 (Celery's messages) and hexadecimal (bytes in a dump) stand for."""
    found = [text]
    for run in re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", text):
        found.append(base64.b64decode(run[: len(run) // 4 * 4]).decode(errors="replace"))
    for run in re.findall(r"\\x([0-9a-f]{16,})", text):
        found.append(bytes.fromhex(run[: len(run) // 2 * 2]).decode(errors="replace"))
    return "\n".join(found)
