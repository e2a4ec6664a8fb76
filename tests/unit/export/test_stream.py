from __future__ import annotations

import errno
import gc
import hashlib
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
from shapely.geometry import Point

from airflow_mapbox.export import atomic_file as files
from airflow_mapbox.export import stream_geojson, write_geojson
from airflow_mapbox.export.errors import (
    CoordinatesError,
    EmptyExportError,
    ExportClosedError,
    SourceUnavailableError,
    TooLargeError,
)
from airflow_mapbox.export.readers.batch import BATCH_BYTES, Batch
from airflow_mapbox.uploads.errors import ConfigurationError
from tests.unit.export.support import features, frame


def many(count: int) -> geopandas.GeoDataFrame:
    return frame(shapely.points(np.linspace(-170, 170, count), np.zeros(count)), n=np.arange(count))


def export_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("export")]


def test_the_pieces_are_the_file(tmp_path: Path) -> None:
    source = many(50_000)
    stream = stream_geojson(source)

    pieces = list(stream)
    report = write_geojson(source, tmp_path / "x.geojson")

    assert b"".join(pieces) == (tmp_path / "x.geojson").read_bytes()
    assert max(map(len, pieces)) <= 1 << 20
    assert len(pieces) > 3
    assert stream.report.sha256 == report.sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert stream.report.bytes == sum(map(len, pieces))
    assert stream.report.path is None
    assert not export_threads()


def test_nothing_is_read_before_the_first_piece_is_asked_for() -> None:
    asked = []

    def frames() -> Iterator[geopandas.GeoDataFrame]:
        asked.append(1)
        yield many(3)

    stream = stream_geojson(frames())

    assert not asked
    list(stream)
    assert asked


def test_a_report_is_there_at_the_end_and_not_before() -> None:
    stream = stream_geojson(many(3))
    next(stream)

    with pytest.raises(ExportClosedError):
        _ = stream.report
    list(stream)

    assert stream.report.features == 3
    assert list(stream) == []


@pytest.mark.slow
def test_only_one_frame_is_in_memory_at_a_time() -> None:
    alive: list[weakref.ref[geopandas.GeoDataFrame]] = []
    held = []

    def frames() -> Iterator[geopandas.GeoDataFrame]:
        for _ in range(4):
            gc.collect()
            held.append(sum(1 for known in alive if known() is not None))
            made = many(200_000)
            alive.append(weakref.ref(made))
            yield made
            del made

    for _ in stream_geojson(frames()):
        pass

    assert held == [0, 0, 0, 0]


def test_closing_stops_the_threads_and_closes_the_source() -> None:
    closed = []

    def frames() -> Iterator[geopandas.GeoDataFrame]:
        try:
            while True:
                yield many(100_000)
        finally:
            closed.append(1)

    source = frames()
    stream = stream_geojson(source)
    for _ in range(5):
        next(stream)
    assert export_threads()

    stream.close()
    stream.close()

    assert not export_threads()
    source.close()
    assert closed
    with pytest.raises(ExportClosedError):
        next(stream)


def test_an_error_in_the_middle_is_raised_there_and_stops_the_threads() -> None:
    def frames() -> Iterator[geopandas.GeoDataFrame]:
        yield many(100_000)
        yield frame([Point(0, 0), Point(200, 0)])

    taken = []
    with pytest.raises(CoordinatesError, match="Feature 100001 has"):
        taken.extend(stream_geojson(frames()))
    assert not export_threads()

    assert sum(map(len, taken)) > 1 << 20


@pytest.mark.parametrize("closed", [False, True])
def test_a_failed_stream_is_never_complete(closed: bool) -> None:
    def frames() -> Iterator[geopandas.GeoDataFrame]:
        yield many(10)
        raise RuntimeError("the warehouse is closed")

    stream = stream_geojson(frames())
    with pytest.raises(RuntimeError):
        list(stream)
    if closed:
        stream.close()

    for _ in range(2):
        with pytest.raises(ExportClosedError, match="export failed"):
            next(stream)
    with pytest.raises(ExportClosedError, match="export failed"):
        _ = stream.report


def test_an_error_of_the_source_is_the_callers_own() -> None:
    def frames() -> Iterator[geopandas.GeoDataFrame]:
        yield many(10)
        raise RuntimeError("the warehouse is closed")

    with pytest.raises(RuntimeError, match="the warehouse is closed"):
        list(stream_geojson(frames()))
    assert not export_threads()


def test_more_than_mapbox_takes_stops_at_once_and_names_the_way(tmp_path: Path) -> None:
    asked = []

    def frames() -> Iterator[geopandas.GeoDataFrame]:
        while True:
            asked.append(1)
            yield many(10_000)

    message = r"(?s)over 3,000,000 bytes, the limit of limit_bytes=, after \d+,000 features of .*write_mbtiles"

    with pytest.raises(TooLargeError, match=message):
        write_geojson(frames(), tmp_path / "x.geojson", limit_bytes=3_000_000)

    assert len(asked) < 6
    assert not list(tmp_path.iterdir())


def test_an_empty_export_names_the_selection_and_the_drops(tmp_path: Path) -> None:
    frame([Point(1, 2), Point(3, 4)], n=[1, 2]).to_file(tmp_path / "x.gpkg")

    with pytest.raises(
        EmptyExportError, match=r"(?s)0 were read.*where='n > 9'.*bbox=\(0\.0, 0\.0, 9\.0, 9\.0\).*own reference system"
    ):
        list(stream_geojson(tmp_path / "x.gpkg", where="n > 9", bbox=(0, 0, 9, 9)))
    with pytest.raises(EmptyExportError, match=r"2 were read. Dropped: 1 \(no geometry\), 1 \(empty geometry\)"):
        list(stream_geojson(frame([None, Point()])))


def test_whole_numbers_of_any_type_say_how_many_decimals_are_kept() -> None:
    (feature,) = features(frame([Point(1.23456, 2)]), decimals=np.int64(2))

    assert feature["geometry"]["coordinates"] == [1.23, 2]


def test_the_limit_is_mapboxs_own_and_can_be_lifted() -> None:
    from inspect import signature

    assert signature(stream_geojson).parameters["limit_bytes"].default == 1_073_741_824
    assert sum(map(len, stream_geojson(many(100), limit_bytes=None))) > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"z": "maybe"},
        {"on_invalid": "ignore"},
        {"beyond_mercator": "cut"},
        {"antimeridian": True},
        {"decimals": 16},
        {"decimals": -1},
        {"decimals": "7"},
        {"decimals": 6.5},
        {"limit_bytes": -1},
        {"max_segment": 0},
        {"batch_rows": 0},
        {"as_text": "id"},
        {"columns": "id"},
        {"columns": [1]},
        {"columns": 5},
        {"as_text": None},
        {"limit_bytes": "1000"},
        {"batch_rows": 1.5},
        {"threads": 0},
        {"threads": 2.5},
        {"threads": True},
        {"max_segment": "100"},
        {"max_segment": float("nan")},
        {"accuracy_warning": "5"},
        {"write_bbox": "no"},
        {"z": ["keep"]},
        {"where": 5},
        {"layer": 1.5},
        {"layer": True},
        {"x": 0},
        {"id_attribute": True},
        {"id_attribute": "id", "where": "n = 1"},
        {"id_attribute": "id", "bbox": (0, 0, 1, 1)},
        {"bbox": "0, 0, 2, 3"},
        {"bbox": [0, 0, 2]},
        {"bbox": [0, 0, 2, 3, 4, 5]},
        {"bbox": ["0", "0", "2", "3"]},
        {"bbox": [0, 0, 2, None]},
        {"bbox": [0, 0, 2, float("nan")]},
        {"bbox": [0, 0, 2, float("inf")]},
        {"bbox": [2, 0, 0, 3]},
        {"bbox": [0, 3, 2, 0]},
        {"bbox": [[0, 0, 2, 3]]},
        {"bbox": 5},
        {"bbox": {}},
        {"bbox": frame([]).total_bounds},
    ],
    ids=str,
)
def test_an_unknown_choice_is_refused_before_anything_is_read(wrong: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        stream_geojson(many(1), **wrong)


@pytest.mark.parametrize("name", ["layer", "where", "bbox", "x", "id_attribute"])
def test_a_selection_that_the_source_does_not_know_is_refused_instead_of_ignored(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}= cannot be used with a GeoDataFrame"):
        list(stream_geojson(many(1), **{name: [0, 0, 1, 1] if name == "bbox" else "1"}))


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_an_error_that_the_disk_tells_only_once_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    calls: list[int] = []

    def sync(_descriptor: int) -> None:
        calls.append(len(calls))
        if len(calls) == failing:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(files, "_SYNC_BYTES", 1)
    monkeypatch.setattr(files.os, "fdatasync", sync)

    def write() -> None:
        with files.atomic_file(tmp_path / "x.geojson") as file:
            for _ in range(100):
                file.write(b"x" * 1000)
                file._flush()  # so that each sync starts as soon as its bytes come

    with pytest.raises(OSError, match="Disk quota exceeded"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["category", "dictionary", "objects"])
def test_slices_of_dictionary_encoded_columns_are_small(kind: str) -> None:
    text, rows = "x" * 20_000, 2_000
    columns: dict[str, Any] = {
        "category": pd.Series(pd.Categorical([None, text] * (rows // 2))),
        "dictionary": pa.array([None, text] * (rows // 2)).dictionary_encode(),
        "objects": pd.Series([{"a": text}] * rows, dtype=object),
    }
    geometry = pa.array(shapely.to_wkb(shapely.points(np.zeros(rows), np.zeros(rows))))

    slices = list(Batch(geometry, {"text": columns[kind]}, None, "The frame").split())

    assert sum(map(len, slices)) == rows
    longest = 2 if kind == "objects" else 4  # megabytes: every second row has none
    assert max(map(len, slices)) * len(text) <= longest * (BATCH_BYTES + len(text))


class Signed:
    """What stands for a path whose text carries a signature."""

    def __str__(self) -> str:
        return "https://store.example/x.parquet?sig=c4nary"

    def open(self, mode: str = "r") -> IO[bytes]:
        raise AssertionError(f"opened for {mode}")


def test_a_path_object_that_carries_a_signature_is_refused_without_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        list(stream_geojson(Signed()))
    assert "c4nary" not in str(caught.value)


def test_messages_of_a_store_are_shown_without_signatures() -> None:
    class Moved:
        def __str__(self) -> str:
            return "bucket://x.parquet"

        def open(self, mode: str = "r") -> IO[bytes]:
            raise TimeoutError("no answer from https://store.example/x.parquet?X-Amz-Signature=c4nary&a=1")

    with pytest.raises(SourceUnavailableError, match=r"X-Amz-Signature=\*\*\*&a=1") as caught:
        list(stream_geojson(Moved()))
    assert "c4nary" not in str(caught.value)
