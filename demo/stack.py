"""A real Airflow and the emulator beside it, as processes on the loopback that end with the program."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
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
# What a kill after that interrupts is Airflow's servers taking leave: all that they keep is in transactions.
_STOP_SECONDS = 0.7


@dataclass(frozen=True)
class EmulatorAddress:
    """Where the emulator is."""

    url: str
    s3_url: str
    account: str
    token: str


class StackError(RuntimeError):
    """A process did not start, or ended before its time."""


class Stack:
    """
    The emulator, and Airflow's scheduler, API server and DAG processor, with one folder for all that they keep.

    :param folder: kept between runs: Airflow's home, the emulator's state, the logs.
    :param port: of Airflow's API server and UI; 0 takes a free one.
    :param emulator_port: of the emulator; 0 takes a free one.
    :param emulator_options: further command line options of the emulator.
    :param airflow_options: further ``AIRFLOW__SECTION__KEY`` settings.
    :param triggerer: start a triggerer too, for deferred tasks.
    :param scheduler: start the scheduler with the rest.
    :param postgres: keep Airflow's database in a PostgreSQL that ends with the stack, instead of SQLite, on which many
        runs at once now and then stop a scheduler ("database is locked").
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
        self._ready = self.folder / "emulator-ready.json"
        self.port = _port(port)
        self._emulator_port = _port(emulator_port)
        self._emulator_options = emulator_options
        self._airflow_options = dict(airflow_options or {})
        self._triggerer = triggerer
        self._scheduler = scheduler
        self._postgres = Postgres() if postgres else None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._session = requests.Session()
        self._session.trust_env = False  # all of it is on the loopback, which is for no proxy
        self.emulator: EmulatorAddress

    @property
    def url(self) -> str:
        """Airflow's UI."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Give what every process gets: this home, nothing of an Airflow or a Mapbox that the user may have."""
        foreign = ("AIRFLOW", "MAPBOX", "AWS_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        settings = {
            "AIRFLOW_HOME": self.home,
            "AIRFLOW__CORE__DAGS_FOLDER": ROOT / "dags",
            "AIRFLOW__CORE__LOAD_EXAMPLES": False,
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            **self._database_settings(),
            "AIRFLOW__CORE__PARALLELISM": 4,
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,  # the loopback only; so no password to look up
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": self.port,
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": 1,
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt-secret"),
            "AIRFLOW__API__SECRET_KEY": self._secret("secret-key"),
            "AIRFLOW__CORE__FERNET_KEY": self._secret("fernet-key", "="),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": _port(0),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": _port(0),
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": 1,  # the sensor may look after 6 s instead of 10
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.2,
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": False,
            "MAPBOX_EXPORT_FOLDER": self.folder / "exports",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        return environment | {name: str(value) for name, value in settings.items()} | self._airflow_options

    def _database_settings(self) -> dict[str, str]:
        if self._postgres is None:
            return {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._database}?timeout=60"}
        # Airflow would take asyncpg for its asynchronous half; psycopg can do both.
        names = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC")
        return dict.fromkeys(names, self._postgres.url)

    def database_dump(self) -> str:
        """Give all that Airflow's database holds, as SQL."""
        if self._postgres is not None:
            return self._postgres.dump()
        with contextlib.closing(sqlite3.connect(self._database)) as database:
            return "\n".join(database.iterdump())

    def _secret(self, name: str, ending: str = "") -> str:
        # 32 bytes in URL-safe base64, which with its padding is also what Fernet wants as a key.
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(32) + ending)
        return path.read_text()

    def start(self) -> None:
        """Start everything at once and wait until it answers; what does not come up is named with its log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        if self._postgres is not None:
            self._postgres.start()
        self._start_emulator()
        self._migrate()
        self._airflow("api-server", "api-server")
        if self._scheduler:
            self.start_scheduler()
        if self._triggerer:
            self._airflow("triggerer", "triggerer")
        self._await_emulator()
        self._await("Airflow's API server", lambda: self._answers(f"{self.url}/api/v2/version"))
        token = self._session.get(f"{self.url}/auth/token", timeout=10).json()["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._keep_connection()

    def stop(self) -> None:
        """End every process, and those that they started."""
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
        """Start the scheduler, where the stack came up without."""
        self._airflow("scheduler", "scheduler")

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
        """Call Airflow's public REST API and give its JSON."""
        answer = self._session.request(method, f"{self.url}/api/v2/{path}", timeout=30, **options)
        if answer.status_code >= 400:
            raise StackError(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    def await_dag(self, dag_id: str) -> None:
        """Wait until Airflow knows a DAG as its file now stands."""
        newest = max(file.stat().st_mtime for file in (ROOT / "dags").glob("*.py"))

        def is_current() -> bool:
            answer = self._session.get(f"{self.url}/api/v2/dags/{dag_id}/details", timeout=10)
            parsed = answer.json().get("last_parsed") if answer.status_code == 200 else None
            return parsed is not None and datetime.fromisoformat(parsed).timestamp() > newest

        # A home that was used before knows it, and starting the DAG processor takes five seconds of one core.
        if not is_current():
            if "dag-processor" not in self._processes:
                self.watch_dags()
            self._await(f"DAG {dag_id}", is_current, seconds=90)

    def watch_dags(self) -> None:
        """Start the DAG processor, which reads the DAG files and goes on looking for changes."""
        self._airflow("dag-processor", "dag-processor")

    def check_alive(self) -> None:
        """Complain of a process that has ended, with the end of its log."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = self.logs / f"{name}.log"
                raise StackError(f"{name} ended with {process.returncode}; {log} ends:\n{_tail(log)}")

    def _start_emulator(self) -> None:
        self._ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "airflow_mapbox.emulator", "--folder", str(self.folder / "emulator")]
        command += ["--port", str(self._emulator_port), "--s3-port", "0", "--ready-file", str(self._ready)]
        self._spawn("emulator", [*command, *self._emulator_options])

    def _await_emulator(self) -> None:
        self._await("the emulator", self._ready.exists)
        address = json.loads(self._ready.read_text())
        token = Path(address["token_file"]).read_text().strip()
        self.emulator = EmulatorAddress(address["url"], address["s3_url"], address["account"], token)

    def _migrate(self) -> None:
        """Bring the database to this Airflow's version, which takes six seconds even where nothing is to be done."""
        stamp = self.folder / "migrated-to"
        version = metadata.version("apache-airflow-core")
        if self._postgres is None and stamp.exists() and stamp.read_text() == version:
            return
        migration = self._airflow("migrate", "db", "migrate")
        migration.wait()
        if migration.returncode != 0:
            self.check_alive()
        del self._processes["migrate"]
        if self._postgres is not None:
            return
        # Airflow's processes share this file: with a write-ahead log readers do not lock writers out. It is kept in the
        # file itself, so once is enough.
        with contextlib.closing(sqlite3.connect(self._database)) as database:
            database.execute("PRAGMA journal_mode=WAL")
        stamp.write_text(version)

    def _airflow(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
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
        """Give the fields of a connection to the emulator, as Airflow's REST API and `AIRFLOW_CONN_…` take them."""
        fields = airflow_connection(**asdict(self.emulator))
        return fields | {"extra": json.dumps(fields["extra"])}

    def _keep_connection(self) -> None:
        """Give Airflow the connection to the emulator, or bring the one that it has up to date."""
        connection = {"connection_id": "mapbox_default", **self.connection()}
        known = self.api("GET", "connections", params={"connection_id_pattern": "mapbox_default"})["connections"]
        if any(item["connection_id"] == "mapbox_default" for item in known):
            self.api("PATCH", "connections/mapbox_default", json=connection)
        else:
            self.api("POST", "connections", json=connection)

    def _answers(self, url: str) -> bool:
        try:
            return self._session.get(url, timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def _await(self, what: str, condition: Callable[[], bool], *, seconds: float = 60) -> None:
        for _ in every(0.2, seconds):
            if condition():
                return
            self.check_alive()
        raise StackError(f"{what} did not come up within {seconds:g} s; the logs are in {self.logs}")


def every(pause: float, seconds: float) -> Iterator[float]:
    """Give the seconds that have passed, every so often, until time is over."""
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        yield passed
        time.sleep(pause)


def _port(wanted: int) -> int:
    """Give the wanted port where it is free, else a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
