from __future__ import annotations

import gc
import hashlib
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from shapely.geometry import Point

from airflow_mapbox.export import stream_geojson, write_geojson
from airflow_mapbox.export.errors import CoordinatesError, ExportClosedError, TooLargeError

from .support import frame


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


def test_frames_are_made_one_at_a_time_and_let_go_before_the_next() -> None:
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
def test_a_stream_that_failed_never_looks_whole(closed: bool) -> None:
    def frames() -> Iterator[geopandas.GeoDataFrame]:
        yield many(10)
        raise RuntimeError("the warehouse is closed")

    stream = stream_geojson(frames())
    with pytest.raises(RuntimeError):
        list(stream)
    if closed:
        stream.close()

    for _ in range(2):
        with pytest.raises(ExportClosedError, match="failed before its end"):
            next(stream)
    with pytest.raises(ExportClosedError, match="failed before its end"):
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

    with pytest.raises(TooLargeError, match=r"over 3,000,000 bytes.* after \d+,000 features of .*write_mbtiles"):
        write_geojson(frames(), tmp_path / "x.geojson", limit_bytes=3_000_000)

    assert len(asked) < 6
    assert not list(tmp_path.iterdir())


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
        {"max_segment": 0},
        {"batch_rows": 0},
        {"as_text": "id"},
        {"columns": "id"},
    ],
    ids=str,
)
def test_a_choice_that_there_is_not_is_refused_before_anything_is_read(wrong: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        stream_geojson(many(1), **wrong)


@pytest.mark.parametrize("name", ["layer", "where", "bbox", "x"])
def test_a_selection_that_the_source_does_not_know_is_refused_instead_of_ignored(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}= cannot be used with a GeoDataFrame"):
        list(stream_geojson(many(1), **{name: "1"}))
