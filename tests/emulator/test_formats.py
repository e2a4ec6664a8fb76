"""The formats besides GeoJSON: what comes out of each, and what each is refused for."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely

from airflow_mapbox.emulator import mbtiles, mbtilescheck, sniff
from airflow_mapbox.emulator.errors import DataError
from airflow_mapbox.emulator.jsonstream import JsonError, JsonReader
from airflow_mapbox.emulator.vectortile import check_vector_tile
from tests.emulator.conftest import TOWNS, Account, points


def layers_of(account: Account) -> dict[str, set[str]]:
    """Layers of the published tileset and their fields."""
    return {layer["id"]: set(layer["fields"]) for layer in account.tileset().json()["vector_layers"]}


def bounds_of(account: Account) -> list[float]:
    return list(account.tileset().json()["bounds"])


class TestCsv:
    @pytest.mark.parametrize(
        "header", ["name,lon,lat", "name,Longitude,Latitude", "name,x,y", "name,lng,lat", "name,long,LAT"]
    )
    def test_points_are_read_by_their_columns_names(self, acme: Account, header: str) -> None:
        done = acme.upload(f"{header}\nBerlin,13.4,52.5\nParis,2.35,48.85\n".encode(), name="My towns")

        assert done["error"] is None
        assert layers_of(acme) == {"My_towns": {"name"}}

    def test_geometries_are_read_from_wkt_and_geojson(self, acme: Account) -> None:
        assert acme.upload(b'wkt,n\n"LINESTRING (1 1, 2 2)",1\n')["error"] is None
        assert acme.upload(b'n,geojson\n1,"{""type"":""Point"",""coordinates"":[1,2]}"\n')["error"] is None

    def test_rows_that_do_not_parse_are_dropped_without_a_word(self, acme: Account) -> None:
        done = acme.upload(b"lon,lat,n\n1,2,1\nx,y,2\n3\n,,\nnan,1,3\n\n")

        assert done["error"] is None

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (
                b"a,b\n1,2\n",
                "Invalid CSV. Cannot detect column(s) with the name(s) of wkt, geojson, x/y, or latitude/longitude.",
            ),
            (b"lon,lat\n", "CSV file does not contain any features"),
            (b"lon,lat\nx,y\n", "CSV file does not contain any features"),
            (
                b"lon,lat\n200,1\n",
                "Coordinates beyond web mercator range. Please check projection and lat/lon values.",
            ),
        ],
    )
    def test_a_csv_without_positions_fails(self, shared: Account, data: bytes, message: str) -> None:
        assert shared.upload(data)["error"] == message


def shapefile(folder: Path, *, crs: str = "EPSG:3857", drop: tuple[str, ...] = (), under: str = "") -> bytes:
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.box(1, 1, 2, 2)], crs="EPSG:4326").to_crs(crs)
    frame.to_file(folder / "Parcels.shp")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as files:
        for file in sorted(folder.glob("Parcels.*")):
            if file.suffix not in drop:
                files.write(file, under + file.name)
    return packed.getvalue()


class TestShapefile:
    @pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:4326", "EPSG:32631"])
    def test_a_shapefile_is_brought_to_longitude_and_latitude(self, acme: Account, tmp_path: Path, crs: str) -> None:
        done = acme.upload(shapefile(tmp_path, crs=crs))

        assert done["error"] is None
        assert layers_of(acme) == {"Parcels": {"n"}}
        assert bounds_of(acme) == pytest.approx([1, 1, 2, 2], abs=0.1)

    def test_a_shapefile_is_found_in_a_folder_of_the_zip(self, acme: Account, tmp_path: Path) -> None:
        assert acme.upload(shapefile(tmp_path, under="../../a folder/"))["error"] is None

    @pytest.mark.parametrize(
        ("missing", "message"),
        [
            (".prj", "Invalid shapefile: missing projection file"),
            (".shp", "Failed to find a shapefile in your zip"),
            (".dbf", "Failed to find a shapefile in your zip"),
            (".shx", "Failed to find a shapefile in your zip"),
        ],
    )
    def test_a_missing_part_fails(self, shared: Account, tmp_path: Path, missing: str, message: str) -> None:
        assert shared.upload(shapefile(tmp_path, drop=(missing,)))["error"] == message

    def test_coordinates_outside_of_their_projection_fail(self, shared: Account, tmp_path: Path) -> None:
        frame = geopandas.GeoDataFrame(geometry=[shapely.Point(1e12, 1e12)], crs="EPSG:32631")
        frame.to_file(tmp_path / "Nowhere.shp")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as files:
            for file in tmp_path.glob("Nowhere.*"):
                files.write(file, file.name)

        assert (
            shared.upload(packed.getvalue())["error"]
            == "Unable to reproject data. Coordinates are outside of the projection's area."
        )

    def test_an_invalid_projection_fails(self, shared: Account, tmp_path: Path) -> None:
        packed = io.BytesIO(shapefile(tmp_path, drop=(".prj",)))
        with zipfile.ZipFile(packed, "a") as files:
            files.writestr("Parcels.prj", "nonsense")

        assert shared.upload(packed.getvalue())["error"] == "Invalid shapefile: invalid projection file"


KML = '<?xml version="1.0"?><!-- a comment --><kml xmlns="http://www.opengis.net/kml/2.2"><Document>{}</Document></kml>'
PLACE = "<Placemark><name>a</name><Point><coordinates>1,2,3</coordinates></Point></Placemark>"


def folder(name: str, content: str = PLACE) -> str:
    return f"<Folder><name>{name}</name>{content}</Folder>"


class TestKml:
    def test_each_folder_is_a_layer(self, acme: Account) -> None:
        assert acme.upload(KML.format(folder("One") + folder("Two")).encode())["error"] is None
        assert list(layers_of(acme)) == ["One", "Two"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "KML does not contain any layers."),
            ("".join(folder(f"f{n}") for n in range(16)), "16 layers found. Maximum of 15 layers allowed."),
            (folder("One") + folder("One"), "Duplicate layer names: One"),
            (folder("One", "<Placemark><name>a</name></Placemark>"), "KML does not contain any valid features"),
        ],
    )
    def test_invalid_files_are_refused_in_mapboxs_words(self, shared: Account, content: str, message: str) -> None:
        assert shared.upload(KML.format(content).encode())["error"] == message


GPX = '<gpx version="1.1" creator="t" xmlns="http://www.topografix.com/GPX/1/1">{}</gpx>'


class TestGpx:
    def test_waypoints_and_tracks_are_layers(self, acme: Account) -> None:
        track = '<trk><trkseg><trkpt lat="1" lon="1"/><trkpt lat="2" lon="2"/></trkseg></trk>'

        assert acme.upload(GPX.format('<wpt lat="1" lon="2"/>' + track).encode())["error"] is None
        assert set(layers_of(acme)) == {"waypoints", "tracks"}

    def test_gpx_without_features_fails(self, shared: Account) -> None:
        assert shared.upload(GPX.format("").encode())["error"] == "GPX does not contain any valid features."


@pytest.mark.parametrize(
    "data",
    [
        b'<OGRVRTDataSource><!-- <kml> --><OGRVRTLayer name="x"><SrcDataSource>/etc/passwd</SrcDataSource>'
        b"</OGRVRTLayer></OGRVRTDataSource>",
        b"<html><body>not found</body></html>",
        b"PK\x03\x04 and then nothing of a zip",
    ],
)
def test_formats_that_gdal_knows_and_mapbox_does_not_are_unknown(shared: Account, data: bytes) -> None:
    assert shared.upload(data)["error"] == "Unknown filetype"


@pytest.fixture(scope="module")
def made(shared: Account) -> Path:
    """A good MBTiles file."""
    shared.upload(points((1, 1), (100, 50)), "made")
    return shared.emulator.folder / "tilesets" / "acme.made.mbtiles"


@pytest.fixture
def changed(made: Path, tmp_path: Path) -> Callable[..., bytes]:
    """Bytes of a good MBTiles file after some SQL."""

    def change(*statements: str | tuple[str, tuple[Any, ...]]) -> bytes:
        file = tmp_path / "changed.mbtiles"
        shutil.copy(made, file)
        with sqlite3.connect(file) as db:
            for statement in statements:
                sql, values = (statement, ()) if isinstance(statement, str) else statement
                db.execute(sql, values)
        db.close()
        return file.read_bytes()

    return change


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_csv_may_be_separated_by_each_of_four(acme: Account, separator: str) -> None:
    table = "\nname,start_longitude,start_latitude\nBerlin,13.4,52.5\n".replace(",", separator)

    assert acme.upload(table.encode())["error"] is None
    assert set(acme.tileset().json()["vector_layers"][0]["fields"]) == {"name"}


class TestMbtiles:
    def test_mbtiles_are_published_unchanged(self, shared: Account, changed: Callable[..., bytes]) -> None:
        data = changed()
        done = shared.upload(data, "copied", name="Copied")

        assert done["error"] is None
        assert (shared.emulator.folder / "tilesets" / "acme.copied.mbtiles").read_bytes() == data
        assert shared.tileset("copied").json()["name"] == "Copied"

    @pytest.mark.parametrize(
        ("sql", "message"),
        [
            ("DELETE FROM metadata WHERE name = 'json'", 'Vector source must include "vector_layers" key'),
            (
                """UPDATE metadata SET value = '{"vector_layers": {}}' WHERE name = 'json'""",
                "vector_layers must be an array of layer objects",
            ),
            (
                """UPDATE metadata SET value = '{"vector_layers": [{"id": "a"}, {"id": "a"}]}' WHERE name = 'json'""",
                'Vector source "vector_layers" contains duplicate ID: a',
            ),
            (
                "UPDATE metadata SET value = 4 WHERE name = 'maxzoom'",
                "In mbtiles file, metadata.maxzoom (4) is higher than actual tiles maxzoom (0)",
            ),
            (
                "UPDATE metadata SET value = '-400,0,0,0' WHERE name = 'bounds'",
                "bounds west value must be between -360 and 360",
            ),
            (
                "UPDATE metadata SET value = '0,0,361,0' WHERE name = 'bounds'",
                "bounds east value must be between -360 and 360",
            ),
            ("DELETE FROM map", "Tileset is empty."),
            (
                "UPDATE metadata SET value = -1 WHERE name = 'maxzoom'",
                "In mbtiles file, metadata.maxzoom (-1) is lower than actual tiles minzoom (0)",
            ),
            (
                "INSERT INTO metadata VALUES ('fillzoom', 1)",
                "In mbtiles file, metadata.fillzoom (1) is higher than actual tiles maxzoom (0)",
            ),
            ("DROP TABLE metadata", 'Vector source must include "vector_layers" key'),
            ("DROP VIEW tiles", "Tileset is empty."),
            (("INSERT INTO metadata VALUES ('more', ?)", ("x" * 62_000,)), "Metadata exceeds limit of 60kb"),
            (("UPDATE images SET tile_data = ?", (b"nonsense",)), "Unknown format."),
            (("UPDATE images SET tile_data = ?", (b"\x78\x9cnonsense",)), "Tile is invalid"),
            (("UPDATE images SET tile_data = ?", (gzip.compress(b"nonsense"),)), "Tile is invalid"),
            (("UPDATE images SET tile_data = ?", (gzip.compress(b"x")[:-4],)), "Tile is invalid"),
            (("UPDATE images SET tile_data = ?", (b"",)), "Tile is invalid"),
            (
                ("UPDATE images SET tile_data = ?", (b"\x1f\x8b" + bytes(511_999),)),
                "Tile exceeds maximum size of 500k at z0. Reduce the detail or increase the zoom.",
            ),
        ],
    )
    def test_invalid_files_are_refused_in_mapboxs_words(
        self, shared: Account, changed: Callable[..., bytes], sql: Any, message: str
    ) -> None:
        failed = shared.upload(changed(sql), "refused")

        assert failed["error"] == message
        assert shared.tileset("refused").status_code == 404

    @pytest.mark.parametrize(
        "statements",
        [
            ["DELETE FROM metadata WHERE name = 'format'"],
            ["UPDATE metadata SET value = 'gif' WHERE name = 'format'"],
            ["UPDATE metadata SET value = 'png' WHERE name = 'format'"],
            ["DELETE FROM metadata WHERE name IN ('format', 'minzoom', 'maxzoom', 'bounds', 'center')"],
            ["UPDATE metadata SET value = 9 WHERE name = 'maxzoom'", "INSERT INTO metadata VALUES ('fillzoom', 0)"],
            ["UPDATE metadata SET value = 5 WHERE name = 'minzoom'"],
        ],
    )
    def test_optional_metadata_may_be_missing_or_wrong(
        self, shared: Account, changed: Callable[..., bytes], statements: list[str]
    ) -> None:
        done = shared.upload(changed(*statements), "taken")

        assert done["error"] is None
        assert shared.tileset("taken").json()["format"] == "pbf"

    @pytest.mark.parametrize(
        ("tile", "kind"),
        [(b"\x89PNG\r\n", "png"), (b"\xff\xd8\xff", "jpg"), (b"RIFF\x8e\xf4\x00\x00WEBP", "webp")],
    )
    def test_images_are_known_by_their_first_bytes(
        self, shared: Account, changed: Callable[..., bytes], tile: bytes, kind: str
    ) -> None:
        data = changed(("UPDATE images SET tile_data = ?", (tile,)), "DELETE FROM metadata WHERE name <> 'name'")

        assert shared.upload(data, "images")["error"] is None
        assert shared.tileset("images").json()["format"] == kind

    def test_grids_alone_are_a_tileset(self, shared: Account, changed: Callable[..., bytes]) -> None:
        data = changed(
            "DROP VIEW tiles",
            "CREATE TABLE grids (zoom_level, tile_column, tile_row, grid)",
            "INSERT INTO grids VALUES (0, 0, 0, x'00')",
        )

        assert shared.upload(data, "grids")["error"] is None
        assert shared.session.get(f"{shared.emulator.url}/tilesets/acme.grids", timeout=10).status_code == 200


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
TILES_OF = "SELECT 0 AS zoom_level, i AS tile_column, 0 AS tile_row, x'1f8b' AS tile_data FROM n"


class TestEndlessViews:
    """A table of MBTiles may be a view, and a view may never come to its end."""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mbtiles, "QUERY_SECONDS", 0.3)

    @pytest.mark.parametrize(
        ("statements", "message"),
        [
            # Rows without end, and no row without end.
            (["DROP VIEW tiles", f"CREATE VIEW tiles AS {ENDLESS} {TILES_OF}"], None),
            (["DROP VIEW tiles", f"CREATE VIEW tiles AS {ENDLESS} {TILES_OF} WHERE i < 0"], "Processing timed out."),
            (["DROP VIEW tiles", f"CREATE VIEW tiles AS {ENDLESS} {TILES_OF} ORDER BY 1"], "Processing timed out."),
            (["DROP VIEW tiles", f"CREATE VIEW tiles AS {ENDLESS} {TILES_OF} WHERE i = 1"], "Processing timed out."),
            ([f"CREATE VIEW grids AS {ENDLESS} SELECT i AS zoom_level FROM n"], None),
            (
                ["DROP TABLE metadata", f"CREATE VIEW metadata AS {ENDLESS} SELECT i AS name, i AS value FROM n"],
                "Metadata exceeds limit of 60kb",
            ),
            (
                ["DROP TABLE metadata", f"CREATE VIEW metadata AS {ENDLESS} SELECT '' AS name, '' AS value FROM n"],
                "Metadata exceeds limit of 60kb",
            ),
            (
                [
                    "DROP TABLE metadata",
                    f"CREATE VIEW metadata AS {ENDLESS} SELECT 1 AS name, 2 AS value FROM n WHERE i < 0",
                ],
                "Processing timed out.",
            ),
            (
                ["DROP VIEW tiles", "CREATE VIEW tiles AS SELECT 0 AS zoom_level, zeroblob(900000000) AS tile_data"],
                "Unknown format.",
            ),
        ],
    )
    def test_endless_views_hold_up_no_worker(
        self, shared: Account, changed: Callable[..., bytes], statements: list[str], message: str | None
    ) -> None:
        # One more than there are workers.
        uploads = [shared.create(shared.stage(changed(*statements))["url"], f"endless{n}").json() for n in range(3)]

        for upload in uploads:
            error = shared.wait(upload["id"])["error"]
            assert (
                error == message if message else error in ("Processing timed out.", "Tileset exceeds processing limit.")
            )
        assert shared.upload(TOWNS, "after")["error"] is None

    def test_endless_views_that_begin_to_be_endless_once_published_hold_up_no_page(
        self, shared: Account, changed: Callable[..., bytes]
    ) -> None:
        shared.upload(TOWNS, "later")
        published = shared.emulator.folder / "tilesets" / "acme.later.mbtiles"
        published.write_bytes(changed("DROP VIEW tiles", f"CREATE VIEW tiles AS {ENDLESS} {TILES_OF} WHERE i < 0"))

        for path in ("acme.later", "acme.later.json", "acme.later/0/0/0.pbf"):
            answer = shared.session.get(f"{shared.emulator.url}/tilesets/{path}", timeout=10)
            assert answer.status_code in (404, 500)

    def test_a_stop_ends_a_query(self, changed: Callable[..., bytes], tmp_path: Path) -> None:
        class StoppedError(Exception):
            pass

        def tick() -> None:
            raise StoppedError

        file = tmp_path / "endless.mbtiles"
        file.write_bytes(changed("DROP VIEW tiles", f"CREATE VIEW tiles AS {ENDLESS} {TILES_OF} WHERE i < 0"))

        with pytest.raises(StoppedError):
            mbtilescheck.check_mbtiles(file, tick=tick)


def tile_of(commands: list[int], kind: int) -> bytes:
    """A tile with one feature."""

    def message(number: int, content: bytes) -> bytes:
        assert len(content) < 128
        return bytes([number << 3 | 2, len(content)]) + content

    def varint(value: int) -> bytes:
        return (bytes([value & 127 | 128]) + varint(value >> 7)) if value > 127 else bytes([value])

    feature = bytes([3 << 3, kind]) + message(4, b"".join(map(varint, commands)))
    return message(3, message(1, b"places") + message(2, feature) + bytes([15 << 3, 2]))


def command(number: int, count: int) -> int:
    return number | count << 3


POINT, LINE, POLYGON = 1, 2, 3
MOVE, DRAW, CLOSE = 1, 2, 7
TRIANGLE = [command(MOVE, 1), 6, 12, command(DRAW, 2), 10, 12, 24, 44]


class TestGeometriesInTiles:
    @pytest.mark.parametrize(
        ("commands", "kind"),
        [
            ([*TRIANGLE, command(CLOSE, 1)], POLYGON),
            ([*TRIANGLE, command(CLOSE, 1)] * 2, POLYGON),
            ([command(MOVE, 2), 300, 4000, 6, 12], POINT),
            ([command(MOVE, 1), 6, 12, command(DRAW, 1), 10, 300], LINE),
            # No polygon, so the validator does not come to its end.
            ([command(MOVE, 1), 6, 12, command(CLOSE, 2)], LINE),
            ([], POINT),
        ],
    )
    def test_valid_tile_geometries_pass(self, commands: list[int], kind: int) -> None:
        check_vector_tile(tile_of(commands, kind))

    @pytest.mark.parametrize(
        ("commands", "kind", "told"),
        [
            ([*TRIANGLE, command(CLOSE, 2)], POLYGON, "ClosePath command count is not 1"),
            ([*TRIANGLE, command(CLOSE, 0)], POLYGON, "ClosePath command count is not 1"),
            ([*TRIANGLE, command(CLOSE, 1), *TRIANGLE, command(CLOSE, 3)], POLYGON, "ClosePath command count is not 1"),
            ([command(MOVE, 1_000_000), 6, 12], POINT, "Max count too large"),
            ([command(MOVE, 1), 6, 12, command(DRAW, 1_000), 10, 10], LINE, "Max count too large"),
        ],
    )
    def test_invalid_tile_geometries_are_refused_in_the_validators_words(
        self, shared: Account, changed: Callable[..., bytes], commands: list[int], kind: int, told: str
    ) -> None:
        tile = gzip.compress(tile_of(commands, kind))

        failed = shared.upload(changed(("UPDATE images SET tile_data = ?", (tile,))), "refused")

        assert failed["error"] == f"Invalid tile based on the Mapbox Vector Tile spec: {told}"


class TestSize:
    @pytest.mark.parametrize(
        "data", [b"II*\x00", b"MM\x00*\x00\x00\x00", b"SQLite format 3\x00" + b"\x00" * 84, b"PK\x03\x04 but no zip"]
    )
    def test_a_file_that_ends_within_its_header_is_too_small(self, shared: Account, data: bytes) -> None:
        assert shared.upload(data)["error"] == "File too small"

    def test_more_tiles_than_mapbox_processes_are_refused(
        self, shared: Account, changed: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The rule is looked at with a small number; thirty million tiles take an hour to write.
        assert mbtilescheck.TILES == 30_000_000
        monkeypatch.setattr(mbtilescheck, "TILES", 1)

        data = changed("INSERT INTO map SELECT zoom_level, 5, 5, tile_id FROM map")

        assert shared.upload(data, "refused")["error"] == "Tileset exceeds processing limit."

    @pytest.mark.parametrize(
        ("head", "size", "message"),
        [
            (b'{"type": "FeatureCollection"', (1 << 30) + 1, "File is larger than 1 GB. Too big to process."),
            (b"lon,lat\n", (1 << 30) + 1, "File is larger than 1 GB. Too big to process."),
            (b"<kml>", 272_629_761, "File is larger than 260 MB. Too big to process."),
            (b"SQLite format 3\x00", 26_843_545_601, "File is larger than 25 GB. Too big to process."),
            (b"II*\x00", 10_000_000_001, "File is larger than 10 GB. Too big to process."),
        ],
    )
    def test_a_file_above_its_formats_limit_is_refused(
        self, tmp_path: Path, head: bytes, size: int, message: str
    ) -> None:
        file = tmp_path / "data"
        with file.open("wb") as stream:
            stream.write(head.ljust(sniff.HEAD))
            stream.truncate(size)

        with pytest.raises(DataError) as caught:
            sniff.sniff(file)
        assert str(caught.value) == message

        with file.open("r+b") as stream:
            stream.truncate(size - 1)
        assert sniff.sniff(file)


class TestJsonStream:
    @pytest.mark.parametrize("block", [1, 2, 7, 1 << 20])
    def test_json_is_read_the_same_wherever_blocks_end(self, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
        monkeypatch.setattr("airflow_mapbox.emulator.jsonstream.BLOCK", block)
        value = {**TOWNS, "s": 'é "\\ \U0001f600', "n": [-1.5e-7, 12345678, True, None], "e": [], "o": {}}
        text = json.dumps(value, indent=1)

        reader = JsonReader(io.StringIO(text))
        found = {}
        for name in reader.members():
            found[name] = list(reader.elements()) if reader.peek() == "[" else reader.value()

        assert found == value
        assert reader.peek() == ""

    def test_a_fault_is_found_without_reading_on(self) -> None:
        stream = io.StringIO('{"a": [1, 2, nope' + " " * (5 << 20))
        reader = JsonReader(stream)
        members = reader.members()
        next(members)

        with pytest.raises(JsonError):
            reader.value()
        assert stream.tell() < 4 << 20
