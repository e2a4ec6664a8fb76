"""
Run one check, or its parser alone, and print time and memory: ``python -m benchmarks.preflight_job JOB SOURCE``.

This module imports little, because what it imports counts as the check's memory.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from xml.parsers import expat

from tests.support.memory import peak_memory

# A baseline reads the beginning of a file, which is enough for its speed.
_BASELINE_BYTES = 256 * 2**20
_BLOCK_BYTES = 256 * 1024


def main() -> None:
    """Run the job."""
    job, source = sys.argv[1:]
    print(json.dumps(_check(source) if job == "check" else _baseline(Path(source))))


def _check(source: str) -> dict[str, Any]:
    from airflow_mapbox.preflight import check_source

    with _measured() as figures:
        report = check_source(source)
    says = [*map(str, (*report.problems, *report.warnings)), *report.notes]
    return figures | {"bytes": report.bytes, "ok": report.ok, "features": report.features, "says": says}


def _baseline(path: Path) -> dict[str, Any]:
    baseline = _BASELINES.get(path.suffix)
    with _measured() as figures:
        size = 0 if baseline is None else baseline(path)
    return figures | {"bytes": size}


@contextmanager
def _measured() -> Iterator[dict[str, Any]]:
    figures: dict[str, Any] = {}
    began, used = time.perf_counter(), time.process_time()
    yield figures
    figures["seconds"], figures["processor"] = time.perf_counter() - began, time.process_time() - used
    figures["memory"] = peak_memory("self")


def _features_by_orjson(path: Path) -> int:
    """Parse features of the export, which all begin alike, in blocks."""
    import orjson

    rest, read = b"", 0
    with path.open("rb", buffering=0) as file:
        file.seek(re.search(rb'"features":\s*\[', file.read(4096)).end())  # type: ignore[union-attr]
        while read < _BASELINE_BYTES and (data := file.read(_BLOCK_BYTES)):
            read += len(data)
            features, _, rest = (rest + data).rpartition(b'{"type":"Feature"')
            orjson.loads(b"[" + features.rstrip(b" \n,") + b"]")
            rest = b'{"type":"Feature"' + rest
    return read


def _rows_by_csv(path: Path) -> int:
    with path.open("rb") as file:
        text = file.read(_BASELINE_BYTES).decode("utf-8", "ignore")
    for _ in csv.reader(io.StringIO(text, newline="")):
        pass
    return _BASELINE_BYTES


def _elements_by_expat(path: Path) -> int:
    """Parse with handlers that do nothing."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = lambda *_: None
    size = 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(_BLOCK_BYTES):
            parser.Parse(data, False)
            size += len(data)
    return size


def _checksums_by_zipfile(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        archive.testzip()
        return sum(info.file_size for info in archive.infolist())


def _count_by_sqlite(path: Path) -> int:
    import sqlite3

    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
        db.execute("SELECT COUNT(*) FROM tiles").fetchone()
    return 0


_BASELINES: dict[str, Callable[[Path], int]] = {
    ".geojson": _features_by_orjson,
    ".csv": _rows_by_csv,
    ".kml": _elements_by_expat,
    ".gpx": _elements_by_expat,
    ".zip": _checksums_by_zipfile,
    ".mbtiles": _count_by_sqlite,
}


if __name__ == "__main__":
    main()
