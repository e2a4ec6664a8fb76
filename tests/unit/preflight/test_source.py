"""The check of a source: its format, its size, and where its bytes are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.preflight import check_source, formats
from airflow_mapbox.uploads.errors import ConfigurationError, SourceError
from tests.unit.preflight.binaries import tiff
from tests.unit.preflight.support import (
    CSV,
    GPX,
    KML,
    MBTILES,
    POINT,
    ROADS,
    SHP,
    ZIP,
    Stream,
    Write,
    archive,
    as_bytes,
    collection,
)
from tests.unit.support import Reply, ScriptedServer, all_text_of


class TestFormats:
    @pytest.mark.parametrize(
        ("content", "name", "expected"),
        [
            (collection(POINT), "a.geojson", "GeoJSON"),
            (collection(POINT), "a.json", "GeoJSON"),
            (POINT, "a.geojson", "GeoJSON"),
            (POINT["geometry"], "a.geojson", "GeoJSON"),
            (CSV, "a.csv", "CSV"),
            (b"\xef\xbb\xbfid," + CSV.replace(b"\n", b"\n1,", 1), "a.csv", "CSV"),
            (b'id,"WKT"\r\n1,"POINT (1 2)"\r\n', "a.csv", "CSV"),
            (b'name;geojson\na;"{""type"":""Point"",""coordinates"":[1,2]}"\n', "a.csv", "CSV"),
            (KML, "a.kml", "KML"),
            (GPX, "a.gpx", "GPX"),
            (MBTILES, "a.mbtiles", "MBTiles"),
            (ZIP, "a.zip", "zipped shapefile"),
            (tiff(), "a.tif", "TIFF"),
            (tiff(order=">"), "a.tiff", "TIFF"),
            (tiff(big=True), "A.TIF", "TIFF"),
            (collection(POINT), "no extension", "GeoJSON"),
            (MBTILES, "a.dat", "MBTiles"),
        ],
    )
    def test_formats_are_recognised_by_content(self, write: Write, content: Any, name: str, expected: str) -> None:
        path = write(content, name)

        report = check_source(path)

        assert (report.format, report.problems, report.ok) == (expected, (), True)
        assert (report.description, report.bytes) == (str(path), path.stat().st_size)

    @pytest.mark.parametrize(
        ("content", "name"),
        [(CSV, "a.geojson"), (collection(POINT), "a.csv"), (KML, "a.gpx"), (ZIP, "a.mbtiles")],
    )
    def test_formats_that_do_not_match_the_extension_are_a_warning(self, write: Write, content: Any, name: str) -> None:
        report = check_source(write(content, name))

        (warning,) = map(str, report.warnings)
        assert report.ok
        assert name in warning
        assert "by its name" in warning

    def test_an_unknown_format_with_a_known_extension_is_a_problem_that_names_both(self, write: Write) -> None:
        (problem,) = map(str, check_source(write(b"GIF89a", "a.tif")).problems)

        assert "should be TIFF by its name" in problem
        assert "GIF89a" in problem

    def test_geopackages_are_a_problem_with_the_advice_to_export(self, write: Write, tmp_path: Path) -> None:
        import geopandas

        path = tmp_path / "parcels.gpkg"
        geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([7], [50]), crs=4326).to_file(path)

        (problem,) = map(str, check_source(path).problems)

        assert "is a GeoPackage" in problem
        assert check_source(path).format is None, "it begins as MBTiles do"
        assert "write_geojson" in problem

    def test_shapefiles_without_a_zip_are_a_problem(self, write: Write) -> None:
        (problem,) = map(str, check_source(write(SHP, "roads.shp")).problems)

        assert "Send one .zip" in problem

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (b"PK\x03\x04garbage", "cannot be read as a zip archive"),
            (archive({"readme.txt": b"x"}), "contains no shapefile"),
            (archive({"roads.shp": SHP, "roads.dbf": b""}), "lacks .shx beside roads.shp"),
            (
                archive({f"{'b' if name.endswith('dbf') else 'a'}/{name}": data for name, data in ROADS.items()}),
                "lacks .dbf beside a/roads.shp",
            ),
        ],
    )
    def test_archives_without_a_complete_shapefile_are_a_problem(self, write: Write, content: bytes, what: str) -> None:
        problems = [*map(str, check_source(write(content, "roads.zip")).problems)]

        assert any(what in problem for problem in problems)

    @pytest.mark.parametrize(
        "header", ["lon,lat,id", '"x","y",n', "start_longitude,start_latitude,n", "LAT,LNG,n", '"Long","LAT",""']
    )
    def test_csv_with_columns_that_mapbox_detects_passes(self, write: Write, header: str) -> None:
        assert check_source(write(f"{header}\n1,2,3\n".encode(), "a.csv")).ok

    @pytest.mark.parametrize("header", ["lon", "id,lat", "a,b", "id, lon, lat", "name,the_geom", "\ufefflon,lat"])
    def test_csv_without_both_coordinates_is_a_problem(self, write: Write, header: str) -> None:
        assert not check_source(write(f"{header}\n1,2,3\n".encode(), "a.csv")).ok

    def test_geojson_with_a_byte_order_mark_passes(self, write: Write) -> None:
        assert check_source(write(b"\xef\xbb\xbf" + json.dumps(collection(POINT)).encode(), "a.geojson")).ok

    def test_geojson_without_any_geometry_is_a_problem(self, write: Write) -> None:
        (problem,) = map(str, check_source(write(collection({**POINT, "geometry": None}), "a.geojson")).problems)

        assert "no geometry in any of them" in problem

    @pytest.mark.parametrize("content", [b"GIF89a", b"hello", b"a,b\n1,2\n", b"<html></html>", b"\x00" * 50, b"   \n"])
    def test_formats_that_mapbox_does_not_accept_are_a_problem(self, write: Write, content: bytes) -> None:
        (problem,) = map(str, check_source(write(content, "data.bin")).problems)

        assert "not a format that Mapbox accepts" in problem
        assert "data.bin" in problem

    @pytest.mark.parametrize("name", ["a.geojson", "a.csv", "a.geojson.gz"])
    def test_compressed_files_are_a_problem(self, write: Write, name: str) -> None:
        import gzip

        (problem,) = map(str, check_source(write(gzip.compress(CSV), name)).problems)

        assert "gzip" in problem

    @pytest.mark.parametrize("name", ["a.geojson", "a.csv", "a"])
    def test_empty_files_are_a_problem(self, write: Write, name: str) -> None:
        report = check_source(write(b"", name))

        assert "is empty (0 bytes)" in str(report.problems[0])
        assert report.bytes == 0


class TestSizes:
    @pytest.mark.parametrize(
        ("file_format", "start", "name"),
        [
            (formats.GEOJSON, as_bytes(collection(POINT)), "a.geojson"),
            (formats.CSV, CSV, "a.csv"),
            (formats.KML, KML, "a.kml"),
            (formats.GPX, GPX, "a.gpx"),
            (formats.MBTILES, MBTILES, "a.mbtiles"),
            (formats.TIFF, tiff(), "a.tif"),
        ],
    )
    def test_sizes_up_to_the_limit_pass_and_one_byte_more_is_a_problem(
        self, file_format: formats.Format, start: bytes, name: str
    ) -> None:
        assert check_source(Stream(start, name, file_format.limit)).ok

        (problem,) = map(str, check_source(Stream(start, name, file_format.limit + 1)).problems)

        assert f"{file_format.limit:,}" in problem
        assert f"{file_format.limit + 1:,}" in problem

    def test_sizes_of_local_files_are_checked(self, write: Write) -> None:
        path = write(MBTILES, "a.mbtiles")
        _grow(path, formats.MBTILES.limit + 1)

        (problem,) = map(str, check_source(path).problems)

        assert f"{formats.MBTILES.limit:,}" in problem

    def test_size_limits_are_those_of_the_uploads_api(self) -> None:
        assert {file_format.name: file_format.limit for file_format in formats.FORMATS} == {
            "GeoJSON": 1_073_741_824,
            "CSV": 1_073_741_824,
            "KML": 272_629_760,
            "GPX": 272_629_760,
            "zipped shapefile": 272_629_760,
            "MBTiles": 26_843_545_600,
            "TIFF": 10_000_000_000,
        }


class TestStreams:
    def test_streams_are_checked_at_their_start_only(self) -> None:
        data = json.dumps(collection(POINT)).encode()

        report = check_source(Stream(data[:-5] + b" " * 100_000, "s3://bucket/x.geojson"))

        assert report.ok
        assert report.bytes == len(data) - 5 + 100_000

    @pytest.mark.parametrize(
        ("data", "size", "why"),
        [
            (b"", None, "empty"),
            (b"\x1f\x8b\x08", None, "gzip"),
            (b'{"type":"FeatureCollection","features":[', 2**31, "1,073,741,824"),
            (json.dumps(collection(POINT | {"properties": {"objects": 1}})).encode(), None, "TopoJSON"),
        ],
    )
    def test_streams_have_the_same_problems_as_files(self, data: bytes, size: int | None, why: str) -> None:
        (problem,) = map(str, check_source(Stream(data, "s3://bucket/x.geojson", size)).problems)

        assert why in problem
        assert problem.startswith("x.geojson ")

    def test_streams_that_cannot_be_read_raise_an_error_with_their_url(self) -> None:
        with pytest.raises(SourceError, match=r"(?s)bucket/x\.geojson.*gone away"):
            check_source(Stream(b"", "s3://bucket/x.geojson", 10, OSError("gone away")))

    def test_streams_from_the_web_are_checked(self, server: ScriptedServer) -> None:
        for _ in range(2):
            server.script(Reply(body=json.dumps(collection(POINT)).encode()))

        report = check_source(f"{server.url}/x.geojson?version=2")

        assert report.ok
        assert report.description == f"{server.url}/x.geojson"

    def test_streams_from_the_web_that_are_an_html_page_are_a_problem(self, server: ScriptedServer) -> None:
        for _ in range(2):
            server.script(Reply(body=b"<html>Sign in</html>"))

        (problem,) = map(str, check_source(f"{server.url}/x.geojson").problems)

        assert "<html>" in problem

    @pytest.mark.parametrize(
        "body",
        [
            {"message": "Not Found"},
            {"error": {"code": 498, "message": "Invalid token"}, "type": "error"},
            {"type": "FeatureCollection", "error": "quota"},
            [{"errorCode": "INVALID_SESSION_ID"}],
        ],
    )
    @pytest.mark.parametrize("name", ["x.geojson", "x.csv", "x"])
    def test_streams_from_the_web_that_are_an_error_in_json_are_a_problem(
        self, server: ScriptedServer, body: Any, name: str
    ) -> None:
        for _ in range(2):
            server.script(Reply(body=json.dumps(body).encode()))

        problems = [*map(str, check_source(f"{server.url}/{name}").problems)]

        assert problems
        assert all(problem.startswith(f"{name} ") for problem in problems)

    @pytest.mark.parametrize("fault", ["drop", "half"])
    def test_streams_from_the_web_that_break_off_raise_an_error_with_their_name(
        self, server: ScriptedServer, fault: str
    ) -> None:
        server.script(Reply(body=CSV, fault=fault))

        with pytest.raises(SourceError, match=r"x\.csv"):
            check_source(f"{server.url}/x.csv")


class TestSecrets:
    @pytest.mark.parametrize(
        "source",
        [
            "https://user:c4nary@example.com/x.geojson",
            "https://b.s3.amazonaws.com/x.geojson?X-Amz-Signature=c4nary",
            "https://a.blob.core.windows.net/c/x.geojson?sig=c4nary",
            "https://storage.googleapis.com/b/x.geojson?X-Goog-Signature=c4nary",
        ],
    )
    @pytest.mark.parametrize("form", [str, Path, lambda text: Stream(CSV, text)])
    def test_secrets_in_a_source_are_refused_and_not_shown(self, source: str, form: Any) -> None:
        with pytest.raises(ConfigurationError, match="password, a key or a signature") as caught:
            check_source(form(source))

        assert "c4nary" not in all_text_of(caught.value)


def test_a_missing_file_raises_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"missing\.geojson does not exist"):
        check_source(tmp_path / "missing.geojson")


def _grow(path: Path, size: int) -> None:
    """Set a file's size without writing: the file is sparse and takes no space."""
    with path.open("ab") as file:
        file.truncate(size)
