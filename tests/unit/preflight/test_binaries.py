"""Zips, MBTiles, TIFF, KML and GPX: their headers, checksums and ends are checked."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import geopandas
import pytest
import shapely

from airflow_mapbox.preflight import check_source
from tests.unit.preflight.support import (
    GPX,
    KML,
    MBTILES,
    ROADS,
    SHP,
    TIFF,
    WGS84,
    ZIP,
    Stream,
    Write,
    archive,
    database,
)


def _with_flag(data: bytes, flag: int) -> bytes:
    """Set a flag in both headers of each file in a zip."""
    changed = bytearray(data)
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = changed.find(magic)
        while start >= 0:
            changed[start + at] |= flag
            start = changed.find(magic, start + 4)
    return bytes(changed)


def _flipped(members: dict[str, Any], byte: bytes) -> bytes:
    """Return an uncompressed zip with one flipped bit at the given bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    data = packed.getvalue()
    at = data.index(byte)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class TestZips:
    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (archive(ROADS | {"roads.prj": ""}), "roads.prj, which is empty"),
            (archive(ROADS | {"roads.prj": " \n"}), "roads.prj, which is empty"),
            (archive(ROADS | {"roads.prj": "EPSG:4326"}), "is not WKT of a reference system"),
            (archive(ROADS | {"roads.prj": "<html>404</html>"}), "is not WKT of a reference system"),
            (archive(ROADS | {"roads.prj": b"\x00\xff\x00"}), "is not WKT of a reference system"),
            (archive(ROADS | {"roads.prj": 'GEOGCS["x"'}), "is not WKT of a reference system"),
            (archive(ROADS | {"roads.shp": b"hello"}), "does not begin like a shapefile"),
            (archive(ROADS | {"roads.shp": b""}), "does not begin like a shapefile"),
            (archive(ROADS | {"roads.shp": bytes(100)}), "does not begin like a shapefile"),
            (archive(ROADS | {"roads.shp": SHP[:28] + bytes(72)}), "does not begin like a shapefile"),
            (
                archive(ROADS | {"roads.shp": SHP[:24] + (5000).to_bytes(4, "big") + SHP[28:]}),
                "100 of the 10,000 bytes",
            ),
            (ZIP[: len(ZIP) // 2], "cut off"),
            (ZIP[:-10], "cut off"),
            (_flipped(ROADS | {"roads.dbf": b"some attributes"}, b"attributes"), "wrong checksum"),
            (_flipped(ROADS, b"Greenwich"), "wrong checksum"),
            (archive({"doc.kml": KML}), "contains no shapefile"),
        ],
    )
    def test_zips_that_mapbox_would_refuse_are_a_problem(self, write: Write, content: bytes, why: str) -> None:
        (problem,) = check_source(write(content, "roads.zip")).problems

        assert why in problem

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_zips_with_a_rare_compression_are_a_problem(self, write: Write, method: int) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as opened:
            for name, content in ROADS.items():
                opened.writestr(name, content)

        assert "Deflate" in check_source(write(packed.getvalue(), "roads.zip")).problems[0]

    @pytest.mark.parametrize("folder", ["../", "/", "a/../../", "C:\\"])
    def test_zips_with_paths_outside_of_their_folder_are_a_problem(self, write: Write, folder: str) -> None:
        members = {f"{folder}{name}": data for name, data in ROADS.items()}

        (problem,) = check_source(write(archive(members), "roads.zip")).problems

        assert "outside of its folder" in problem

    def test_zips_with_a_colon_in_a_name_pass(self, write: Write) -> None:
        assert check_source(write(archive(ROADS | {"a:b.txt": "x"}), "roads.zip")).ok

    def test_zips_with_a_password_are_a_problem(self, write: Write) -> None:
        problems = check_source(write(_with_flag(ZIP, 1), "roads.zip")).problems

        assert "password" in problems[0]

    @pytest.mark.parametrize(
        "prj",
        [
            WGS84,
            f"\ufeff{WGS84}\r\n",
            geopandas.GeoSeries(crs=25832).crs.to_wkt("WKT1_ESRI"),
            geopandas.GeoSeries(crs=2154).crs.to_wkt(),
            "Projection GEOGRAPHIC\nDatum WGS84\nUnits DD\n",
        ],
    )
    def test_zips_with_any_projection_file_that_gdal_reads_pass(self, write: Write, prj: str) -> None:
        assert check_source(write(archive(ROADS | {"roads.prj": prj}), "roads.zip")).problems == ()

    @pytest.mark.parametrize("folder", ["", "data/", "a/b c/", "a..b/"])
    def test_zips_in_a_folder_pass(self, write: Write, folder: str) -> None:
        members = {f"{folder}{name.upper()}": data for name, data in ROADS.items()} | {"__MACOSX/._ROADS.SHP": b"x"}

        assert check_source(write(archive(members), "roads.zip")).problems == ()

    def test_zips_with_a_file_above_the_limit_are_not_unpacked(self, write: Write) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in (ROADS | {"roads.shx": bytes(272_629_761)}).items():
                opened.writestr(name, content)

        (problem,) = check_source(write(packed.getvalue(), "roads.zip")).problems

        assert "272,629,760" in problem

    def test_zips_written_by_gdal_pass(self, write: Write, tmp_path: Any) -> None:
        frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.Point(7, 50)], crs=25832)
        frame.to_file(tmp_path / "places.shp")
        members = {path.name: path.read_bytes() for path in tmp_path.glob("places.*")}

        assert check_source(write(archive(members), "places.zip")).problems == ()


class TestMbtiles:
    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (database("CREATE TABLE users (name text)"), "without a table of tiles"),
            (database("CREATE TABLE metadata (name text, value text)"), "without a table of tiles"),
            (MBTILES[:-1], "cut off"),
            (MBTILES[: len(MBTILES) // 2], "cut off"),
            (MBTILES[:50], "cut off"),
            (MBTILES[:100] + bytes(len(MBTILES) - 100), "cannot be read"),
        ],
    )
    def test_mbtiles_without_tiles_or_cut_off_are_a_problem(self, write: Write, content: bytes, why: str) -> None:
        (problem,) = check_source(write(content, "a.mbtiles")).problems

        assert why in problem

    @pytest.mark.parametrize(
        "statements",
        [
            ["CREATE TABLE grids (zoom_level)", "CREATE TABLE metadata (name, value)"],
            [
                "CREATE TABLE map (zoom_level, tile_id)",
                "CREATE TABLE images (tile_id, tile_data)",
                "CREATE TABLE Metadata (name, value)",
                "CREATE VIEW Tiles AS SELECT * FROM map JOIN images USING (tile_id)",
            ],
        ],
    )
    def test_mbtiles_with_grids_or_views_pass(self, write: Write, statements: list[str]) -> None:
        assert check_source(write(database(*statements), "a.mbtiles")).problems == ()

    def test_mbtiles_with_changes_in_a_log_file_are_a_problem(self, write: Write) -> None:
        path = write(MBTILES, "a.mbtiles")
        (path.parent / "a.mbtiles-wal").write_bytes(b"")
        assert check_source(path).ok

        (path.parent / "a.mbtiles-wal").write_bytes(b"changes")

        (problem,) = check_source(path).problems
        assert "a.mbtiles-wal" in problem

    def test_mbtiles_without_metadata_are_a_warning(self, write: Write) -> None:
        report = check_source(write(database("CREATE TABLE tiles (zoom_level)"), "a.mbtiles"))

        assert report.ok
        assert "metadata" in report.warnings[0]

    def test_mbtiles_with_an_endless_view_do_not_delay_the_check(self, write: Write) -> None:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS zoom_level FROM n"
        content = database(f"CREATE VIEW tiles AS {endless}", f"CREATE VIEW metadata AS {endless}")

        assert check_source(write(content, "a.mbtiles")).ok

    def test_mbtiles_in_an_object_store_are_checked_by_their_first_bytes(self) -> None:
        assert check_source(Stream(MBTILES, "s3://bucket/a.mbtiles", 10**9)).ok


class TestTiffs:
    @pytest.mark.parametrize(
        "content",
        [
            b"II*\x00",
            b"II*\x00" + bytes(20),
            b"MM\x00*" + (5000).to_bytes(4, "big") + bytes(100),
            b"II+\x00\x08\x00\x00\x00" + (2**40).to_bytes(8, "little") + bytes(100),
        ],
    )
    def test_tiffs_without_a_directory_inside_the_file_are_a_problem(self, write: Write, content: bytes) -> None:
        (problem,) = check_source(write(content, "a.tif")).problems

        assert "TIFF" in problem

    def test_tiffs_with_a_directory_inside_the_file_pass(self, write: Write) -> None:
        assert check_source(write(TIFF, "a.tif")).ok


class TestKmlAndGpx:
    @pytest.mark.parametrize(("content", "name"), [(KML, "a.kml"), (GPX, "a.gpx")])
    def test_kml_and_gpx_that_are_not_closed_are_a_problem(self, write: Write, content: bytes, name: str) -> None:
        large = content[: content.index(b"?>") + 2] + content[content.index(b"?>") + 2 :].replace(
            b"</", b"<!--" + b"x" * 100_000 + b"--></"
        )

        assert check_source(write(content + b"\n<!-- made by x -->", name)).ok
        assert check_source(write(large, name)).ok
        assert "cut off" in check_source(write(content[:-5], name)).problems[0]
        assert "cut off" in check_source(write(large[:-50], name)).problems[0]

    def test_kml_in_the_encoding_that_it_declares_passes(self, write: Write) -> None:
        kml = KML.replace(b'"1.0"', b'"1.0" encoding="ISO-8859-1"').replace(b"<Document/>", b"<name>Z\xfcrich</name>")

        assert check_source(write(kml, "a.kml")).ok
        assert not check_source(write(kml.replace(b' encoding="ISO-8859-1"', b""), "a.kml")).ok
