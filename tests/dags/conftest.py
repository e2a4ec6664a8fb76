"""A migrated database, the emulator, and DAGs that run in this process as Airflow's task runner runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
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
