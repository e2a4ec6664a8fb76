"""A migrated database, the emulator, and DAGs that run in this process as Airflow's task runner runs them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial, partialmethod
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.triggers import uploads as triggers
from airflow_mapbox.uploads.client import UploadsClient
from tests.connections import connection


@pytest.fixture(scope="session")
def database(airflow_home: Path) -> Path:
    """Migrated by Airflow's own command, in a process of its own."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()
    return airflow_home / "airflow.db"


@pytest.fixture(scope="session")
def emulator(
    tmp_path_factory: pytest.TempPathFactory, make_settings: Callable[..., EmulatorSettings]
) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("emulator"), settings=make_settings()) as running:
        yield running


@pytest.fixture
def mapbox_connection(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """The connection `mapbox_default`, to the emulator."""
    described = connection(emulator)
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", described)
    return described


@pytest.fixture
def database_dump(database: Path) -> Any:
    """Give all rows of Airflow's database as one text."""
    import sqlite3

    def dump() -> str:
        with sqlite3.connect(database) as opened:
            return "\n".join(opened.iterdump())

    return dump


@pytest.fixture
def task_logs(airflow_home: Path) -> Any:
    """Give everything under Airflow's log folder as one text."""

    def read() -> str:
        files = (path for path in (airflow_home / "logs").rglob("*") if path.is_file())
        return "\n".join(path.read_text(errors="replace") for path in files)

    return read


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait for what only a real scheduler, a real account or a full triggerer needs."""
    # A task may come again five seconds and a heartbeat after its exit; `dag.test` has noticed the exit by then.
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "-5")
    # What Airflow would run later is due at once, and `dag.test` sees it soon.
    later = SimpleNamespace(utcnow=lambda: datetime.now(UTC) + timedelta(days=1))
    monkeypatch.setattr("airflow.ti_deps.deps.ready_to_reschedule.timezone", later)
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.05)))
    without_pauses = partialmethod(UploadsClient.__init__, sleep=lambda _: None)
    monkeypatch.setattr(UploadsClient, "__init__", without_pauses)
    poller = partial(triggers.Poller, gather=0.05, seconds_per_request=0.05, last_poll=0.1)
    monkeypatch.setattr(triggers, "Poller", poller)


_numbers = count(1)


class Outcome:
    """A run DAG: the states of its tasks, and all that was written while it ran."""

    def __init__(self, run: Any, written: str) -> None:
        self.states = {instance.task_id: str(instance.state) for instance in run.get_task_instances()}
        self.tries = {instance.task_id: instance.try_number for instance in run.get_task_instances()}
        self.written = written


@pytest.fixture
def run_dag(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    task_logs: Callable[[], str],
    database_dump: Callable[[], str],
) -> Callable[..., Outcome]:
    """Run a DAG of the operators that a function makes, and give what came of it."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.sdk import DAG

    def run(make_tasks: Callable[[], object], **options: Any) -> Outcome:
        with DAG(f"tested_{next(_numbers)}", schedule=None, start_date=datetime(2018, 1, 1, tzinfo=UTC)) as dag:
            make_tasks()
        bag = DagBag(tmp_path)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
        capfd.readouterr()
        caplog.clear()
        outcome = dag.test(logical_date=datetime(2018, 2, 1, tzinfo=UTC), **options)
        captured = capfd.readouterr()
        # Airflow's handler writes to what stood in for stdout when it was made, which may be another stream.
        written = (captured.out, captured.err, caplog.text, task_logs(), database_dump())
        return Outcome(outcome, "\n".join(written))

    return run


@pytest.fixture
def geojson(tmp_path: Path) -> Path:
    """One point that Mapbox takes."""
    path = tmp_path / "point.geojson"
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7.1, 50.7]}, "properties": {"a": 1}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [point]}))
    return path
