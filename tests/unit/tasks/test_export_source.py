"""Geodata as a source: streamed as GeoJSON, written first as MBTiles, and told apart by what it was made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely
from airflow.sdk.exceptions import AirflowFailException

from airflow_mapbox.exceptions import MapboxTaskError, airflow_errors
from airflow_mapbox.export import ExportError, write_geojson
from airflow_mapbox.export.errors import SourceUnavailableError, UnreadableSourceError
from airflow_mapbox.preflight import check_source
from airflow_mapbox.tasks.export_source import export_source
from airflow_mapbox.uploads.errors import SourceError


def frame(count: int = 5) -> geopandas.GeoDataFrame:
    points = [shapely.Point(number / 10, number / 20) for number in range(count)]
    return geopandas.GeoDataFrame({"n": range(count)}, geometry=points, crs=4326)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "points.parquet"
    frame().to_parquet(path)
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which temporary files are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_streamed_geojson_equals_the_file_that_would_be_written(parquet: Path, temporary: Path, tmp_path: Path) -> None:
    report = write_geojson(parquet, tmp_path / "points.geojson", decimals=3)
    source = export_source(parquet, "geojson", {"decimals": 3}, name="points")

    with source.open() as stream:
        assert stream.read() == (tmp_path / "points.geojson").read_bytes()

    assert source.facts == {
        "features": 5,
        "bounds": list(report.bounds),
        "fields": list(report.fields),
        "bill": report.bill.to_json(),
    }
    assert source.checksum is not None
    assert source.checksum() == report.sha256 == hashlib.sha256((tmp_path / "points.geojson").read_bytes()).hexdigest()
    assert source.description == f"{parquet} as GeoJSON"
    assert source.size is None
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("format", "limit", "made"),
    [("mbtiles", None, "MBTiles"), ("auto", 10_000, "GeoJSON"), ("auto", 600, "MBTiles")],
)
def test_a_temporary_export_has_the_right_format_and_leaves_no_file(
    parquet: Path, temporary: Path, format: Any, limit: int | None, made: str
) -> None:
    options = {"limit_bytes": limit} | ({"maxzoom": 4} if format == "mbtiles" or made == "MBTiles" else {})

    with export_source(parquet, format, options, name="points") as source:
        report = check_source(source)
        assert (report.format, report.problems) == (made, ())
        with source.open() as stream:
            data = stream.read()
        assert source.size == report.bytes == len(data)
        assert source.checksum is not None
        assert source.checksum() == hashlib.sha256(data).hexdigest()
    assert source.facts["features"] == 5
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("format", ["mbtiles", "auto"])
def test_a_temporary_directory_that_is_missing_is_an_error_of_the_export(parquet: Path, format: Any) -> None:
    with pytest.raises(ExportError, match="temporary_directory='/nowhere'"):
        export_source(parquet, format, {"temporary_directory": "/nowhere", "maxzoom": 4}, name="points").open()


@pytest.mark.parametrize(("format", "limit"), [("mbtiles", None), ("auto", 600)])
def test_a_relative_temporary_directory_is_taken(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Any, limit: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("space").mkdir()
    options = {"temporary_directory": "space", "maxzoom": 4, "limit_bytes": limit}

    with export_source(parquet, format, options, name="points") as source, source.open() as stream:
        assert stream.read(6) == b"SQLite"
    assert not list(Path("space").iterdir())


def test_a_source_that_fails_leaves_nothing(temporary: Path) -> None:
    def frames() -> Iterator[geopandas.GeoDataFrame]:
        yield frame()
        raise RuntimeError("the query was cancelled")

    with pytest.raises(RuntimeError, match="the query was cancelled"):
        export_source(frames, "mbtiles", name="points").open()
    assert not list(temporary.iterdir())


def test_an_export_can_be_read_again_if_its_data_can(parquet: Path) -> None:
    for data in (parquet, frame(), frame):
        source = export_source(data, "geojson", name="points")
        assert source.rereadable
        assert source.open().read() == source.open().read()
    assert not export_source(iter([frame()]), "geojson", name="points").rereadable


def test_the_fingerprint_covers_the_file_and_the_export_options(parquet: Path) -> None:
    one = export_source(parquet, "geojson", {"decimals": 5}, name="points").fingerprint

    assert one == export_source(str(parquet), "geojson", {"decimals": 5}, name="points").fingerprint
    assert one["size"] == parquet.stat().st_size
    assert one != export_source(parquet, "geojson", {"decimals": 6}, name="points").fingerprint
    assert one != export_source(parquet, "mbtiles", {"decimals": 5}, name="points").fingerprint
    frame(6).to_parquet(parquet)
    assert one != export_source(parquet, "geojson", {"decimals": 5}, name="points").fingerprint
    assert export_source(frame(), "geojson", name="points").fingerprint == {}


@pytest.mark.parametrize("ending", [".dbf", ".shx", ".prj", ".cpg"])
def test_the_fingerprint_is_of_all_files_of_a_shapefile(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "points.shp"
    frame().to_file(path)
    source = export_source(path, "geojson", name="points")
    before = source.fingerprint
    os.utime(path.with_suffix(ending), ns=(1, 1))

    assert source.has_changed()
    assert export_source(path, "geojson", name="points").fingerprint != before


def test_the_fingerprint_covers_the_write_ahead_log_of_a_geopackage(tmp_path: Path) -> None:
    path = tmp_path / "points.gpkg"
    frame().to_file(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        source = export_source(path, "geojson", name="points")
        assert json.loads(source.open().read())["features"][0]["properties"] == {"n": 0}
        assert not source.has_changed()
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TABLE another (n)")
        db.commit()

        assert source.has_changed()


@pytest.mark.parametrize("ending", [".csvt", ".prj"])
def test_the_fingerprint_covers_the_sidecar_files_of_a_csv(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text("lon,lat\n1,2\n")
    source = export_source(path, "geojson", name="points")
    before = source.fingerprint
    path.with_suffix(ending).write_text("something else")

    assert source.has_changed()
    path.with_suffix(ending).unlink()
    assert export_source(path, "geojson", name="points").fingerprint == before


def test_a_file_that_is_not_there_is_said_before_anything_is_read(tmp_path: Path) -> None:
    source = export_source(tmp_path / "gone.parquet", "auto", name="points")

    with pytest.raises(SourceError, match=r"gone\.parquet does not exist on this worker"):
        source.fingerprint  # noqa: B018 - it is found out now


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format must be one of geojson, mbtiles, auto"):
        export_source(frame(), "shapefile", name="points")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("format", "options", "advice"),
    [
        ("auto", {"decimal": 6}, "did you mean 'decimals'?"),
        ("geojson", {"tier": "1m"}, "it is for vector tiles: choose mbtiles or auto"),
        ("mbtiles", {"zzzzzzzz": 1}, "its options are crs, decimals"),
    ],
)
def test_an_unknown_option_is_refused_at_once(format: Any, options: dict[str, Any], advice: str) -> None:
    with pytest.raises(ValueError, match=re.escape(advice)):
        export_source(frame(), format, options, name="points")


@pytest.mark.parametrize("format", ["geojson", "mbtiles"])
@pytest.mark.parametrize(("error", "retried"), [(SourceUnavailableError, True), (UnreadableSourceError, False)])
def test_an_export_that_may_do_better_later_is_retried(
    format: Any, error: type[ExportError], retried: bool, temporary: Path
) -> None:
    def frames() -> Iterator[geopandas.GeoDataFrame]:
        yield frame()
        raise error("the warehouse is closed")

    with pytest.raises(MapboxTaskError, match="the warehouse is closed") as failed, airflow_errors():
        export_source(frames, format, name="points").open().read()
    assert isinstance(failed.value, AirflowFailException) != retried


def test_a_function_that_returns_nothing_is_named() -> None:
    def forgetful() -> None:
        frame()

    with pytest.raises(ExportError, match=r"forgetful\(\) as GeoJSON: the function returned nothing"):
        export_source(forgetful, "geojson", name="points").open().read()  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["geojson", "mbtiles", "auto"])
class TestEveryFormat:
    def test_every_format_fails_if_a_frame_is_none(self, format: Any) -> None:
        def days() -> Iterator[geopandas.GeoDataFrame | None]:
            yield frame()
            yield None  # a day without data
            yield frame()

        source = export_source(days, format, name="days")  # type: ignore[arg-type]

        with pytest.raises(UnreadableSourceError, match="Item 1 of the source is None"), source.open() as stream:
            stream.read()

    def test_every_format_takes_a_box_as_json_and_xcoms_have_it(self, tmp_path: Path, format: Any) -> None:
        frame().to_file(tmp_path / "x.gpkg")
        for box in ([0.05, 0.0, 0.25, 1.0], frame()[1:3].total_bounds):
            source = export_source(tmp_path / "x.gpkg", format, {"bbox": box}, name="x")
            with source.open() as stream:
                assert stream.read()
            assert source.facts["features"] == 2

    def test_every_format_clips_what_reaches_beyond_the_map(self, format: Any) -> None:
        area = geopandas.GeoDataFrame(geometry=[shapely.box(0, -90, 1, 0)], crs=4326)

        with export_source(area, format, name="x").open() as stream:
            assert stream.read()
