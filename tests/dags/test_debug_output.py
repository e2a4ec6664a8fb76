"""What `airflow dags test` prints at DEBUG, which docs/security.md warns of."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable

import pytest

from airflow_mapbox.emulator import Emulator
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("database", "mapbox_connection")


@pytest.mark.slow
def test_only_airflows_own_lines_hold_a_secret(emulator: Emulator, task_logs: Callable[[], str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "dags", "test", "virginia_counties", "2018-01-01"],
        env=os.environ | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with sqlite3.connect(emulator.folder / "emulator.sqlite3") as books:
        rows = books.execute("SELECT access_key, secret, session FROM credentials").fetchall()
    secrets = [emulator.token, *(secret for row in rows for secret in row)]

    printed = [line for line in (done.stdout + done.stderr).splitlines() if any(secret in line for secret in secrets)]

    assert "[debug" in done.stdout + done.stderr
    # Airflow's supervisor prints what it is asked to mask.
    assert [line for line in printed if "MaskSecret(value=" not in line] == []
    assert not any(secret in task_logs() for secret in secrets)
    assert "MaskSecret" in (ROOT / "docs/security.md").read_text()
