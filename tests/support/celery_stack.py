"""Run Airflow with the CeleryExecutor: Redis, PostgreSQL, workers, triggerers and an object store, on one machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from demo.stack import ROOT, Stack, StackError, _port, every
from tests.support.object_store import ObjectStore
from tests.support.redis_server import RedisServer

XCOMS, LOGS = "xcoms", "logs"
_SECONDS_TO_DIE = 10
# What `airflow jobs` and the API call the processes.
_JOBS = {"triggerer": "TriggererJob", "scheduler": "SchedulerJob"}
# Airflow notices a death after five minutes by default. These are for a test.
_SHORT_TIMEOUTS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 20,
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 3,
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": 90,
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": 10,
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 15,
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 5,
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 10,
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": 2,
    # A death takes an attempt of whatever ran on the worker.
    "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": 3,
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": 2,
}


class CeleryStack(Stack):
    """
    Airflow's parts as separate processes, which can be killed and started one by one.

    XComs and the tasks' logs are in the object store. All state is in one folder, and all ports are on the loopback.

    :param folder: folder of all state except PostgreSQL's.
    :param workers: number of workers to start.
    :param slots: tasks that a worker runs at a time.
    :param triggerers: number of triggerers to start.
    :param bundles: folders of DAG files, beside ``dags/``.
    :param emulator_options: more command line options for the emulator.
    :param airflow_options: more ``AIRFLOW__SECTION__KEY`` settings.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        slots: int = 2,
        triggerers: int = 2,
        bundles: tuple[Path, ...] = (),
        emulator_options: tuple[str, ...] = (),
        airflow_options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, emulator_options=emulator_options, scheduler=False, postgres=True)
        self.redis = RedisServer(self.logs, _port(0))
        self.objects = ObjectStore(self.logs, _port(0), (XCOMS, LOGS))
        self._counts = {"worker": workers, "triggerer": triggerers}
        self._slots = slots
        self._bundles = bundles
        self._more_options = dict(airflow_options or {})
        self._numbers = {part: itertools.count(1) for part in ("scheduler", "worker", "triggerer")}

    def environment(self) -> dict[str, str]:
        """Return the environment of all processes."""
        bundles = [
            {
                "name": "dags-folder" if not number else path.name,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(path)},
            }
            for number, path in enumerate((ROOT / "dags", *self._bundles))
        ]
        settings = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            # The tasks of a killed worker count until Airflow notices its death. The others fill the remaining slots.
            "AIRFLOW__CORE__PARALLELISM": 2 * self._counts["worker"] * self._slots,
            "AIRFLOW__CELERY__BROKER_URL": self.redis.url,
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"s3://objects@{XCOMS}/",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": 0,
            "AIRFLOW__LOGGING__REMOTE_LOGGING": True,
            "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": f"s3://{LOGS}/airflow",
            "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID": "objects",
            "AIRFLOW_CONN_OBJECTS": self.objects.connection(),
            **_SHORT_TIMEOUTS,
        }
        return super().environment() | {name: str(value) for name, value in settings.items()} | self._more_options

    def start(self) -> None:
        """Start all processes and wait until they are ready."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self.redis.start()
        self.objects.start()
        super().start()
        self.watch_dags()
        self.start_scheduler()
        for part, count in self._counts.items():
            for _ in range(count):
                self.start_part(part)

    def stop(self) -> None:
        """Stop all processes, also those that a killed parent has left."""
        children = [child for process in self._processes.values() for child in _descendants(process.pid)]
        super().stop()
        _kill(children)
        self.objects.stop()
        self.redis.stop()

    def start_scheduler(self) -> None:
        """Start a scheduler."""
        self.start_part("scheduler")

    def start_part(self, part: str) -> str:
        """
        Start one more process of a kind, and return its name.

        :param part: ``scheduler``, ``worker`` or ``triggerer``.
        """
        name = f"{part}-{next(self._numbers[part])}"
        arguments = [part]
        if part == "worker":
            arguments = ["celery", "worker", "--celery-hostname", f"{name}@%h", "--concurrency", str(self._slots)]
            arguments += ["--without-mingle", "--without-gossip", "--pid", str(self.folder / f"{name}.pid")]
        self._start_airflow(name, *arguments)
        return name

    def kill(self, name: str) -> None:
        """
        Kill a process and all its descendants with SIGKILL, as the end of its machine would.

        :param name: the name that :meth:`start_part` returned.
        :raises StackError: if one of them survives.
        """
        process = self._processes.pop(name)
        tree = _descendants(process.pid)
        # The group first: it also has children that were forked after the list was made.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_SECONDS_TO_DIE)
        if survivors := _kill(tree):
            raise StackError(f"{name} was killed, but its processes {survivors} are alive")

    def names(self, part: str) -> list[str]:
        """Return the names of the running processes of a kind."""
        return [name for name in self._processes if name.startswith(f"{part}-")]

    def worker_of(self, task: Mapping[str, Any]) -> str | None:
        """
        Return the name of the worker that runs a task instance, or None.

        :param task: the task instance, as the API describes it. All workers have the same host name.
        """
        for name in self.names("worker"):
            if task["pid"] in [child.pid for child in _descendants(self._processes[name].pid)]:
                return name
        return None

    def await_job(self, name: str, known: set[int], *, seconds: float = 60) -> int:
        """
        Wait until a new scheduler or triggerer has a heartbeat, and return the id of its job.

        :param name: its name.
        :param known: the ids of earlier jobs of its kind.
        :param seconds: maximum seconds to wait.
        """
        for _ in every(0.3, seconds):
            self.check_alive()
            if fresh := self.jobs(name.partition("-")[0], is_alive="true") - known:
                return min(fresh)
        raise StackError(f"{name} had no heartbeat after {seconds:g} s; its log is {self.logs / f'{name}.log'}")

    def jobs(self, part: str, **filters: str) -> set[int]:
        """
        Return the ids of all jobs of a kind so far.

        :param part: ``scheduler`` or ``triggerer``.
        :param filters: more parameters of the API. A busy job does not always count as ``is_alive``.
        """
        found = self.api("GET", "jobs", params={"job_type": _JOBS[part], "limit": 100, **filters})
        return {job["id"] for job in found["jobs"]}


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(processes: list[psutil.Process]) -> list[int]:
    """Kill processes, and return the ids of those that are alive nevertheless."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(processes, timeout=_SECONDS_TO_DIE)
    return [process.pid for process in alive]
