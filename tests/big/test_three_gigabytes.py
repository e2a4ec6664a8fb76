"""A layer that makes 3 GB of GeoJSON, from GeoParquet to a finished upload: make big."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.emulator.conftest import Account
from tests.support.memory import peak_memory

pytestmark = pytest.mark.timeout(7200)

GIGABYTES = 3.0
LINES, VERTICES, GROUP = 125_000, 1000, 5000

EXPORT = """
import json, sys, time
from airflow_mapbox.export import write_mbtiles
started = time.perf_counter()
report = write_mbtiles(sys.argv[1], sys.argv[2], tier="free", temporary_directory=sys.argv[3])
seconds = time.perf_counter() - started
print(json.dumps(report.to_json() | {"seconds": seconds}))
"""


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    """GeoParquet in metres, written by row groups."""
    path = tmp_path / "tracks.parquet"
    rng = np.random.default_rng(6)
    writer = None
    for first in range(0, LINES, GROUP):
        start = np.stack([rng.uniform(-1.6e7, 1.6e7, GROUP), rng.uniform(-7e6, 7e6, GROUP)], axis=1)
        steps = np.cumsum(rng.normal(scale=500, size=(GROUP, VERTICES, 2)), axis=1)
        frame = geopandas.GeoDataFrame(
            {"id": np.arange(first, first + GROUP)}, geometry=shapely.linestrings(start[:, None, :] + steps), crs=3857
        )
        table = geopandas.io.arrow._geopandas_to_arrow(frame)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return path


class Watch(threading.Thread):
    """Watches memory, and what a process's children keep open: tippecanoe's temporary files have no names."""

    def __init__(self, parent: int) -> None:
        super().__init__(daemon=True)
        self._parent = parent
        self._over = threading.Event()
        self.exporter = self.tiler = self.disk = 0

    def run(self) -> None:
        while not self._over.wait(0.5):
            children = _children(self._parent)
            self.exporter = max(self.exporter, peak_memory(self._parent))
            self.tiler = max([self.tiler, *map(peak_memory, children)])
            self.disk = max(self.disk, sum(map(_open_bytes, children)))

    def stop(self) -> None:
        self._over.set()
        self.join()


def _children(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True)
    return [int(number) for number in listed.stdout.split()]


def _open_bytes(process: int) -> int:
    seen = {}
    with contextlib.suppress(OSError):
        for handle in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                found = handle.stat()
                seen[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(seen.values())


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Account]:
    settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0)
    with Emulator(tmp_path / "emulator", settings=settings) as running:
        yield Account(running)


def test_three_gigabytes_of_geojson_become_a_tileset(tracks: Path, tmp_path: Path, acme: Account) -> None:
    target = tmp_path / "tracks.mbtiles"
    command = [sys.executable, "-c", EXPORT, str(tracks), str(target), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        watch = Watch(process.pid)
        watch.start()
        output, _ = process.communicate()
        watch.stop()
    assert process.returncode == 0
    report = json.loads(output.splitlines()[-1])

    assert report["features"] == LINES
    assert report["geojson_bytes"] > GIGABYTES * 1e9
    assert 0 < watch.exporter < 500e6
    assert report["incomplete"] == 0 or any("missing in tiles" in note for note in report["notes"])
    started = time.perf_counter()
    issued = acme.credentials()
    acme.s3(issued).upload_file(str(target), issued["bucket"], issued["key"])
    created = acme.create(issued["url"], "tracks").json()
    deadline = time.monotonic() + 1800
    while not (upload := acme.call("GET", f"/{created['id']}").json())["complete"]:
        assert upload["error"] is None, upload
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert upload["error"] is None, upload
    print(
        f"\n{tracks.stat().st_size / 1e9:.2f} GB of GeoParquet, {report['geojson_bytes'] / 1e9:.2f} GB of GeoJSON in "
        f"between, {report['bytes'] / 1e6:.0f} MB of MBTiles in {report['tiles']:,} tiles up to zoom "
        f"{report['maxzoom']}, {report['seconds']:.0f} s; "
        f"exporter {watch.exporter / 1e6:.0f} MB of memory and no file, "
        f"tiler {watch.tiler / 1e6:.0f} MB and {watch.disk / 1e9:.2f} GB of disk; "
        f"uploaded and processed in {time.perf_counter() - started:.0f} s on {os.cpu_count()} cores"
    )
    print(report["notes"])
