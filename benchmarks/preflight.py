"""
Measure the preflight with files as large as Mapbox allows: ``python -m benchmarks.preflight``.

Each run is a process of its own, and the rounds are interleaved. Beside the checks runs what they are built on, without
the rules: if that is slow, too, the machine was busy. Processor time tells the same.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.limits import FILES, make

# Megabytes a second that a check must reach, and megabytes of memory that it may take.
REQUIRED_SPEED = {".geojson": 200, ".csv": 100, ".kml": 40, ".gpx": 40}
MOST_MEMORY = {".geojson": 100, ".csv": 100, ".kml": 100, ".gpx": 100, ".zip": 200, ".mbtiles": 200, ".tif": 100}
# Requests for parts, and their bytes, that a check of a TIFF at a URL may need.
MOST_TIFF_REQUESTS, MOST_TIFF_BYTES = 3, 49_152
LONG_SECONDS, LONG_ROUNDS = 10.0, 3
REMOTE = ("points.geojson", "plain.csv", "polygons.kml", "points.zip", "tiles.mbtiles", "pixels.tif")
_BLOCK_BYTES = 256 * 1024
_BASELINE_NAMES = {
    ".geojson": "orjson",
    ".csv": "csv.reader",
    ".kml": "expat",
    ".gpx": "expat",
    ".zip": "testzip()",
    ".mbtiles": "COUNT(*)",
}


def main() -> int:
    """Measure, print, and write the results. Return 1 if a requirement is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preflight", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--folder", type=Path, default=Path("build/benchmarks/preflight"))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    paths = {name: make(name, chosen.folder) for name in chosen.files}
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {name: {"check": [], "baseline": []} for name in paths}
    for turn in range(chosen.rounds):
        for name, path in paths.items():
            for job, those in runs[name].items():
                if turn < LONG_ROUNDS or statistics.median(run["seconds"] for run in those) < LONG_SECONDS:
                    those.append(_run(job, str(path)))
    result = {name: {job: _medians(those) for job, those in jobs.items()} for name, jobs in runs.items()}
    with _server(chosen.folder) as (url, counts):
        remote = {name: _remote(url, counts, name) for name in paths if name in REMOTE}
    _print(result, remote)
    missed = [*_missed(result), *_missed_remote(remote)]
    (chosen.folder / "preflight.json").write_text(json.dumps({"local": result, "remote": remote}, indent=1))
    print("\n".join(["", "Requirements NOT met:", *missed]) if missed else "\nAll requirements are met.")
    return 1 if missed else 0


def _run(job: str, source: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.preflight_job", job, source]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{job} {source.rpartition('/')[2]}: {figures['seconds']:.2f} s", file=sys.stderr, flush=True)
    return figures


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    figures = {key: statistics.median(run[key] for run in runs) for key in ("seconds", "processor", "memory", "bytes")}
    return figures | {key: runs[0][key] for key in ("ok", "features", "says") if key in runs[0]} | {"runs": len(runs)}


# --- Files at a URL ---


class _Counts:
    """The requests of a client: for the whole file, and for parts with their bytes."""

    def __init__(self) -> None:
        self.whole = self.parts = self.part_bytes = 0


@contextmanager
def _server(folder: Path) -> Iterator[tuple[str, _Counts]]:
    """Serve a folder with byte ranges."""
    counts = _Counts()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = folder / self.path.rpartition("/")[2]
            size = path.stat().st_size
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, end = (int(asked[1]), min(int(asked[2]) + 1, size)) if asked else (0, size)
            if asked:
                counts.parts += 1
                counts.part_bytes += end - start
            else:
                counts.whole += 1
            self.send_response(206 if asked else 200)
            self.send_header("ETag", '"1"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(end - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.end_headers()
            with path.open("rb") as file:
                file.seek(start)
                try:
                    while start < end:
                        start += self.wfile.write(file.read(min(_BLOCK_BYTES, end - start)))
                except OSError:
                    self.close_connection = True  # the client wanted the beginning only

        def log_message(self, format: str, *arguments: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", counts
    finally:
        server.shutdown()
        server.server_close()


def _remote(url: str, counts: _Counts, name: str) -> dict[str, Any]:
    counts.whole = counts.parts = counts.part_bytes = 0
    figures = _run("check", f"{url}/{name}")
    return figures | {"whole": counts.whole, "parts": counts.parts, "part_bytes": counts.part_bytes}


# --- The results ---


def _missed(result: dict[str, Any]) -> Iterator[str]:
    for name, jobs in result.items():
        check, suffix = jobs["check"], Path(name).suffix
        speed, memory = check["bytes"] / check["seconds"] / 1e6, check["memory"] / 1e6
        if not check["ok"] or (check["says"] and suffix != ".mbtiles"):
            yield f"{name}: the check says {check['says']}"
        if speed < REQUIRED_SPEED.get(suffix, 0):
            yield f"{name}: {speed:.0f} MB/s, required {REQUIRED_SPEED[suffix]}"
        if memory > MOST_MEMORY[suffix]:
            yield f"{name}: {memory:.0f} MB of memory, allowed {MOST_MEMORY[suffix]}"


def _missed_remote(remote: dict[str, Any]) -> Iterator[str]:
    for name, check in remote.items():
        if not check["ok"]:
            yield f"{name} at a URL: the check says {check['says']}"
        if name.endswith(".tif") and (check["parts"] > MOST_TIFF_REQUESTS or check["part_bytes"] > MOST_TIFF_BYTES):
            yield f"{name} at a URL: {check['parts']} parts of {check['part_bytes']:,} bytes"


def _print(result: dict[str, Any], remote: dict[str, Any]) -> None:
    print("| file | bytes | seconds | processor | MB/s | memory | baseline | its MB/s | its processor's MB/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, jobs in result.items():
        check, baseline, suffix = jobs["check"], jobs["baseline"], Path(name).suffix
        speeds = [f"{baseline['bytes'] / max(baseline[key], 1e-9) / 1e6:.0f}" for key in ("seconds", "processor")]
        if suffix == ".mbtiles":
            speeds = [f"{baseline[key]:.2f} s" for key in ("seconds", "processor")]
        print(
            f"| {name} | {check['bytes']:,} | {check['seconds']:.2f} | {check['processor']:.2f} | "
            f"{check['bytes'] / check['seconds'] / 1e6:.0f} | {check['memory'] / 1e6:.0f} MB | "
            f"{_BASELINE_NAMES.get(suffix, 'none')} | {' | '.join(speeds)} |"
        )
    print("\n| at a URL | seconds | memory | requests for the beginning | for parts | bytes of the parts |")
    print("|---|---|---|---|---|---|")
    for name, check in remote.items():
        print(
            f"| {name} | {check['seconds']:.2f} | {check['memory'] / 1e6:.0f} MB | {check['whole']} | {check['parts']} "
            f"| {check['part_bytes']:,} |"
        )


if __name__ == "__main__":
    sys.exit(main())
