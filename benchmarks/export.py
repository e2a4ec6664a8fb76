"""
The export beside GDAL and geopandas: ``python -m benchmarks.export``.

Rounds are interleaved, each job is a process of its own, and what is quoted is the median: a machine that is busy for a
while is busy for all. Results are written as JSON and as a chart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas

from benchmarks.data import SYNTHETIC, make
from benchmarks.jobs import TOOLS
from benchmarks.same import check_same
from benchmarks.stages import coordinate_bytes, formatter_speeds, stages

WANTED = {"points": (8, 15), "polygons": (7, 10), "lines": (10, 20)}  # times GDAL's RFC 7946 writer: at least, aim
MEMORY = 500_000_000
BESIDE = "pyogrio RFC 7946"
LONLAT = ("DuckDB", "ours, lonlat")  # from the same layer in longitude, latitude: DuckDB's writer does not reproject
CORES = (4, 8, 16)  # whose speed-up is estimated, whatever this machine has


def main() -> int:
    """Measure, print, and write; 1 where what is wanted was not reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", nargs="+", default=[*SYNTHETIC, "counties"])
    parser.add_argument("--tools", nargs="+", default=list(TOOLS))
    parser.add_argument("--ten-times", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--folder", type=Path, default=Path("build/benchmarks"))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    tools = [tool for tool in chosen.tools if tool != "ogr2ogr" or shutil.which("ogr2ogr")]
    sources = {name: made for name in chosen.layers if (made := make(name, 1, chosen.folder)) is not None}
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "rounds": chosen.rounds,
        "layers": {
            name: _measure(name, source, tools, chosen.rounds, chosen.folder) for name, source in sources.items()
        },
    }
    if chosen.ten_times:
        for name in sources:
            result["layers"][name]["ten_times"] = _ten_times(name, chosen.folder)
            print(f"{name} x10: {result['layers'][name]['ten_times']['memory'] / 1e6:.0f} MB", flush=True)
    (chosen.folder / "export.json").write_text(json.dumps(result, indent=1))
    _chart(result, chosen.folder / "export.png")
    _print(result)
    missed = [f"{name}: {verdict}" for name, layer in result["layers"].items() for verdict in _missed(name, layer)]
    print("\n" + ("\n".join(["NOT reached:", *missed]) if missed else "All that is wanted was reached."))
    return 1 if missed else 0


def _missed(name: str, layer: dict[str, Any]) -> list[str]:
    """Say what of the wanted figures a layer does not have."""
    missed = []
    ratio = layer.get("ratios", {}).get(BESIDE)
    if name in WANTED and ratio is not None and ratio < WANTED[name][0]:
        missed.append(f"{ratio:.1f} times {BESIDE}, wanted {WANTED[name][0]}")
    one = layer["tools"]["ours"]["memory"] if "ours" in layer["tools"] else None
    ten = layer["ten_times"]["memory"] if "ten_times" in layer else None
    missed += [
        f"{memory / 1e6:.0f} MB, at most {MEMORY / 1e6:.0f}" for memory in (one, ten) if memory and memory > MEMORY
    ]
    if one and ten and ten > 1.1 * one:
        missed.append(f"{ten / one - 1:+.0%} of memory at ten times the features, at most 10 %")
    return missed


def _measure(name: str, source: Path, tools: list[str], rounds: int, folder: Path) -> dict[str, Any]:
    target = folder / "out.geojson"
    sources = dict.fromkeys(tools, source) | _prepared(source, tools)
    runs: dict[str, list[dict[str, float]]] = {tool: [] for tool in tools}
    for turn in range(rounds):
        # Each round in another order, so that no tool always finds what another left in memory.
        for tool in tools[turn % len(tools) :] + tools[: turn % len(tools)]:
            runs[tool].append(_run(tool, sources[tool], target))
            print(f"{name}, round {turn + 1}, {tool}: {runs[tool][-1]['seconds']:.2f} s", flush=True)
    measured: dict[str, Any] = {
        tool: {key: statistics.median(run[key] for run in those) for key in those[0]} for tool, those in runs.items()
    }
    found: dict[str, Any] = {"tools": measured}
    if "ours" in measured:
        found["speed_up"] = _speed_up(measured["ours"])
    if "ours" in runs:
        # The ratio of each round, and of these the median.
        found["ratios"] = {
            tool: statistics.median(
                theirs["seconds"] / own["seconds"] for theirs, own in zip(runs[tool], runs["ours"], strict=True)
            )
            for tool in tools
            if tool != "ours"
        }
    _run("ours", source, target)
    found["same"] = check_same(source, target)
    found["stages"] = stages(source, target)
    found["formatter"] = formatter_speeds()
    # Of one core: what is used of the processor, not what is waited, against the formatter on one.
    found["coordinate_bytes"] = coordinate_bytes(source)
    if "ours" in measured:
        found["share_of_formatter"] = (
            found["coordinate_bytes"] / measured["ours"]["processor"] / found["formatter"]["ours"]
        )
    target.unlink()
    return found


def _prepared(source: Path, tools: list[str]) -> dict[str, Path]:
    """Write the layer as some tools need it, before the clock starts."""
    prepared: dict[str, Path] = {}
    if "ogr2ogr" in tools:
        prepared["ogr2ogr"] = flat = source.with_suffix(".fgb")
        if not flat.is_file():
            geopandas.read_parquet(source).to_file(flat, driver="FlatGeobuf", SPATIAL_INDEX="NO")
    if not set(LONLAT).isdisjoint(tools):
        lonlat = source.with_name(f"{source.stem}-lonlat.parquet")
        prepared |= dict.fromkeys(LONLAT, lonlat)
        if not lonlat.is_file():
            frame = geopandas.read_parquet(source).to_crs("EPSG:4326")
            frame.to_parquet(lonlat, row_group_size=len(frame))
    return prepared


def _speed_up(run: dict[str, float]) -> dict[str, Any]:
    """
    Say how many times as fast as on one core the export can be on more.

    By Amdahl's law, as if nothing were written while the calling thread reads and cuts; and at most, where all of it
    overlaps and the busiest thread that has no other to help it is the limit.
    """
    share, most = run["calling"] / run["processor"], run["processor"] / run["alone"]
    return {
        "calling_share": share,
        "amdahl": {cores: 1 / (share + (1 - share) / cores) for cores in CORES},
        "at_most": {cores: min(cores, most) for cores in CORES},
    }


def _ten_times(name: str, folder: Path) -> dict[str, float]:
    source = make(name, 10, folder)
    if source is None:
        raise SystemExit(f"{name} cannot be made here.")
    target = folder / "out.geojson"
    found = _run("ours", source, target)
    target.unlink()
    source.unlink()
    return found


def _run(tool: str, source: Path, target: Path) -> dict[str, float]:
    target.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.jobs", tool, str(source), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _print(result: dict[str, Any]) -> None:
    print(f"\n{result['machine']}, medians of {result['rounds']} interleaved rounds")
    for name, layer in result["layers"].items():
        print(f"\n{name}: {layer['same']}")
        for tool, run in layer["tools"].items():
            ratio = layer.get("ratios", {}).get(tool)
            print(
                f"  {tool:18} {run['seconds']:7.2f} s  {run['bytes'] / run['seconds'] / 1e6:6.0f} MB/s"
                f"  {run['memory'] / 1e6:6.0f} MB" + (f"  {ratio:5.1f} times as long as ours" if ratio else "")
            )
        if "speed_up" in layer:
            print(f"  {_said(layer['speed_up'], layer['tools']['ours'])}")
        spent = sorted(layer["stages"].items(), key=lambda stage: -stage[1])
        print("  on one thread: " + ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in spent))
        if "share_of_formatter" in layer:
            ours, orjson = (layer["formatter"][name] / 1e6 for name in ("ours", "orjson"))
            print(
                f"  coordinates: {layer['coordinate_bytes'] / 1e6:.0f} MB; the formatter alone writes {ours:.0f} MB/s "
                f"on a core (orjson {orjson:.0f}), all together {layer['share_of_formatter']:.0%} of that"
            )
        if name in WANTED and BESIDE in layer.get("ratios", {}):
            least, aim = WANTED[name]
            print(f"  wanted {least} times, aimed at {aim}: {layer['ratios'][BESIDE]:.1f}")
        if "ten_times" in layer and "ours" in layer["tools"]:
            one, ten = layer["tools"]["ours"]["memory"], layer["ten_times"]["memory"]
            print(f"  ten times the features: {ten / 1e6:.0f} MB, {ten / one - 1:+.0%}")


def _said(speed_up: dict[str, Any], run: dict[str, float]) -> str:
    amdahl, most = (
        ", ".join(f"{times:.1f}" for times in speed_up[figure].values()) for figure in ("amdahl", "at_most")
    )
    return (
        f"the calling thread takes {run['calling']:.2f} s of {run['processor']:.2f} s of the processor, "
        f"{speed_up['calling_share']:.0%}: {', '.join(map(str, CORES))} cores are {amdahl} times as fast as one by "
        f"Amdahl's law, {most} at most"
    )


def _chart(result: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    layers = result["layers"]
    figure, axes = pyplot.subplots(2, len(layers), figsize=(3.4 * len(layers), 5.6), squeeze=False)
    for column, (name, layer) in enumerate(layers.items()):
        tools = list(layer["tools"])
        for row, (key, unit, scale) in enumerate((("seconds", "seconds", 1.0), ("memory", "peak memory, MB", 1e6))):
            axis = axes[row][column]
            values = [layer["tools"][tool][key] / scale for tool in tools]
            bars = axis.barh(tools, values, color=["#d4552d" if tool == "ours" else "#8fa3b5" for tool in tools])
            axis.bar_label(bars, fmt="{:,.2f}" if scale == 1 else "{:,.0f}", padding=3, fontsize=8)
            axis.margins(x=0.2)
            axis.invert_yaxis()
            axis.set_title(name if row == 0 else "")
            axis.set_xlabel(unit, fontsize=8)
            axis.tick_params(labelsize=8, labelleft=column == 0)
            axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"GeoParquet to CRS84 GeoJSON ({result['machine']})", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
