"""
Measure a layer in parts: ``python -m benchmarks.parts``. Two workers, one worker, and one worker without parts.

A worker is a process that is bound to one core. So two workers need two cores, and one worker leaves the second unused.
Each part is a process of its own, as a mapped task is, and its start is measured, too.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import queue
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import mapbox_vector_tile
import numpy as np

from benchmarks.data import polygons

ZOOMS = {"minzoom": 7, "maxzoom": 12}
LAYER = "parcels"


@dataclass(frozen=True)
class Measurement:
    """
    One measurement.

    :param tiling: seconds until the last part is tiled.
    :param tiling_cpu: CPU seconds of the worker that used most.
    :param joining: seconds to join the parts.
    :param joining_cpu: CPU seconds to join the parts.
    :param features: number of distinct features in the tiles of the maxzoom, by their attribute.
    :param bytes: size of the tileset.
    """

    tiling: float
    tiling_cpu: float
    joining: float
    joining_cpu: float
    features: int
    bytes: int

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.tiling + self.joining

    @property
    def total_cpu(self) -> float:
        """CPU seconds one after the other: what it takes in all if nothing else uses the cores."""
        return self.tiling_cpu + self.joining_cpu


def run_process(*arguments: object, core: int) -> float:
    """Run this module in a process of its own on one core, and return its CPU seconds with those of its children."""
    command = [sys.executable, "-m", "benchmarks.parts", *map(str, arguments), "--core", str(core)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def tile_all(parts: Sequence[Path], folder: Path, workers: int) -> tuple[list[Path], float]:
    """
    Tile all parts; each worker takes the next one when it has finished one.

    Return the files, and the CPU seconds of the worker that used most.
    """
    waiting: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for part in parts:
        waiting.put(part)
    targets = {part: folder / f"{part.stem}.mbtiles" for part in parts}

    def work(core: int) -> float:
        used = 0.0
        with contextlib.suppress(queue.Empty):
            while True:
                part = waiting.get_nowait()
                used += run_process("--tile", part, targets[part], core=core)
        return used

    with ThreadPoolExecutor(workers) as threads:
        used = list(threads.map(work, range(workers)))
    return list(targets.values()), max(used)


def measure(parts: Sequence[Path], folder: Path, workers: int) -> Measurement:
    """Tile and join, and check the result."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    joined = folder / "joined.mbtiles"
    started = time.perf_counter()
    tiled, tiling_cpu = tile_all(parts, folder, workers)
    between, joining_cpu = time.perf_counter(), 0.0
    if len(tiled) == 1:
        tiled[0].rename(joined)
    else:
        joining_cpu = run_process("--join", *tiled, joined, core=0)
    seconds = between - started, tiling_cpu, time.perf_counter() - between, joining_cpu
    return Measurement(*seconds, count_features(joined), joined.stat().st_size)


def count_features(path: Path) -> int:
    """Return the number of distinct features in the tiles of the maxzoom, by their attribute ``id``."""
    found: set[int] = set()
    with contextlib.closing(sqlite3.connect(path)) as db:
        for (data,) in db.execute("SELECT tile_data FROM tiles WHERE zoom_level = ?", (ZOOMS["maxzoom"],)):
            layer = mapbox_vector_tile.decode(gzip.decompress(data))[LAYER]
            found |= {feature["properties"]["id"] for feature in layer["features"]}
    return len(found)


def write_parts(folder: Path, features: int, count: int) -> tuple[Path, list[Path]]:
    """Write the layer as one GeoParquet file, and as parts that each cover an area of its own."""
    rows = polygons(features / 200_000)
    whole, parts = folder / "whole.parquet", [folder / f"part-{number:02}.parquet" for number in range(count)]
    rows.to_parquet(whole)
    order = np.argsort(rows.geometry.hilbert_distance().to_numpy())
    for path, index in zip(parts, np.array_split(order, count), strict=True):
        rows.iloc[index].to_parquet(path)
    return whole, parts


def run(features: int, count: int, runs: int) -> None:
    """Measure all cases in turns, and print the medians as JSON."""
    with tempfile.TemporaryDirectory(prefix="parts-") as name:
        folder = Path(name)
        whole, parts = write_parts(folder, features, count)
        cases = {"two workers": (parts, 2), "one worker": (parts, 1), "one worker, one part": ([whole], 1)}
        found: dict[str, list[Measurement]] = {case: [] for case in cases}
        for _ in range(runs):
            for case, (sources, workers) in cases.items():
                measured = measure(sources, folder / "made", workers)
                if measured.features != features:
                    raise SystemExit(f"{case}: {measured.features:,} of {features:,} features")
                found[case].append(measured)
                print(f"{case}: {measured}", file=sys.stderr, flush=True)
    medians = {
        case: {
            name: round(statistics.median(getattr(item, name) for item in items), 1)
            for name in ("tiling", "tiling_cpu", "joining", "joining_cpu", "total", "total_cpu", "bytes")
        }
        for case, items in found.items()
    }
    print(json.dumps({"features": features, "parts": count, "runs": runs, "medians": medians}, indent=2))


def main() -> None:
    """Measure, or be the process that tiles a part or joins all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=100_000)
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tile", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--join", type=Path, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    if options.tile:
        from airflow_mapbox.export import write_mbtiles

        write_mbtiles(options.tile[0], options.tile[1], name=LAYER, **ZOOMS)
    elif options.join:
        from airflow_mapbox.export import join_mbtiles

        join_mbtiles(options.join[:-1], options.join[-1])
    else:
        run(options.features, options.parts, options.runs)


if __name__ == "__main__":
    main()
