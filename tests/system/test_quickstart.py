"""The commands of docs/quickstart.md, in an empty folder with an empty HOME."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import geopandas
import pytest
import requests
import shapely

from tests.conftest import ROOT

PAGE = (ROOT / "docs/quickstart.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
INSTALL, START, DAG, RUN, MAPBOX = (text for _, text in BLOCKS)
DONE = re.compile(r"Upload \w+ is done: tileset (\S+), (http://127\.0\.0\.1:\d+/tilesets/\S+)")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of the two terminals. The installation itself is tested by tests/system/test_wheel.py."""
    programs = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MAPBOX"))}
    (tmp_path / "home").mkdir()
    return {**kept, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path / "home")}


@pytest.fixture
def connection(shell: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The line that the emulator prints and the reader enters. Ports are free ones here."""
    command = f"exec {START.strip()} --port 0 --s3-port 0"
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=tmp_path, env=shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        yield next(line.strip() for line in process.stdout if "export AIRFLOW_CONN_MAPBOX_DEFAULT=" in line)
    finally:
        process.terminate()
        process.wait(30)


def test_a_file_becomes_a_map(shell: dict[str, str], connection: str, tmp_path: Path) -> None:
    places = geopandas.GeoDataFrame({"name": ["Bonn"]}, geometry=[shapely.Point(7.1, 50.7)], crs=4326)
    places.to_crs("EPSG:25832").to_file(tmp_path / "places.gpkg")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "my_map.py").write_text(DAG.replace("/data/places.gpkg", str(tmp_path / "places.gpkg")))
    began = time.monotonic()

    done = subprocess.run(
        ["bash", "-ec", f"{connection}\n{RUN}"], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=240
    )

    print(f"{time.monotonic() - began:.0f} s")
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    found = DONE.search(output)
    assert found is not None, output
    tileset, url = found.groups()
    assert tileset == "demo.my-map"
    assert "demo.my-map" in requests.get(url, timeout=10).text
    tiles = requests.get(f"{url}.json", timeout=10).json()
    assert tiles["bounds"] == pytest.approx([7.1, 50.7, 7.1, 50.7], abs=1e-3)
    assert tiles["vector_layers"][0]["fields"] == {"name": "String"}


def test_the_dag_has_ten_lines() -> None:
    assert len([line for line in DAG.splitlines() if line.strip()]) <= 10


def test_the_same_dag_runs_with_a_connection_to_mapbox() -> None:
    assert MAPBOX.splitlines()[-1] == RUN.splitlines()[-1]
    assert ".[emulator]" in INSTALL
