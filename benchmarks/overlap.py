"""
Measure staging during the export: ``python -m benchmarks.overlap``.

Three jobs run in turn, each in a process: the export alone, which discards its bytes; the staging alone, of a file from
an earlier export; and both at once, like in a task. The bucket is a server that discards the data, and limits its rate.
With three limits, the staging alone takes half as long as the export, as long, and twice as long.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.data import make

# Both at once may take this many times as long as the longer job alone.
MAX_RATIO = 1.2
PART_BYTES = 8 * 2**20
PARTS_IN_FLIGHT = 4


def main() -> int:
    """Measure, print, and write the results. Return 1 if a ratio is too large."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overlap", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layer", default="polygons")
    parser.add_argument("--times", type=int, default=2, help="a factor for the layer's number of features")
    parser.add_argument("--folder", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--job", choices=("export", "stage", "both"), help="run one job and print its seconds")
    parser.add_argument("--job-input", type=Path)
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.job:
        print(_job(chosen.job, chosen.job_input, chosen.port))
        return 0
    chosen.folder.mkdir(parents=True, exist_ok=True)
    layer = make(chosen.layer, chosen.times, chosen.folder)
    assert layer is not None
    ratios = _measure(layer, chosen.rounds, chosen.folder)
    return 0 if max(ratios) <= MAX_RATIO else 1


def _measure(layer: Path, rounds: int, folder: Path) -> list[float]:
    from airflow_mapbox.export import write_geojson

    exported = folder / "overlap.geojson"
    size = write_geojson(layer, exported, limit_bytes=None).bytes
    alone = statistics.median(_run("export", layer, 0) for _ in range(3))
    result = []
    for share in (0.5, 1.0, 2.0):
        with _sink(size / (alone * share)) as port:
            seconds: dict[str, list[float]] = {"export": [], "stage": [], "both": []}
            for _ in range(rounds):
                for job, taken in seconds.items():
                    taken.append(_run(job, exported if job == "stage" else layer, port))
        medians = {job: statistics.median(taken) for job, taken in seconds.items()}
        ratio = medians["both"] / max(medians["export"], medians["stage"])
        result.append({**medians, "ratio": ratio, "link_bytes_per_second": size / (alone * share), "seconds": seconds})
        print(
            f"{size / 1e6:.0f} MB, link {size / (alone * share) / 1e6:.0f} MB/s: export {medians['export']:.2f} s, "
            f"staging {medians['stage']:.2f} s, both {medians['both']:.2f} s = {ratio:.2f} times the longer "
            f"(allowed {MAX_RATIO})",
            flush=True,
        )
    (folder / "overlap.json").write_text(json.dumps({"bytes": size, "rounds": rounds, "links": result}, indent=1))
    exported.unlink()
    return [link["ratio"] for link in result]


@contextmanager
def _sink(bytes_per_second: float) -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.sink", str(bytes_per_second)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _run(job: str, source: Path, port: int) -> float:
    command = [sys.executable, "-m", "benchmarks.overlap", "--job", job, "--job-input", str(source)]
    done = subprocess.run([*command, "--port", str(port)], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _job(job: str, source: Path, port: int) -> float:
    """Run one job and return its seconds, without imports and connections."""
    from airflow_mapbox.export import stream_geojson
    from airflow_mapbox.hooks.staging import staging_s3_client
    from airflow_mapbox.limits import STAGING_REGION
    from airflow_mapbox.sources.resolve import open_source
    from airflow_mapbox.tasks.export_source import export_source
    from airflow_mapbox.uploads.models import StagingCredentials
    from airflow_mapbox.uploads.staging.stager import Stager, StagingOptions

    if job == "export":
        started = time.perf_counter()
        for _ in stream_geojson(source, limit_bytes=None):
            pass
        return time.perf_counter() - started
    credentials = StagingCredentials("sink", "sink", "https://sink/sink", "sink-id", "sink-secret", "sink-session")
    # Made before the measurement: the first S3 client of a process takes a third of a second.
    s3 = staging_s3_client(credentials, f"http://127.0.0.1:{port}", region=STAGING_REGION)
    stager = Stager(lambda: credentials, lambda _: s3, StagingOptions(PART_BYTES, PARTS_IN_FLIGHT))
    opened = (
        open_source(source) if job == "stage" else export_source(source, "geojson", {"limit_bytes": None}, name="layer")
    )
    started = time.perf_counter()
    stager.stage(opened)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
