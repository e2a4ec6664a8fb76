"""Run a real Airflow and the emulator as processes on the loopback, and stop them at the end."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import requests

from airflow_mapbox.emulator.connection import airflow_connection
from demo.postgres import Postgres

ROOT = Path(__file__).resolve().parent.parent
# Airflow's servers may be killed after this time: their state is in database transactions.
_STOP_SECONDS = 0.7


@dataclass(frozen=True)
class EmulatorAddress:
    """The addresses, account and token of a running emulator."""

    url: str
    s3_url: str
    account: str
    token: str


class StackError(RuntimeError):
    """A process did not start, or ended unexpectedly; or Airflow refused a request."""


class Stack:
    """
    The emulator, and Airflow's scheduler, API server and DAG processor, with all state in one folder.

    :param folder: folder of Airflow's home, the emulator's state and the logs. It is kept between runs.
    :param port: port of Airflow's API server and UI; 0 takes a free port.
    :param emulator_port: port of the emulator; 0 takes a free port.
    :param emulator_options: more command line options for the emulator.
    :param airflow_options: more ``AIRFLOW__SECTION__KEY`` settings.
    :param triggerer: also start a triggerer, for deferred tasks.
    :param scheduler: start the scheduler together with the other processes.
    :param postgres: use a temporary PostgreSQL instead of SQLite. With many runs at once, SQLite sometimes stops the
        scheduler ("database is locked").
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        emulator_port: int = 0,
        emulator_options: tuple[str, ...] = (),
        airflow_options: Mapping[str, str] | None = None,
        triggerer: bool = False,
        scheduler: bool = True,
        postgres: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self.home = self.folder / "airflow"
        self.logs = self.folder / "logs"
        self._database = self.home / "airflow.db"
        self._ready_file = self.folder / "emulator-ready.json"
        self.port = _port(port)
        self._emulator_port = _port(emulator_port)
        self._emulator_options = emulator_options
        self._airflow_options = dict(airflow_options or {})
        self._triggerer = triggerer
        self._scheduler = scheduler
        self._postgres = Postgres() if postgres else None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._session = requests.Session()
        self._session.trust_env = False  # all requests are to the loopback, so they need no proxy
        self.emulator: EmulatorAddress

    @property
    def url(self) -> str:
        """The URL of Airflow's UI."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return the environment of all processes, without the user's own settings for Airflow, Mapbox and AWS."""
        foreign = ("AIRFLOW", "MAPBOX", "AWS_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        settings = {
            "AIRFLOW_HOME": self.home,
            "AIRFLOW__CORE__DAGS_FOLDER": self.dags_folder,
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": 15,  # a new file appears soon
            "AIRFLOW__CORE__LOAD_EXAMPLES": False,
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            **self._database_settings(),
            "AIRFLOW__CORE__PARALLELISM": 4,
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,  # no login, because only this machine can reach it
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": self.port,
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": 1,
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt-secret"),
            "AIRFLOW__API__SECRET_KEY": self._secret("secret-key"),
            "AIRFLOW__CORE__FERNET_KEY": self._secret("fernet-key", "="),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": _port(0),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": _port(0),
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": 1,  # lets the sensor poll after 6 s instead of 10
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.2,
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": False,
            "MAPBOX_EXPORT_FOLDER": self.folder / "exports",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        return environment | {name: str(value) for name, value in settings.items()} | self._airflow_options

    @property
    def dags_folder(self) -> Path:
        """The folder of the DAGs."""
        return Path(self._airflow_options.get("AIRFLOW__CORE__DAGS_FOLDER", ROOT / "dags"))

    def write_command(self) -> Path:
        """Write a script that calls `airflow` with the settings of this Airflow, and return its path."""
        names = [name for name in self.environment() if name.startswith(("AIRFLOW", "MAPBOX"))]
        settings = [f"export {name}={shlex.quote(self.environment()[name])}" for name in sorted(names)]
        airflow = Path(sys.executable).with_name("airflow")
        path = self.folder / "airflow.sh"
        path.touch(mode=0o700)  # it contains the key of the connections' passwords
        path.write_text("\n".join(["#!/bin/sh", *settings, f'exec {shlex.quote(str(airflow))} "$@"', ""]))
        return path

    def _database_settings(self) -> dict[str, str]:
        if self._postgres is None:
            return {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._database}?timeout=60"}
        # By default Airflow uses asyncpg for asynchronous access, but psycopg supports both.
        names = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC")
        return dict.fromkeys(names, self._postgres.url)

    def database_dump(self) -> str:
        """Return the content of Airflow's database as SQL."""
        if self._postgres is not None:
            return self._postgres.dump()
        with contextlib.closing(sqlite3.connect(self._database)) as database:
            return "\n".join(database.iterdump())

    def _secret(self, name: str, padding: str = "") -> str:
        # 32 bytes in URL-safe base64. With padding this is also a valid Fernet key.
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(32) + padding)
        return path.read_text()

    def start(self) -> None:
        """
        Start all processes and wait until they are ready.

        :raises StackError: with the end of the log if a process does not start.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        if self._postgres is not None:
            self._postgres.start()
        self._start_emulator()
        self._migrate()
        self._start_airflow("api-server", "api-server")
        if self._scheduler:
            self.start_scheduler()
        if self._triggerer:
            self._start_airflow("triggerer", "triggerer")
        self._await_emulator()
        self._await("Airflow's API server", lambda: self._is_up(f"{self.url}/api/v2/version"))
        token = self._session.get(f"{self.url}/auth/token", timeout=10).json()["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._store_connection()

    def stop(self) -> None:
        """Stop all processes and their child processes."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes.clear()
        if self._postgres is not None:
            self._postgres.stop()

    def start_scheduler(self) -> None:
        """Start the scheduler, if the stack was started without it."""
        self._start_airflow("scheduler", "scheduler")

    def __enter__(self) -> Stack:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def api(self, method: str, path: str, **options: Any) -> Any:
        """Call Airflow's public REST API and return the JSON of the response."""
        response = self._session.request(method, f"{self.url}/api/v2/{path}", timeout=30, **options)
        if response.status_code >= 400:
            raise StackError(f"Airflow answered {response.status_code} to {method} {path}: {response.text[:500]}")
        return response.json() if response.content else None

    def await_dag(self, dag_id: str) -> None:
        """Wait until Airflow has parsed the current version of a DAG."""
        newest = max(file.stat().st_mtime for file in (ROOT / "dags").glob("*.py"))

        def is_current() -> bool:
            try:
                response = self._session.get(f"{self.url}/api/v2/dags/{dag_id}/details", timeout=10)
            except requests.Timeout:
                return False  # on a busy machine, the API server's first answer takes longer
            last_parsed = response.json().get("last_parsed") if response.status_code == 200 else None
            return last_parsed is not None and datetime.fromisoformat(last_parsed).timestamp() > newest

        # The DAG may be in the database from an earlier run. Starting the DAG processor takes a core five seconds.
        if not is_current():
            if "dag-processor" not in self._processes:
                self.watch_dags()
            self._await(f"DAG {dag_id}", is_current, seconds=90)

    def watch_dags(self) -> None:
        """Start the DAG processor, which parses the DAG files, and again after each change."""
        self._start_airflow("dag-processor", "dag-processor")

    def check_alive(self) -> None:
        """Raise StackError with the end of the log if a process has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = self.logs / f"{name}.log"
                raise StackError(f"{name} ended with {process.returncode}; {log} ends:\n{_tail(log)}")

    def _start_emulator(self) -> None:
        self._ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "airflow_mapbox.emulator", "--folder", str(self.folder / "emulator")]
        command += ["--port", str(self._emulator_port), "--s3-port", "0", "--ready-file", str(self._ready_file)]
        self._spawn("emulator", [*command, *self._emulator_options])

    def _await_emulator(self) -> None:
        self._await("the emulator", self._ready_file.exists)
        address = json.loads(self._ready_file.read_text())
        token = Path(address["token_file"]).read_text().strip()
        self.emulator = EmulatorAddress(address["url"], address["s3_url"], address["account"], token)

    def _migrate(self) -> None:
        """Migrate the database, unless it has this Airflow's version. A migration takes at least six seconds."""
        stamp = self.folder / "migrated-to"
        version = metadata.version("apache-airflow-core")
        if self._postgres is None and stamp.exists() and stamp.read_text() == version:
            return
        migration = self._start_airflow("migrate", "db", "migrate")
        migration.wait()
        if migration.returncode != 0:
            self.check_alive()
        del self._processes["migrate"]
        if self._postgres is not None:
            return
        # Airflow's processes share this file. With a write-ahead log, readers do not block writers. The mode is stored
        # in the file, so it is set only once.
        with contextlib.closing(sqlite3.connect(self._database)) as database:
            database.execute("PRAGMA journal_mode=WAL")
        stamp.write_text(version)

    def _start_airflow(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self._spawn(name, [sys.executable, "-m", "airflow", *arguments])

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.environment(),
                start_new_session=True,
            )
        self._processes[name] = process
        return process

    def connection(self) -> dict[str, Any]:
        """Return the fields of a connection to the emulator, for Airflow's REST API and for `AIRFLOW_CONN_…`."""
        fields = airflow_connection(**asdict(self.emulator))
        return fields | {"extra": json.dumps(fields["extra"])}

    def _store_connection(self) -> None:
        """Create or update Airflow's connection to the emulator."""
        connection = {"connection_id": "mapbox_default", **self.connection()}
        existing = self.api("GET", "connections", params={"connection_id_pattern": "mapbox_default"})["connections"]
        if any(item["connection_id"] == "mapbox_default" for item in existing):
            self.api("PATCH", "connections/mapbox_default", json=connection)
        else:
            self.api("POST", "connections", json=connection)

    def _is_up(self, url: str) -> bool:
        try:
            return self._session.get(url, timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def _await(self, name: str, condition: Callable[[], bool], *, seconds: float = 60) -> None:
        for _ in every(0.2, seconds):
            if condition():
                return
            self.check_alive()
        raise StackError(f"{name} was not ready within {seconds:g} s; the logs are in {self.logs}")


def every(pause: float, seconds: float) -> Iterator[float]:
    """Yield the elapsed seconds, again after each pause, until the time is over."""
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < seconds:
        yield elapsed
        time.sleep(pause)


def _port(preferred: int) -> int:
    """Return the preferred port if it is free, else another free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
