"""What a wait costs where it runs: the import in a DAG file, and a poke's own time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from tests.conftest import ROOT
from tests.connections import connection
from tests.unit.support import ACCOUNT, Reply, ScriptedServer, make_token, upload_json

pytestmark = pytest.mark.slow

HEAVY = {"geopandas", "pyproj", "boto3", "botocore", "pandas", "numpy", "shapely", "pyarrow"}
# The figures are on the docs' page. Another machine's processor, or one that other work shares, may be so much slower.
SLACK = 3

# What a task process has loaded before any operator of ours: Airflow's runner, and the supervisor's module, whose fork
# the process is. What follows is the poke's own.
BARE = """
import gc, json, resource, sys, time
import airflow.sdk, airflow.sdk.exceptions
import airflow.sdk.execution_time.supervisor, airflow.sdk.execution_time.task_runner
from airflow.sdk import BaseOperator, BaseSensorOperator, PokeReturnValue, conf

def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()

# Airflow's LocalExecutor freezes before it forks (airflow/executors/local_executor.py), so that a collection which is
# set off in a task does not go over Airflow's own objects.
gc.collect()
gc.freeze()
"""

IMPORT = (
    BARE
    + """
before, began = set(sys.modules), spent()
import airflow_mapbox.operators.uploads, airflow_mapbox.sensors.uploads
print(json.dumps({"cpu": spent() - began, "modules": sorted(set(sys.modules) - before)}))
"""
)

# The tileset has its account, so the tasks have its asset.
PARSE = (
    BARE
    + """
from airflow.sdk import DAG
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
with DAG("parsed", schedule=None):
    # Airflow's own part, such as the first task group's, is not what is measured.
    StageAndCreateUploadOperator(task_id="first", source="/data/x.geojson", tileset="parcels", wait_for_completion=True)
    before, began = set(sys.modules), spent()
    tileset = {"tileset": "acme.parcels"}
    created = StageAndCreateUploadOperator(task_id="upload", source="/data/x.geojson", **tileset)
    waiting = UploadCompleteSensor(task_id="wait", upload_id=created.output)
    cpu = spent() - began
uris = [asset.uri for asset in waiting.outlets]
print(json.dumps({"cpu": cpu, "modules": sorted(set(sys.modules) - before), "uris": uris}))
"""
)

POKE = (
    BARE
    + """
before, memory, first = set(sys.modules), resident(), spent()
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
sensor = UploadCompleteSensor(task_id="wait", upload_id=sys.argv[1], tileset=sys.argv[2])
done = bool(sensor.poke({}))
first = spent() - first
modules = sorted(set(sys.modules) - before)
again = spent()
for _ in range(20):
    sensor.poke({})
again = (spent() - again) / 20
print(json.dumps({"first": first, "again": again, "memory": resident() - memory, "done": done, "modules": modules}))
"""
)


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose processes compile a module once, as an installation does, whatever this one's does."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}


def measured(code: str, *arguments: str, environment: dict[str, str], times: int = 3) -> list[Any]:
    """Run a process several times, and once before that, uncounted, to compile what it imports."""
    runs = []
    for _ in range(times + 1):
        answer = subprocess.run(
            [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True, env=environment
        )
        runs.append(json.loads(answer.stdout.splitlines()[-1]))
    return runs[1:]


def least(runs: list[Any], name: str) -> float:
    """The least of several runs: other work on the machine only ever adds."""
    return float(min(run[name] for run in runs))


def imported(runs: list[Any]) -> set[str]:
    return {name.partition(".")[0] for run in runs for name in run["modules"]}


def test_imports_of_a_dag_file_are_light_and_quick(bytecode: dict[str, str]) -> None:
    runs = measured(IMPORT, environment=bytecode)

    assert "airflow_mapbox.sensors.uploads" in runs[0]["modules"]
    assert not imported(runs) & (HEAVY | {"requests", "urllib3"})
    # Only a worker reads a source.
    assert not [name for name in runs[0]["modules"] if name.startswith("airflow_mapbox.sources")]
    print(f"import: {least(runs, 'cpu') * 1000:.0f} ms, {len(runs[0]['modules'])} modules")
    assert least(runs, "cpu") < 0.05 * SLACK


def test_tasks_with_an_asset_are_parsed_without_the_other_providers(bytecode: dict[str, str]) -> None:
    runs = measured(PARSE, environment=bytecode)

    assert runs[0]["uris"] == ["mapbox://tilesets/acme.parcels"]
    assert not imported(runs) & (HEAVY | {"requests", "urllib3"})
    assert not [name for name in runs[0]["modules"] if name.startswith("airflow.providers.")]
    print(f"two tasks with an asset: {least(runs, 'cpu') * 1000:.1f} ms")
    assert least(runs, "cpu") < 0.01 * SLACK


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
class TestPoke:
    def test_a_poke_is_cheap(self, server: ScriptedServer, bytecode: dict[str, str]) -> None:
        described = {"conn_type": "mapbox", "host": server.url, "login": ACCOUNT, "password": make_token()}
        server.script(*(Reply(json=upload_json(progress=0.3)) for _ in range(4 * 21)))

        self.hold(
            upload_json()["id"],
            upload_json()["tileset"],
            bytecode | {"AIRFLOW_CONN_MAPBOX_DEFAULT": json.dumps(described)},
        )

    def test_a_poke_is_cheap_over_https(
        self,
        tmp_path: Path,
        make_settings: Callable[..., EmulatorSettings],
        monkeypatch: pytest.MonkeyPatch,
        bytecode: dict[str, str],
    ) -> None:
        settings = make_settings(processing_seconds=600, rate_limit=1000)
        with Emulator(tmp_path / "emulator", settings=settings, tls=True) as emulator:
            # As many authorities as a real look loads, and the emulator's.
            bundle = tmp_path / "bundle.pem"
            bundle.write_bytes(Path(certifi.where()).read_bytes() + emulator.ca_file.read_bytes())
            trust = {"REQUESTS_CA_BUNDLE": str(bundle), "AWS_CA_BUNDLE": str(bundle)}
            for name, value in (trust | {"AIRFLOW_CONN_MAPBOX_DEFAULT": connection(emulator)}).items():
                monkeypatch.setenv(name, value)
            source = tmp_path / "point.geojson"
            source.write_text('{"type": "Point", "coordinates": [7.1, 50.7]}')
            upload = MapboxUploadsHook().upload(source, "points")

            self.hold(
                upload.id, upload.tileset, bytecode | trust | {"AIRFLOW_CONN_MAPBOX_DEFAULT": connection(emulator)}
            )

    @staticmethod
    def hold(upload_id: str, tileset: str, environment: dict[str, str]) -> None:
        runs = measured(POKE, upload_id, tileset, environment=environment)

        assert not any(run["done"] for run in runs)
        assert "airflow_mapbox.uploads.client" in runs[0]["modules"]
        assert not imported(runs) & HEAVY
        assert "airflow_mapbox.hooks.uploads" not in runs[0]["modules"]
        print(
            f"first poke {[round(run['first'] * 1000) for run in runs]} ms with its imports, a further one "
            f"{least(runs, 'again') * 1000:.1f} ms, {least(runs, 'memory') / 2**20:.0f} MB"
        )
        assert least(runs, "first") < 0.125 * SLACK
        assert least(runs, "again") < 0.01 * SLACK
        assert least(runs, "memory") < 60e6
