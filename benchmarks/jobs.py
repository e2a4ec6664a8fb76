"""Run one export and print its time and memory: ``python -m benchmarks.jobs TOOL SOURCE TARGET``."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from tests.support.memory import peak_memory

_ogr2ogr_usage: dict[str, int] = {}


def ours(source: Path, target: Path) -> None:
    """Export with this package, with all checks."""
    from airflow_mapbox.export import write_geojson

    write_geojson(source, target, limit_bytes=None)


def gdal(source: Path, target: Path, **options: str) -> None:
    """Export with GDAL's writer through pyogrio and Arrow."""
    import geopandas

    frame = geopandas.read_parquet(source)
    if not options:  # with RFC7946=YES, GDAL transforms
        frame = frame.to_crs("OGC:CRS84")
    frame.to_file(target, driver="GeoJSON", engine="pyogrio", use_arrow=True, **options)


def gdal_rfc7946(source: Path, target: Path) -> None:
    """Export with GDAL's writer in its RFC 7946 mode."""
    gdal(source, target, RFC7946="YES")


def duckdb(source: Path, target: Path) -> None:
    """Export with DuckDB's writer."""
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"COPY (SELECT * FROM '{source}') TO '{target}' (FORMAT GEOJSON)")


def to_json(source: Path, target: Path) -> None:
    """Export with geopandas, in memory."""
    import geopandas

    frame = geopandas.read_parquet(source).to_crs("OGC:CRS84")
    moments = frame.select_dtypes("datetime").columns
    target.write_text(frame.assign(**{name: frame[name].astype(str) for name in moments}).to_json(drop_id=True))


def ogr2ogr(source: Path, target: Path) -> None:
    """Export with GDAL's program from FlatGeobuf, because not each build of GDAL reads GeoParquet."""
    command = ["ogr2ogr", "-f", "GeoJSON", "-lco", "RFC7946=YES", str(target), str(source)]
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            _ogr2ogr_usage["memory"] = max(_ogr2ogr_usage.get("memory", 0), peak_memory(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(process.returncode)


TOOLS = {
    "ours": ours,
    "ours, lonlat": ours,
    "pyogrio": gdal,
    "pyogrio RFC 7946": gdal_rfc7946,
    "DuckDB": duckdb,
    "to_json": to_json,
    "ogr2ogr": ogr2ogr,
}


def _count_threads() -> Counter[str]:
    """Return a counter to which each Python thread adds its processor time in seconds, by the name of its pool."""
    seconds: Counter[str] = Counter()
    run = threading.Thread.run

    def run_and_count(thread: threading.Thread) -> None:
        try:
            run(thread)
        finally:
            seconds[thread.name.rpartition("_")[0]] += time.thread_time()

    threading.Thread.run = run_and_count
    return seconds


def main() -> None:
    """Measure the export without its imports."""
    name, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    import geopandas  # noqa: F401

    import airflow_mapbox.export.geojson  # noqa: F401

    if name == "DuckDB":
        import duckdb  # noqa: F401
    threads = _count_threads()
    started, used, calling = time.perf_counter(), time.process_time(), time.thread_time()
    TOOLS[name](source, target)
    seconds = time.perf_counter() - started
    threads["calling"] = time.thread_time() - calling
    # More cores speed up the pool "export" only, so the longest of the other threads is the limit.
    alone = max(seconds for thread, seconds in threads.items() if thread != "export")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = time.process_time() - used + children.ru_utime + children.ru_stime
    memory = _ogr2ogr_usage.get("memory") or peak_memory("self")
    result = {"seconds": seconds, "processor": processor, "memory": memory, "bytes": target.stat().st_size}
    result |= {"calling": threads["calling"], "alone": alone}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
