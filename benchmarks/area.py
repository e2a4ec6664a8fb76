"""
Measure the area: ``TILESETS=… python -m benchmarks.area``. ``make bench`` sets TILESETS (.ci/oracle).

It compares the estimate with ``tilesets estimate-area``, and exports with and without the area. Rounds are interleaved,
and the figures are medians. The speed of a machine changes from minute to minute, so an export with the area is
compared with the one right before or after it, and the processor time of the area's own functions is measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.data import SYNTHETIC, make

REQUIRED_RATIOS = {"1m": 20, "30cm": 20, "1cm": 3}
MOST_SHARE_OF_EXPORT = 0.10
MOST_WORLD_SECONDS, MOST_WORLD_BYTES = 1.0, 200 << 20

# Their command without its imports: read the features, and burn them. It runs in the environment of tilesets-cli.
THEIR_ESTIMATE = """
import json, sys, time
from mapbox_tilesets import utils
from supermercado.super_utils import filter_features
began = time.perf_counter()
features = list(filter_features(json.loads(line) for line in open(sys.argv[1])))
read = time.perf_counter()
area = utils.calculate_tiles_area(features, sys.argv[2])
print(json.dumps([time.perf_counter() - began, time.perf_counter() - read, float(area)]))
"""
ESTIMATE = """
import json, sys, time
from airflow_mapbox.preflight import estimate_area
import airflow_mapbox.export.touched
began = time.perf_counter()
area = estimate_area(sys.argv[1], tier=sys.argv[2])
print(json.dumps([time.perf_counter() - began, area]))
"""
WORLD = """
import json, time, geopandas, shapely
from airflow_mapbox.preflight import estimate_area
import airflow_mapbox.export.touched
frame = geopandas.GeoDataFrame(geometry=[shapely.box(-180, -85.05, 180, 85.05)], crs=4326)
began = time.perf_counter()
estimate_area(frame, tier="1cm")
seconds = time.perf_counter() - began
high = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, int(high.split()[1]) * 1024]))
"""
EXPORT = """
import json, logging, sys, time
logging.disable(logging.CRITICAL)
from airflow_mapbox.billing.cover import Cover
from airflow_mapbox.export import area_zooms, encode, geojson
own = []
def timed(function):
    def call(*arguments, **options):
        began = time.thread_time()
        result = function(*arguments, **options)
        own.append(time.thread_time() - began)
        return result
    return call
encode.cover_of, Cover.update, Cover.area_km2 = timed(encode.cover_of), timed(Cover.update), timed(Cover.area_km2)
if sys.argv[2] == "without":
    area_zooms.AreaZooms.of_geojson = lambda: area_zooms.NO_AREA
began, used = time.perf_counter(), time.process_time()
geojson.write_geojson(sys.argv[1], sys.argv[3], limit_bytes=None)
print(json.dumps([time.perf_counter() - began, time.process_time() - used, sum(own)]))
"""


def main() -> int:
    """Measure and print. Return 1 if a requirement is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.area", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=["world", "export", "oracle"])
    parser.add_argument("--tiers", nargs="+", default=list(REQUIRED_RATIOS))
    parser.add_argument("--folder", type=Path, default=Path("build/benchmarks"))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    measures: dict[str, Callable[[], list[str]]] = {
        "world": lambda: _world(chosen.rounds),
        "export": lambda: _exports(chosen.folder, chosen.rounds),
        "oracle": lambda: _oracle(chosen.folder, chosen.rounds, chosen.tiers),
    }
    missed = [verdict for part in chosen.parts for verdict in measures[part]()]
    print("\n".join(["Requirements NOT met:", *missed]) if missed else "All requirements are met.")
    return 1 if missed else 0


def _run(python: str, code: str, *arguments: object) -> list[float]:
    command = [python, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: list[float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _world(rounds: int) -> list[str]:
    runs = [_run(sys.executable, WORLD) for _ in range(rounds)]
    seconds, memory = (statistics.median(run[index] for run in runs) for index in range(2))
    print(f"the whole world at zoom 17: {seconds:.2f} s, {memory / 2**20:.0f} MiB", flush=True)
    return ["the whole world"] * (seconds > MOST_WORLD_SECONDS or memory > MOST_WORLD_BYTES)


def _exports(folder: Path, rounds: int) -> list[str]:
    missed = []
    for layer in SYNTHETIC:
        source = make(layer, 1, folder)
        runs: dict[str, list[list[float]]] = {"without": [], "with": []}
        for turn in range(rounds):
            for which in ("without", "with") if turn % 2 else ("with", "without"):
                runs[which].append(_run(sys.executable, EXPORT, source, which, folder / "area.geojson"))
        pairs = list(zip(runs["with"], runs["without"], strict=True))
        shares = [statistics.median(with_area[i] / without[i] - 1 for with_area, without in pairs) for i in range(2)]
        own = statistics.median(own / (used - own) for _, used, own in runs["with"])
        print(
            f"{layer}: {shares[0]:+.1%} of the export's time, {shares[1]:+.1%} of its processor time, "
            f"{own:.1%} measured inside",
            flush=True,
        )
        missed += [f"{layer}: {shares[0]:.0%} of the export's time"] * (shares[0] > MOST_SHARE_OF_EXPORT)
    (folder / "area.geojson").unlink()
    return missed


def _oracle(folder: Path, rounds: int, tiers: list[str]) -> list[str]:
    tilesets = os.environ.get("TILESETS")
    if tilesets is None:
        raise SystemExit("TILESETS is not set: it names the program of .ci/oracle.")
    # Both read the same positions in degrees: tilesets-cli reprojects nothing.
    source, lines = folder / "polygons-crs84.parquet", folder / "polygons.geojsonl"
    if not (source.is_file() and lines.is_file()):
        _write_in_degrees(make("polygons", 1, folder), source, lines)
    missed = []
    for tier in tiers:
        names = ("process", "estimate", "burning")
        theirs: dict[str, list[float]] = {name: [] for name in names}
        ours: dict[str, list[float]] = {name: [] for name in names[:2]}
        for _ in range(rounds):
            began = time.perf_counter()
            forced = ["--force-1cm"] if tier == "1cm" else []
            command = [tilesets, "estimate-area", lines, "-p", tier, "--no-validation", *forced]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            theirs["process"].append(time.perf_counter() - began)
            estimate, burning, their_area = _run(str(Path(tilesets).with_name("python")), THEIR_ESTIMATE, lines, tier)
            theirs["estimate"].append(estimate)
            theirs["burning"].append(burning)
            began = time.perf_counter()
            seconds, area = _run(sys.executable, ESTIMATE, source, tier)
            ours["process"].append(time.perf_counter() - began)
            ours["estimate"].append(seconds)
        their, our = ({name: statistics.median(times) for name, times in runs.items()} for runs in (theirs, ours))
        ratio = their["estimate"] / our["estimate"]
        print(
            f"{tier}: estimate without imports {their['estimate']:.1f} against {our['estimate']:.2f} s: "
            f"{ratio:.1f} times as fast; process {their['process']:.1f} against {our['process']:.2f} s: "
            f"{their['process'] / our['process']:.1f} times; their burning alone {their['burning']:.1f} s: "
            f"{their['burning'] / our['estimate']:.1f} times; area {area / their_area - 1:+.4%}",
            flush=True,
        )
        missed += [f"{tier}: {ratio:.1f} times as fast"] * (ratio < REQUIRED_RATIOS[tier])
    return missed


def _write_in_degrees(layer: Path | None, source: Path, lines: Path) -> None:
    import geopandas
    import shapely

    frame = geopandas.read_parquet(layer).to_crs("OGC:CRS84")
    frame.to_parquet(source)
    with lines.open("w") as file:
        for geometry in shapely.to_geojson(frame.geometry.to_numpy()):
            file.write(f'{{"type":"Feature","properties":{{}},"geometry":{geometry}}}\n')


if __name__ == "__main__":
    sys.exit(main())
