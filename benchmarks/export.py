"""
Compare the export with GDAL, DuckDB and geopandas: ``python -m benchmarks.export``.

Each job is a process. The rounds are interleaved, so that a machine that is busy for a while slows down all tools. The
results are medians, written as JSON and as a chart.
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

# Speed relative to GDAL's RFC 7946 writer: the minimum, and the aim.
REQUIRED_RATIOS = {"points": (8, 15), "polygons": (7, 10), "lines": (10, 20)}
MAX_MEMORY_BYTES = 500_000_000
BASELINE = "pyogrio RFC 7946"
# These read the layer in longitude, latitude, because DuckDB's writer does not reproject.
LONLAT = ("DuckDB", "ours, lonlat")
# The speed-up is estimated for these numbers of cores.
CORES = (4, 8, 16)


def main() -> int:
    """Measure, print, and write the results. Return 1 if a requirement is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", nargs="+", default=[*SYNTHETIC, "counties"])
    parser.add_argument("--tools", nargs="+", default=list(TOOLS))
    parser.add_argument("--ten-times", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--folder", type=Path, default=Path("build/benchmarks"))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    tools = [tool for tool in chosen.tools if tool != "ogr2ogr" or shutil.which("ogr2ogr")]
    sources = {name: path for name in chosen.layers if (path := make(name, 1, chosen.folder)) is not None}
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
    print("\n" + ("\n".join(["Requirements NOT met:", *missed]) if missed else "All requirements are met."))
    return 1 if missed else 0


def _missed(name: str, layer: dict[str, Any]) -> list[str]:
    """Return the requirements that a layer does not meet."""
    missed = []
    ratio = layer.get("ratios", {}).get(BASELINE)
    if name in REQUIRED_RATIOS and ratio is not None and ratio < REQUIRED_RATIOS[name][0]:
        missed.append(f"{ratio:.1f} times as fast as {BASELINE}, required {REQUIRED_RATIOS[name][0]}")
    memory = layer["tools"]["ours"]["memory"] if "ours" in layer["tools"] else None
    memory_of_ten = layer["ten_times"]["memory"] if "ten_times" in layer else None
    missed += [
        f"{peak / 1e6:.0f} MB of memory, allowed {MAX_MEMORY_BYTES / 1e6:.0f}"
        for peak in (memory, memory_of_ten)
        if peak and peak > MAX_MEMORY_BYTES
    ]
    if memory and memory_of_ten and memory_of_ten > 1.1 * memory:
        missed.append(f"{memory_of_ten / memory - 1:+.0%} of memory for ten times the features, allowed +10%")
    return missed


def _measure(name: str, source: Path, tools: list[str], rounds: int, folder: Path) -> dict[str, Any]:
    target = folder / "out.geojson"
    sources = dict.fromkeys(tools, source) | _prepared(source, tools)
    runs: dict[str, list[dict[str, float]]] = {tool: [] for tool in tools}
    for turn in range(rounds):
        # The order changes, so that no tool always profits from the file cache of another.
        for tool in tools[turn % len(tools) :] + tools[: turn % len(tools)]:
            runs[tool].append(_run(tool, sources[tool], target))
            print(f"{name}, round {turn + 1}, {tool}: {runs[tool][-1]['seconds']:.2f} s", flush=True)
    measured: dict[str, Any] = {
        tool: {key: statistics.median(run[key] for run in those) for key in those[0]} for tool, those in runs.items()
    }
    result: dict[str, Any] = {"tools": measured}
    if "ours" in measured:
        result["speed_up"] = _speed_up(measured["ours"])
    if "ours" in runs:
        # The median of the rounds' ratios.
        result["ratios"] = {
            tool: statistics.median(
                theirs["seconds"] / ours["seconds"] for theirs, ours in zip(runs[tool], runs["ours"], strict=True)
            )
            for tool in tools
            if tool != "ours"
        }
    _run("ours", source, target)
    result["same"] = check_same(source, target)
    result["stages"] = stages(source, target)
    result["formatter"] = formatter_speeds()
    # Compared by processor time, because the formatter is measured on one core.
    result["coordinate_bytes"] = coordinate_bytes(source)
    if "ours" in measured:
        result["share_of_formatter"] = (
            result["coordinate_bytes"] / measured["ours"]["processor"] / result["formatter"]["ours"]
        )
    target.unlink()
    return result


def _prepared(source: Path, tools: list[str]) -> dict[str, Path]:
    """Write the layer in the forms that some tools need, before the measurement."""
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
    Estimate the speed-up with several cores, relative to one core.

    ``amdahl`` assumes that the other threads wait while the calling thread reads and cuts. ``at_most`` assumes that all
    threads overlap; then the busiest thread outside the pool is the limit.
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
        raise SystemExit(f"The layer {name} cannot be made on this machine: npm is missing.")
    target = folder / "out.geojson"
    run = _run("ours", source, target)
    target.unlink()
    source.unlink()
    return run


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
            print(f"  {_describe_speed_up(layer['speed_up'], layer['tools']['ours'])}")
        spent = sorted(layer["stages"].items(), key=lambda stage: -stage[1])
        print("  on one thread: " + ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in spent))
        if "share_of_formatter" in layer:
            ours, orjson = (layer["formatter"][name] / 1e6 for name in ("ours", "orjson"))
            print(
                f"  coordinates: {layer['coordinate_bytes'] / 1e6:.0f} MB; the formatter alone writes {ours:.0f} MB/s "
                f"on one core (orjson {orjson:.0f}), the whole export {layer['share_of_formatter']:.0%} of that"
            )
        if name in REQUIRED_RATIOS and BASELINE in layer.get("ratios", {}):
            required, aim = REQUIRED_RATIOS[name]
            print(f"  required {required} times as fast, aim {aim}: {layer['ratios'][BASELINE]:.1f}")
        if "ten_times" in layer and "ours" in layer["tools"]:
            memory, memory_of_ten = layer["tools"]["ours"]["memory"], layer["ten_times"]["memory"]
            print(f"  ten times the features: {memory_of_ten / 1e6:.0f} MB, {memory_of_ten / memory - 1:+.0%}")


def _describe_speed_up(speed_up: dict[str, Any], run: dict[str, float]) -> str:
    amdahl, most = (
        ", ".join(f"{times:.1f}" for times in speed_up[figure].values()) for figure in ("amdahl", "at_most")
    )
    return (
        f"the calling thread takes {run['calling']:.2f} s of {run['processor']:.2f} s of processor time "
        f"({speed_up['calling_share']:.0%}). With {', '.join(map(str, CORES))} cores, the export is {amdahl} times as "
        f"fast as with one by Amdahl's law, and at most {most} times"
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
