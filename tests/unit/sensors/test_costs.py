"""What a wait costs where it runs: the import in a DAG file, and a poke's own time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

from ..support import ACCOUNT, Reply, ScriptedServer, make_token, upload_json

HEAVY = {"geopandas", "pyproj", "boto3", "botocore", "requests", "urllib3", "pandas", "numpy", "shapely", "pyarrow"}
# A machine with other work may take twice as long; the figures are on the docs' page.
SLACK = 2.0
# Of this, 100 to 200 ms are the import of requests, which nothing in Airflow's task process has loaded.
FIRST_POKE = 0.25

# What a task process has loaded before any operator of ours: Airflow's runner. What follows is the poke's own.
BARE = """
import json, resource, sys, time
import airflow.sdk, airflow.sdk.exceptions, airflow.sdk.execution_time.task_runner
from airflow.sdk import BaseOperator, BaseSensorOperator, PokeReturnValue, conf

def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()
"""

IMPORT = (
    BARE
    + """
before, began = set(sys.modules), spent()
import airflow_mapbox.operators.uploads, airflow_mapbox.sensors.uploads
print(json.dumps({"cpu": spent() - began, "modules": sorted(set(sys.modules) - before)}))
"""
)

POKE = (
    BARE
    + """
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
sensor = UploadCompleteSensor(task_id="wait", upload_id=sys.argv[1])
memory, first = resident(), spent()
done = bool(sensor.poke({}))
first = spent() - first
again = spent()
for _ in range(20):
    sensor.poke({})
print(json.dumps({"first": first, "again": (spent() - again) / 20, "memory": resident() - memory, "done": done}))
"""
)


def measured(code: str, *arguments: str, **environment: str) -> Any:
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return json.loads(answer.stdout.splitlines()[-1])


def least(runs: list[Any], name: str) -> float:
    """The least of several runs: other work on the machine only ever adds."""
    return float(min(run[name] for run in runs))


def test_what_a_dag_file_imports_is_light_and_quick() -> None:
    runs = [measured(IMPORT) for _ in range(3)]

    imported = {name.partition(".")[0] for name in runs[0]["modules"]}
    assert "airflow_mapbox.sensors.uploads" in runs[0]["modules"]
    assert not imported & HEAVY
    print(f"import: {least(runs, 'cpu') * 1000:.0f} ms")
    assert least(runs, "cpu") < 0.05 * SLACK


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_a_poke_is_cheap(server: ScriptedServer) -> None:
    described = {"conn_type": "mapbox", "host": server.url, "login": ACCOUNT, "password": make_token()}
    server.script(*(Reply(json=upload_json(progress=0.3)) for _ in range(3 * 21)))

    runs = [measured(POKE, upload_json()["id"], AIRFLOW_CONN_MAPBOX_DEFAULT=json.dumps(described)) for _ in range(3)]

    assert not any(run["done"] for run in runs)
    print(
        f"first poke {least(runs, 'first') * 1000:.0f} ms with its imports, a further one "
        f"{least(runs, 'again') * 1000:.1f} ms, {least(runs, 'memory') / 2**20:.0f} MB"
    )
    assert least(runs, "first") < FIRST_POKE * SLACK
    assert least(runs, "again") < 0.01 * SLACK
    assert least(runs, "memory") < 60e6
