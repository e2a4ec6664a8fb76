"""Measure the stages of an export on one thread, and its coordinate formatter alone."""

from __future__ import annotations

import hashlib
import importlib
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson

_OPENING = ',\n{"type":"Feature",'
# The functions of each stage. If one calls another, the time counts for the inner one only.
STAGES = {
    "read": [("readers.geoparquet", "_next")],
    "parse WKB": [("encode", "read_geometries")],
    "transform": [("geometry.crs", "Transformation.apply")],
    "edges, ranges": [
        ("geometry.stages", "edge_error"),
        ("geometry.clip", "not_finite"),
        ("geometry.clip", "off_globe"),
        ("geometry.clip", "off_map"),
        ("geometry.antimeridian", "crossings"),
    ],
    "round": [("geometry.clip", "to_units")],
    "repeats, winding": [("geometry.stages", "drop_repeated_positions"), ("geometry.stages", "wind_rings")],
    "validity": [("geometry.stages", "_invalid"), ("geometry.clip", "from_units")],
    "coordinates": [("encode", "position_strings")],
    "attributes": [("encode", "encode_properties")],
}


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                took = time.perf_counter() - started
                self.seconds[stage] += took - self._inner.pop()
                self._inner[-1] += took

        return measured


def stages(source: Path, target: Path) -> dict[str, float]:
    """
    Export on one thread, and return the seconds of each stage.

    :param source: the GeoParquet file.
    :param target: the file to write.
    """
    from airflow_mapbox.export.encode import encode
    from airflow_mapbox.export.geojson import string_bytes
    from airflow_mapbox.export.options import Options, Selection
    from airflow_mapbox.export.readers import read_source

    clock, replaced = _Clock(), []
    for stage, functions in STAGES.items():
        for module, path in functions:
            holder: Any = importlib.import_module(f"airflow_mapbox.export.{module}")
            *outer, name = path.split(".")
            for part in outer:
                holder = getattr(holder, part)
            replaced.append((holder, name, getattr(holder, name)))
            setattr(holder, name, clock.timed(stage, getattr(holder, name)))
    options, digest = Options(), hashlib.sha256()
    encoded = clock.timed("join and the rest", encode)

    def sink(text: memoryview) -> None:
        digest.update(text)
        file.write(text)

    written = clock.timed("write, digest", sink)
    sync = clock.timed("write, digest", os.fsync)
    started = time.perf_counter()
    try:
        with target.open("wb", buffering=0) as file:
            for batches in read_source(source, Selection()):
                for batch in batches:
                    for part in batch.split():
                        texts, _ = encoded(part, None, options, _OPENING)
                        written(string_bytes(texts))
            sync(file.fileno())
    finally:
        for holder, name, original in replaced:
            setattr(holder, name, original)
    total = time.perf_counter() - started
    return {**clock.seconds, "cut into slices": total - sum(clock.seconds.values())}


def formatter_speeds() -> dict[str, float]:
    """Return the speed of each coordinate formatter on one core, in bytes per second, for arrays of a megabyte."""
    from airflow_mapbox.export.text.memory import keep_freed_memory
    from airflow_mapbox.export.text.positions import position_strings

    keep_freed_memory()
    whole = np.rint(np.random.default_rng(4).uniform(-80e7, 80e7, (2, 1 << 16)))
    positions = np.ascontiguousarray(whole.T / 1e7)
    paths = np.arange(0, whole.shape[1] + 1, 1 << 10)
    return {
        "ours": _fastest(lambda: position_strings(list(whole), 7, paths).buffers()[2].size),
        "orjson": _fastest(lambda: len(orjson.dumps(positions, option=orjson.OPT_SERIALIZE_NUMPY))),
    }


def _fastest(write: Callable[[], int]) -> float:
    """Return the bytes per second of the fastest of 50 calls."""
    best = 0.0
    for _ in range(50):
        started = time.perf_counter()
        best = max(best, write() / (time.perf_counter() - started))
    return best


def coordinate_bytes(source: Path) -> int:
    """
    Return the number of bytes of coordinates in a layer's GeoJSON.

    :param source: the GeoParquet file.
    """
    from airflow_mapbox.export import encode as encoder
    from airflow_mapbox.export.options import Options, Selection
    from airflow_mapbox.export.readers import read_source
    from airflow_mapbox.export.text import positions

    count, original = 0, positions.position_strings

    def counted(*args: Any) -> Any:
        nonlocal count
        texts = original(*args)
        count += texts.buffers()[2].size
        return texts

    encoder.position_strings = counted
    try:
        for batches in read_source(source, Selection()):
            for batch in batches:
                for part in batch.split():
                    encoder.encode(part, None, Options(), _OPENING)
    finally:
        encoder.position_strings = original
    return count
