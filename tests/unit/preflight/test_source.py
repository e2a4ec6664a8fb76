from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from airflow_mapbox.preflight import check_source, formats
from airflow_mapbox.uploads.errors import ConfigurationError, SourceError

from ..support import Reply, ScriptedServer, all_text_of

POINT = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [13.4, 52.5]}, "properties": {"n": 1}}
CSV = b"lon,lat,name\n13.4,52.5,Berlin\n"
KML = b'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document/></kml>'
GPX = b'<?xml version="1.0"?><gpx version="1.1"></gpx>'
MBTILES = b"SQLite format 3\x00" + bytes(84)


def archive(*names: str) -> bytes:
    """Give a zip of files that hold their own names."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name in names:
            opened.writestr(name, name)
    return packed.getvalue()


ZIP = archive("roads.shp", "roads.dbf", "roads.shx", "roads.prj")
TIFF = b"II*\x00" + bytes(8)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: Any, name: str = "data.geojson") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", **members, "features": list(features)}


def with_geometry(**geometry: Any) -> dict[str, Any]:
    return POINT | {"geometry": geometry}


class Stream:
    """An object of which only the start may be read."""

    def __init__(self, data: bytes, name: str, size: int | None = None, failure: Exception | None = None) -> None:
        self.data, self.name, self.size, self.failure = data, name, size, failure

    def __str__(self) -> str:
        return self.name

    def stat(self) -> Any:
        return SimpleNamespace(st_size=len(self.data) if self.size is None else self.size)

    def open(self, mode: str = "r") -> IO[bytes]:
        if self.failure is None:
            return io.BytesIO(self.data)

        class Broken(io.BytesIO):
            def read(stream, size: int | None = -1) -> bytes:  # noqa: N805
                raise self.failure  # type: ignore[misc]

        return Broken()


class TestFormats:
    @pytest.mark.parametrize(
        ("content", "name", "found"),
        [
            (collection(POINT), "a.geojson", "GeoJSON"),
            (collection(POINT), "a.json", "GeoJSON"),
            (POINT, "a.geojson", "GeoJSON"),
            (POINT["geometry"], "a.geojson", "GeoJSON"),
            (CSV, "a.csv", "CSV"),
            (b"\xef\xbb\xbf" + CSV, "a.csv", "CSV"),
            (b'id,"WKT"\r\n1,"POINT (1 2)"\r\n', "a.csv", "CSV"),
            (b"name,geojson\n", "a.csv", "CSV"),
            (KML, "a.kml", "KML"),
            (GPX, "a.gpx", "GPX"),
            (MBTILES, "a.mbtiles", "MBTiles"),
            (ZIP, "a.zip", "zipped shapefile"),
            (TIFF, "a.tif", "TIFF"),
            (b"MM\x00*" + bytes(8), "a.tiff", "TIFF"),
            (b"II+\x00" + bytes(12), "A.TIF", "TIFF"),
            (collection(POINT), "no ending", "GeoJSON"),
            (MBTILES, "a.dat", "MBTiles"),
        ],
    )
    def test_are_recognised_by_content(self, write: Write, content: Any, name: str, found: str) -> None:
        path = write(content, name)

        report = check_source(path)

        assert (report.format, report.problems, report.ok) == (found, (), True)
        assert (report.description, report.bytes) == (str(path), path.stat().st_size)

    @pytest.mark.parametrize(
        ("content", "name"),
        [(CSV, "a.geojson"), (collection(POINT), "a.csv"), (KML, "a.gpx"), (ZIP, "a.mbtiles"), (b"GIF89a", "a.tif")],
    )
    def test_that_the_ending_does_not_promise_are_a_problem(self, write: Write, content: Any, name: str) -> None:
        report = check_source(write(content, name))

        (problem,) = report.problems
        assert name in problem
        assert "by its name" in problem

    def test_that_are_geopackages_are_a_problem_that_names_the_way_out(self, write: Write, tmp_path: Path) -> None:
        import geopandas

        path = tmp_path / "parcels.gpkg"
        geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([7], [50]), crs=4326).to_file(path)

        (problem,) = check_source(path).problems

        assert "is a GeoPackage" in problem
        assert "write_geojson" in problem

    def test_that_are_bare_shapefiles_are_a_problem(self, write: Write) -> None:
        (problem,) = check_source(write(b"\x00\x00\x27\x0a" + bytes(96), "roads.shp")).problems

        assert "send one .zip" in problem

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"PK\x03\x04garbage", "no zip archive"),
            (archive("readme.txt"), "holds no shapefile"),
            (archive("roads.shp", "roads.dbf"), "lacks .shx, .prj beside roads.shp"),
            (archive("a/roads.shp", "b/roads.dbf", "a/roads.shx", "a/roads.prj"), "lacks .dbf beside a/roads.shp"),
        ],
    )
    def test_of_archives_that_mapbox_would_refuse_are_a_problem(self, write: Write, content: bytes, told: str) -> None:
        (problem,) = check_source(write(content, "roads.zip")).problems

        assert told in problem

    @pytest.mark.parametrize(
        "header", ["id, lon, lat", '"x","y"', "start_longitude,start_latitude", "name,the_geom", "WKT"]
    )
    def test_of_csv_with_any_column_that_mapbox_detects_pass(self, write: Write, header: str) -> None:
        assert check_source(write(f"{header}\n1,2,3\n".encode(), "a.csv")).ok

    @pytest.mark.parametrize("header", ["lon", "id,lat", "a,b"])
    def test_of_csv_without_both_coordinates_are_a_problem(self, write: Write, header: str) -> None:
        assert not check_source(write(f"{header}\n1,2,3\n".encode(), "a.csv")).ok

    def test_of_geojson_with_a_byte_order_mark_pass(self, write: Write) -> None:
        assert check_source(write(b"\xef\xbb\xbf" + json.dumps(collection(POINT)).encode(), "a.geojson")).ok

    def test_of_geojson_without_any_geometry_are_a_problem(self, write: Write) -> None:
        (problem,) = check_source(write(collection({**POINT, "geometry": None}), "a.geojson")).problems

        assert "no geometry in any of them" in problem

    @pytest.mark.parametrize("content", [b"GIF89a", b"hello", b"a,b\n1,2\n", b"<html></html>", b"\x00" * 50, b"   \n"])
    def test_that_mapbox_does_not_take_are_a_problem(self, write: Write, content: bytes) -> None:
        (problem,) = check_source(write(content, "data.bin")).problems

        assert "no format that Mapbox takes" in problem
        assert "data.bin" in problem

    @pytest.mark.parametrize("name", ["a.geojson", "a.csv", "a.geojson.gz"])
    def test_that_are_compressed_are_a_problem(self, write: Write, name: str) -> None:
        import gzip

        (problem,) = check_source(write(gzip.compress(CSV), name)).problems

        assert "gzip" in problem

    @pytest.mark.parametrize("name", ["a.geojson", "a.csv", "a"])
    def test_of_empty_files_are_a_problem(self, write: Write, name: str) -> None:
        report = check_source(write(b"", name))

        assert "is empty (0 bytes)" in report.problems[0]
        assert report.bytes == 0


class TestSizes:
    @pytest.mark.parametrize(
        ("known", "start", "name"),
        [
            (formats.GEOJSON, json.dumps(collection(POINT)).encode(), "a.geojson"),
            (formats.CSV, CSV, "a.csv"),
            (formats.KML, KML, "a.kml"),
            (formats.GPX, GPX, "a.gpx"),
            (formats.MBTILES, MBTILES, "a.mbtiles"),
            (formats.TIFF, TIFF, "a.tif"),
        ],
    )
    def test_up_to_the_limit_pass_and_one_byte_more_is_a_problem(
        self, write: Write, known: formats.Format, start: bytes, name: str
    ) -> None:
        path = write(start, name)
        _grow(path, known.limit)
        assert check_source(path).ok

        _grow(path, known.limit + 1)
        (problem,) = check_source(path).problems

        assert f"{known.limit:,}" in problem
        assert f"{known.limit + 1:,}" in problem

    def test_the_limits_are_those_of_the_contract(self) -> None:
        assert {known.name: known.limit for known in formats.FORMATS} == {
            "GeoJSON": 1_073_741_824,
            "CSV": 1_073_741_824,
            "KML": 272_629_760,
            "GPX": 272_629_760,
            "zipped shapefile": 272_629_760,
            "MBTiles": 26_843_545_600,
            "TIFF": 10_000_000_000,
        }


class TestGeoJson:
    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b'{"type": "FeatureCollection", "features": [', "not JSON"),
            (b'{"type":"FeatureCollection","features":[]}\n{"type":"Feature"}', "not JSON"),
            (b'{"a": NaN}', "not JSON"),
            (b"{" + b'"a":{' * 3000, "not JSON"),
            (b'{"a": "\xff"}', "not JSON"),
            ({"type": "Topology", "data": 1}, "not GeoJSON"),
            ({"features": []}, "not GeoJSON"),
            ({"type": ["Feature"]}, "not GeoJSON"),
            (collection(), "no features"),
            ({"type": "FeatureCollection"}, "`features` is no array"),
            ({"type": "FeatureCollection", "features": {}}, "`features` is no array"),
            (collection(POINT, 7), "int as feature 1"),
            (collection(POINT, None), "NoneType as feature 1"),
            (collection(POINT, POINT["geometry"]), "feature 1"),
            (collection(POINT, {"type": "FeatureCollection", "features": []}), "feature 1"),
            (collection(POINT, with_geometry(type="Circle", coordinates=[0, 0])), "feature 1"),
            (collection(POINT, POINT | {"geometry": [1, 2]}), "feature 1"),
            (collection(POINT, with_geometry(type="Point")), "feature 1"),
            (collection(POINT, with_geometry(type="Point", coordinates="1,2")), "feature 1"),
            (collection(POINT, with_geometry(type="Point", coordinates=7)), "feature 1"),
            (collection(POINT, with_geometry(type="Point", coordinates=[1])), "feature 1"),
            (collection(POINT, with_geometry(type="Point", coordinates=["1", "2"])), "feature 1"),
            (collection(POINT, with_geometry(type="Point", coordinates=[1, None])), "feature 1"),
            (collection(POINT, with_geometry(type="LineString", coordinates=[[1, 2], 3])), "feature 1"),
            (collection(POINT, with_geometry(type="LineString", coordinates=[[1, 2], None])), "feature 1"),
        ],
    )
    def test_that_is_unsound_is_a_problem_that_names_the_file_and_the_place(
        self, write: Write, content: Any, why: str
    ) -> None:
        (problem,) = check_source(write(content)).problems

        assert problem.startswith(str(write(content)))
        assert why in problem

    @pytest.mark.parametrize(
        "geometry",
        [
            {"type": "Point", "coordinates": [180, 85.0511]},
            {"type": "Point", "coordinates": [-180.0, -85.0511, 8848]},
            {"type": "Point", "coordinates": []},
            {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [1, 1], [0, 0]]]]},
            {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [0, 0]}]},
            {"type": "GeometryCollection", "geometries": []},
            None,
        ],
    )
    def test_that_is_sound_passes(self, write: Write, geometry: Any) -> None:
        assert check_source(write(collection(POINT, POINT | {"geometry": geometry}))).problems == ()

    @pytest.mark.parametrize(
        "coordinates", [[500_000, 4_649_776], [180.0001, 0], [0, 85.06], [-1e300, 0], [52, 100], [10**30, 0]]
    )
    def test_projected_coordinates_without_a_crs_are_a_problem_that_names_the_feature(
        self, write: Write, coordinates: list[float]
    ) -> None:
        line = with_geometry(type="LineString", coordinates=[[0, 0], coordinates])

        (problem,) = check_source(write(collection(POINT, POINT, line, line))).problems

        assert "feature 2" in problem
        assert "another reference system" in problem
        assert "write_geojson" in problem

    def test_coordinates_deep_in_a_collection_are_looked_at(self, write: Write) -> None:
        inner = {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [0, 100]}]}

        (problem,) = check_source(
            write(collection(with_geometry(type="GeometryCollection", geometries=[inner])))
        ).problems

        assert "feature 0" in problem

    @pytest.mark.parametrize("name", ["urn:ogc:def:crs:EPSG::25832", "EPSG:3857", "urn:ogc:def:crs:EPSG:6.9:5070"])
    @pytest.mark.parametrize("at_the_end", [False, True])
    def test_a_crs_member_of_another_system_is_a_problem_that_names_it(
        self, write: Write, name: str, at_the_end: bool
    ) -> None:
        crs = {"type": "name", "properties": {"name": name}}
        document = collection(POINT) | {"crs": crs} if at_the_end else collection(POINT, crs=crs)

        (problem,) = check_source(write(document)).problems

        assert name in problem
        assert "write_geojson" in problem

    @pytest.mark.parametrize(
        "name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "OGC:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"]
    )
    def test_a_crs_member_that_means_longitude_latitude_passes(self, write: Write, name: str) -> None:
        crs = {"type": "name", "properties": {"name": name}}

        assert check_source(write(collection(POINT, crs=crs))).ok

    @pytest.mark.parametrize("crs", [None, "EPSG:3857", {"properties": None}, {"properties": {"name": 5}}, []])
    def test_a_crs_member_that_names_nothing_does_no_harm(self, write: Write, crs: Any) -> None:
        assert check_source(write(collection(POINT, crs=crs))).ok

    @pytest.mark.parametrize("attribute", ["arcs", "objects", "tilejson"])
    def test_an_attribute_at_the_start_that_misleads_mapbox_is_a_problem(self, write: Write, attribute: str) -> None:
        feature = POINT | {"properties": {attribute: 1}}

        (problem,) = check_source(write(collection(feature))).problems
        far_away = check_source(write(collection(feature, name="x" * 400)))

        assert f'"{attribute}":' in problem
        assert far_away.ok

    def test_all_problems_are_in_one_message(self, write: Write) -> None:
        crs = {"type": "name", "properties": {"name": "EPSG:3857"}}
        feature = with_geometry(type="Point", coordinates=[1e6, 6e6]) | {"properties": {"arcs": 1}}

        report = check_source(write(collection(feature, crs=crs), "data.csv"))

        assert len(report.problems) == 4
        with pytest.raises(SourceError, match=r"^Nothing was sent\. ") as caught:
            report.raise_for_problems()
        for words in ("CSV by its name", "EPSG:3857", "1e+06", '"arcs":'):
            assert words in str(caught.value)

    def test_a_file_too_large_under_another_formats_name_has_both_problems(self, write: Write) -> None:
        path = write(KML, "a.geojson")
        _grow(path, formats.KML.limit + 1)

        problems = " ".join(check_source(path).problems)

        assert "by its name" in problems
        assert f"{formats.KML.limit:,}" in problems

    def test_a_file_too_large_to_be_read_whole_is_judged_by_its_head(self, write: Write) -> None:
        path = write(
            b'{"type":"FeatureCollection","crs":{"type":"name","properties":{"name":"EPSG:3857"}},"features":['
        )
        _grow(path, 70 * 2**20)

        (problem,) = check_source(path).problems

        assert "EPSG:3857" in problem

    def test_no_problem_means_nothing_is_raised(self, write: Write) -> None:
        check_source(write(collection(POINT))).raise_for_problems()


class TestStreams:
    def test_are_judged_by_their_start_alone(self) -> None:
        data = json.dumps(collection(POINT)).encode()

        report = check_source(Stream(data[:-5] + b" " * 100_000, "s3://bucket/x.geojson"))

        assert report.ok
        assert report.bytes == len(data) - 5 + 100_000

    @pytest.mark.parametrize(
        ("data", "size", "why"),
        [
            (b"", None, "empty"),
            (b"\x1f\x8b\x08", None, "gzip"),
            (CSV, None, "by its name"),
            (b'{"type":"FeatureCollection","features":[', 2**31, "1,073,741,824"),
            (json.dumps(collection(POINT | {"properties": {"objects": 1}})).encode(), None, "TopoJSON"),
        ],
    )
    def test_have_the_same_problems(self, data: bytes, size: int | None, why: str) -> None:
        (problem,) = check_source(Stream(data, "s3://bucket/x.geojson", size)).problems

        assert why in problem
        assert "s3://bucket/x.geojson" in problem

    def test_that_cannot_be_read_are_named(self) -> None:
        with pytest.raises(SourceError, match=r"(?s)bucket/x\.geojson.*gone away"):
            check_source(Stream(b"", "s3://bucket/x.geojson", 10, OSError("gone away")))

    def test_from_the_web_are_checked_too(self, server: ScriptedServer) -> None:
        for _ in range(2):
            server.script(Reply(body=json.dumps(collection(POINT)).encode()))

        report = check_source(f"{server.url}/x.geojson?version=2")

        assert report.ok
        assert report.description == f"{server.url}/x.geojson"

    def test_from_the_web_that_turn_out_to_be_a_page_are_a_problem(self, server: ScriptedServer) -> None:
        for _ in range(2):
            server.script(Reply(body=b"<html>Sign in</html>"))

        (problem,) = check_source(f"{server.url}/x.geojson").problems

        assert "<html>" in problem

    @pytest.mark.parametrize("fault", ["drop", "half"])
    def test_from_the_web_that_break_off_are_an_error_that_names_them(self, server: ScriptedServer, fault: str) -> None:
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
    def test_in_a_source_are_refused_without_being_shown(self, source: str, form: Any) -> None:
        with pytest.raises(ConfigurationError, match="password or a signature") as caught:
            check_source(form(source))

        assert "c4nary" not in all_text_of(caught.value)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"missing\.geojson does not exist"):
        check_source(tmp_path / "missing.geojson")


def _grow(path: Path, size: int) -> None:
    """Make a file as large as that, in no time and without taking the space."""
    with path.open("ab") as file:
        file.truncate(size)
