"""The formats other than GeoJSON: their tilesets, and the messages of refusals."""

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
    """Return the fields of each layer of the published tileset."""
    return {layer["id"]: set(layer["fields"]) for layer in account.tileset().json()["vector_layers"]}


def bounds_of(account: Account) -> list[float]:
    return list(account.tileset().json()["bounds"])


class TestCsv:
    @pytest.mark.parametrize(
        "header", ["name,lon,lat", "name,Longitude,Latitude", "name,x,y", "name,lng,lat", "name,long,LAT"]
    )
    def test_points_are_read_from_columns_of_coordinates(self, acme: Account, header: str) -> None:
        done = acme.upload(f"{header}\nBerlin,13.4,52.5\nParis,2.35,48.85\n".encode(), name="My towns")

        assert done["error"] is None
        assert layers_of(acme) == {"My_towns": {"name"}}

    def test_geometries_are_read_from_wkt_and_geojson(self, acme: Account) -> None:
        assert acme.upload(b'wkt,n\n"LINESTRING (1 1, 2 2)",1\n')["error"] is None
        assert acme.upload(b'n,geojson\n1,"{""type"":""Point"",""coordinates"":[1,2]}"\n')["error"] is None

    def test_rows_that_do_not_parse_are_dropped_without_an_error(self, acme: Account) -> None:
        done = acme.upload("lon,lat,n\n1,2,1\nx,y,2\n3\n,,\nnan,1,3\n\n1_0,1,4\n\u0661,1,5\n".encode())

        assert done["error"] is None

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"a,b\n1,2\n", "Unknown filetype"),
            (b"lon, lat\n1,2\n", "Unknown filetype"),
            (b"id,the_geom\n1,POINT (1 2)\n", "Unknown filetype"),
            (b"\xef\xbb\xbflon,lat\n1,2\n", "Unknown filetype"),
            (b"\t".join([b"x" * 30] * 17) + b"\tlon\tlat\n", "Unknown filetype"),
            (b"lon,lat\n", "CSV file does not contain any features"),
            (b"lon,lat\nx,y\n", "CSV file does not contain any features"),
            (
                b"lon,lat\n200,1\n",
                "Coordinates beyond web mercator range. Please check projection and lat/lon values.",
            ),
        ],
        ids=[
            "no columns of coordinates",
            "space before a name",
            "column of another name",
            "byte order mark",
            "columns after 512 bytes",
            "no rows",
            "no valid row",
            "longitude 200",
        ],
    )
    def test_csv_without_valid_coordinates_fails(self, shared: Account, data: bytes, message: str) -> None:
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
    def test_shapefile_is_reprojected_to_longitude_and_latitude(self, acme: Account, tmp_path: Path, crs: str) -> None:
        done = acme.upload(shapefile(tmp_path, crs=crs))

        assert done["error"] is None
        assert layers_of(acme) == {"Parcels": {"n"}}
        assert bounds_of(acme) == pytest.approx([1, 1, 2, 2], abs=0.1)

    def test_shapefile_in_a_folder_of_the_zip_is_read(self, acme: Account, tmp_path: Path) -> None:
        assert acme.upload(shapefile(tmp_path, under="../../a folder/"))["error"] is None

    @pytest.mark.parametrize(
        ("missing", "message"),
        [
            (".prj", "Invalid shapefile: missing projection file"),
            (".shp", "Failed to find a shapefile in your zip"),
            (".dbf", "Error creating Mapnik Datasource: could not create file mapping for parcels.dbf"),
            (".shx", "Error creating Mapnik Datasource: could not create file mapping for parcels.shx"),
        ],
        ids=["prj", "shp", "dbf", "shx"],
    )
    def test_shapefile_with_a_missing_part_fails(
        self, shared: Account, tmp_path: Path, missing: str, message: str
    ) -> None:
        assert shared.upload(shapefile(tmp_path, drop=(missing,)))["error"] == message

    def test_coordinates_outside_of_the_projections_area_fail(self, shared: Account, tmp_path: Path) -> None:
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

    def test_invalid_projection_file_fails(self, shared: Account, tmp_path: Path) -> None:
        packed = io.BytesIO(shapefile(tmp_path, drop=(".prj",)))
        with zipfile.ZipFile(packed, "a") as files:
            files.writestr("Parcels.prj", "nonsense")

        assert shared.upload(packed.getvalue())["error"] == "Invalid shapefile: invalid projection file"


KML = '<?xml version="1.0"?><!-- a comment --><kml xmlns="http://www.opengis.net/kml/2.2"><Document>{}</Document></kml>'
PLACE = "<Placemark><name>a</name><Point><coordinates>1,2,3</coordinates></Point></Placemark>"


def folder(name: str, content: str = PLACE) -> str:
    return f"<Folder><name>{name}</name>{content}</Folder>"


class TestKml:
    def test_each_kml_folder_is_a_layer(self, acme: Account) -> None:
        assert acme.upload(KML.format(folder("One") + folder("Two")).encode())["error"] is None
        assert list(layers_of(acme)) == ["One", "Two"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "KML does not contain any layers."),
            ("".join(folder(f"f{n}") for n in range(16)), "16 layers found. Maximum of 15 layers allowed."),
            (folder("One") + folder("One"), "Duplicate layer names: One (2)"),
            (
                folder("b") + folder("a") + folder("a") + folder("b") + folder("b"),
                "Duplicate layer names: a (2) b (3)",
            ),
            (folder("One", "<Placemark><name>a</name></Placemark>"), "KML does not contain any valid features"),
            ("<Placemark><name>a</name></Placemark>", "KML does not contain any valid features"),
            ("<Folder><Folder></Folder>", "Error opening dataset"),
            ("<Document>" * 32 + PLACE + "</Document>" * 32, "Error opening dataset"),
        ],
        ids=[
            "no layers",
            "16 layers",
            "duplicate layer name",
            "duplicate layer names",
            "no geometries",
            "no geometry in the Document",
            "malformed",
            "nested too deep",
        ],
    )
    def test_invalid_kml_is_refused_with_mapboxs_message(self, shared: Account, content: str, message: str) -> None:
        assert shared.upload(KML.format(content).encode())["error"] == message

    @pytest.mark.parametrize(
        "content",
        [
            "".join(folder(f"f{n}") for n in range(15)) + folder("empty", "<Placemark><name>a</name></Placemark>"),
            "".join(folder(f"f{n}") for n in range(15)) + folder("link", "<NetworkLink/>"),
            folder("One") + folder("One", "<Placemark><name>a</name></Placemark>"),
            folder("outer", folder("inner")),
            "<Placemark><description><Folder><name>One</name></Folder></description></Placemark>" + folder("One"),
            folder(
                "lines",
                "<Placemark><MultiGeometry><LineString><coordinates>1,2 3,4</coordinates></LineString>"
                "</MultiGeometry></Placemark>",
            ),
        ],
        ids=[
            "folder without geometries beside 15",
            "folder without Placemarks beside 15",
            "folder without geometries of the same name",
            "folders inside each other",
            "HTML in a description",
            "lines in a MultiGeometry",
        ],
    )
    def test_only_folders_with_geometries_are_layers(self, shared: Account, content: str) -> None:
        assert shared.upload(KML.format(content).encode(), "kml")["error"] is None

    def test_placemarks_beside_the_document_are_a_layer(self, shared: Account) -> None:
        assert shared.upload(f'<?xml version="1.0"?><kml>{PLACE}</kml>'.encode(), "kml")["error"] is None

    @pytest.mark.parametrize("start", ["", "<!-- no declaration -->", '<?xml version="1.0"?>' + " " * 100])
    def test_kml_that_mapbox_does_not_recognise_is_unknown(self, shared: Account, start: str) -> None:
        data = KML.format(PLACE).removeprefix('<?xml version="1.0"?>')

        assert shared.upload(f"{start}{data}".encode())["error"] == "Unknown filetype"


def test_kml_and_shapefiles_reach_the_poles(acme: Account, tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.box(-180, -90, 180, -60)], crs="EPSG:4326")
    frame.to_file(tmp_path / "Antarctica.shp")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as files:
        for file in tmp_path.glob("Antarctica.*"):
            files.write(file, file.name)

    assert acme.upload(packed.getvalue())["error"] is None
    assert acme.upload(KML.format(PLACE.replace("1,2,3", "1,-90")).encode())["error"] is None


GPX = '<?xml version="1.0"?><gpx version="1.1" creator="t" xmlns="http://www.topografix.com/GPX/1/1">{}</gpx>'


class TestGpx:
    def test_waypoints_and_tracks_are_layers(self, acme: Account) -> None:
        track = '<trk><trkseg><trkpt lat="1" lon="1"/><trkpt lat="2" lon="2"/></trkseg></trk>'

        assert acme.upload(GPX.format('<wpt lat="1" lon="2"/>' + track).encode())["error"] is None
        assert set(layers_of(acme)) == {"waypoints", "tracks", "track_points"}

    def test_a_track_of_one_point_is_left_out(self, acme: Account) -> None:
        track = '<trk><trkseg><trkpt lat="1" lon="1"/></trkseg></trk>'

        assert acme.upload(GPX.format(track).encode())["error"] is None
        assert set(layers_of(acme)) == {"track_points"}

    def test_malformed_gpx_cannot_be_opened(self, shared: Account) -> None:
        message = "Error creating Mapnik Datasource: Invalid OGR: could not open the file"

        assert shared.upload(GPX.format("<wpt>").encode())["error"] == message

    def test_gpx_without_features_fails(self, shared: Account) -> None:
        assert shared.upload(GPX.format("").encode())["error"] == "GPX does not contain any valid features."


@pytest.mark.parametrize(
    "data",
    [
        b'<OGRVRTDataSource><!-- <kml> --><OGRVRTLayer name="x"><SrcDataSource>/etc/passwd</SrcDataSource>'
        b"</OGRVRTLayer></OGRVRTDataSource>",
        b"<html><body>not found</body></html>",
        b"MM\x00+" + bytes(200),
        b"\x00\x00\x27\x0a" + bytes(200),
    ],
    ids=["VRT with a reference to a file", "HTML", "BigTIFF with big-endian numbers", ".shp without a zip"],
)
def test_formats_that_uploads_does_not_take_are_unknown(shared: Account, data: bytes) -> None:
    assert shared.upload(data)["error"] == "Unknown filetype"


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("kml", "Error opening dataset"),
        ("gpx", "Error creating Mapnik Datasource: Invalid OGR: could not open the file"),
    ],
)
def test_gdal_follows_no_references_of_other_xml_formats(shared: Account, tag: str, message: str) -> None:
    data = (
        f'<?xml version="1.0"?><!-- <{tag}> --><OGRVRTDataSource><OGRVRTLayer name="x">'
        "<SrcDataSource>/etc/passwd</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )

    assert shared.upload(data.encode())["error"] == message


def test_broken_zip_has_no_shapefile(shared: Account) -> None:
    assert shared.upload(b"PK\x03\x04 and then nothing of a zip")["error"] == "Failed to find a shapefile in your zip"


@pytest.fixture(scope="module")
def valid_mbtiles(shared: Account) -> Path:
    """A valid MBTiles file."""
    shared.upload(points((1, 1), (100, 50)), "made")
    return shared.emulator.folder / "tilesets" / "acme.made.mbtiles"


@pytest.fixture
def change_mbtiles(valid_mbtiles: Path, tmp_path: Path) -> Callable[..., bytes]:
    """A function that returns the bytes of a valid MBTiles file after some SQL statements."""

    def change(*statements: str | tuple[str, tuple[Any, ...]]) -> bytes:
        file = tmp_path / "change_mbtiles.mbtiles"
        shutil.copy(valid_mbtiles, file)
        with sqlite3.connect(file) as db:
            for statement in statements:
                sql, values = (statement, ()) if isinstance(statement, str) else statement
                db.execute(sql, values)
        db.close()
        return file.read_bytes()

    return change


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_csv_can_have_each_of_four_separators(acme: Account, separator: str) -> None:
    table = "\nname,start_longitude,start_latitude\nBerlin,13.4,52.5\n".replace(",", separator)

    assert acme.upload(table.encode())["error"] is None
    assert set(acme.tileset().json()["vector_layers"][0]["fields"]) == {"name"}


LESS_DETAIL = "Reduce the detail of data at this zoom level or omit it by adjusting your minzoom."
METADATA_FAULTS = [
    ("INSERT INTO metadata VALUES ('prepare', 1)", "Source cannot contain prepare key"),
    (
        "INSERT INTO metadata VALUES ('formatter', 'x')",
        "Use TileMill 0.7 or later to export MBTiles with a valid template.",
    ),
    ("INSERT INTO metadata VALUES ('scheme', 'zxy')", 'scheme must be "tms" or "xyz"'),
    ("UPDATE metadata SET value = '' WHERE name = 'minzoom'", "minzoom must be an integer between 0 and 30"),
    ("UPDATE metadata SET value = 31 WHERE name = 'maxzoom'", "maxzoom must be an integer between 0 and 30"),
    ("UPDATE metadata SET value = 5 WHERE name = 'minzoom'", "minzoom must be less than or equal to maxzoom"),
    (
        f"INSERT INTO metadata VALUES ('attribution', '{'x' * 2001}')",
        "attribution must be a string of 2000 characters or less",
    ),
    ("INSERT INTO metadata VALUES ('version2', 1), ('tiles', 'x')", "tiles must be an array of templated urls"),
    ("UPDATE metadata SET value = '1,2' WHERE name = 'center'", "center must be an array of the form [lon, lat, z]"),
    ("UPDATE metadata SET value = '181,0,0' WHERE name = 'center'", "center lon value must be between -180 and 180"),
    (
        "UPDATE metadata SET value = '2,2,24' WHERE name = 'center'",
        "center z value must be an integer between 0 and 30",
    ),
    (
        "UPDATE metadata SET value = '2,2,1' WHERE name = 'center'",
        "center zoom value must be less than or equal to maxzoom 0",
    ),
    (
        "UPDATE metadata SET value = '1,2,x,4' WHERE name = 'bounds'",
        "bounds must be an array of the form [west, south, east, north]",
    ),
    ("UPDATE metadata SET value = '1,-96,2,4' WHERE name = 'bounds'", "bounds south value must be between -95 and 95"),
    (
        "UPDATE metadata SET value = '3,1,2,4' WHERE name = 'bounds'",
        "bounds west value must be less than or equal to east",
    ),
    (
        "UPDATE metadata SET value = '50,40,60,50' WHERE name = 'bounds'",
        "center lon value must be between bounds 50 and 60",
    ),
    ("""UPDATE metadata SET value = '{"a" 1}' WHERE name = 'json'""", "Unexpected token 1 in JSON at position 5"),
    ("""UPDATE metadata SET value = '{"a":' WHERE name = 'json'""", "Unexpected end of JSON input"),
    (
        """UPDATE metadata SET value = '{"vector_layers": [1]}' WHERE name = 'json'""",
        "vector_layers[0] must be a layer object",
    ),
    (
        """UPDATE metadata SET value = '{"vector_layers": [{}]}' WHERE name = 'json'""",
        "vector_layers[0] id must be a string of 255 characters or less",
    ),
    (
        "CREATE TABLE carmen AS SELECT 1 AS term",
        "Carmen 0.1.x tilesets are no longer supported.",
    ),
    (
        "CREATE TABLE grids AS SELECT 3 AS zoom_level, zeroblob(512001) AS grid",
        f"Grid exceeds maximum size of 500k at z3. {LESS_DETAIL}",
    ),
    (
        "CREATE TABLE grids AS SELECT 31 AS zoom_level, x'00' AS grid",
        "Maxzoom exceeded for mbtiles file. There is a max zoom limit of 30 but tiles up to zoom level 31 were found. "
        "If you need support for 1cm tilesets please reach out to support.",
    ),
]


class TestMbtiles:
    def test_mbtiles_are_published_unchanged(self, shared: Account, change_mbtiles: Callable[..., bytes]) -> None:
        data = change_mbtiles()
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
                "maxzoom must be an integer between 0 and 30",
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
            (("UPDATE images SET tile_data = ?", (b"",)), "Unknown format."),
            ("UPDATE images SET tile_data = NULL", "Tile is invalid"),
            ("UPDATE images SET tile_data = ''", "Tile is invalid"),
            (
                ("UPDATE images SET tile_data = ?", (b"\x1f\x8b" + bytes(511_999),)),
                f"Tile exceeds maximum size of 500k at z0. {LESS_DETAIL}",
            ),
            *METADATA_FAULTS,
        ],
        ids=[
            "no vector_layers",
            "vector_layers not an array",
            "duplicate vector layer",
            "maxzoom too high",
            "west bound too low",
            "east bound too high",
            "no tiles",
            "maxzoom too low",
            "fillzoom too high",
            "no metadata table",
            "no tiles table",
            "too much metadata",
            "tile of unknown format",
            "broken zlib",
            "gzip of nonsense",
            "truncated gzip",
            "tile of no bytes",
            "tile NULL",
            "tile an empty text",
            "tile too large",
            *(statement[:60] for statement, _ in METADATA_FAULTS),
        ],
    )
    def test_invalid_mbtiles_are_refused_with_mapboxs_message(
        self, shared: Account, change_mbtiles: Callable[..., bytes], sql: Any, message: str
    ) -> None:
        failed = shared.upload(change_mbtiles(sql), "refused")

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
            ["INSERT INTO metadata VALUES ('tilestats', '" + "x" * 70_000 + "')"],
            ["UPDATE metadata SET value = '0 and more' WHERE name IN ('minzoom', 'maxzoom')"],
            ["INSERT INTO metadata VALUES ('scheme', 'xyz')"],
            ["CREATE TABLE carmen (term)"],
            ["INSERT INTO metadata VALUES ('prepare', '')", "INSERT INTO metadata VALUES ('formatter', NULL)"],
            [
                "DELETE FROM metadata WHERE name = 'center'",
                "UPDATE metadata SET value = '-190,-90,190,90' WHERE name = 'bounds'",
            ],
        ],
        ids=[
            "no format",
            "unknown format",
            "wrong format",
            "only name and json",
            "maxzoom above fillzoom",
            "70 kB of tile statistics",
            "zooms with more after them",
            "scheme xyz",
            "empty table carmen",
            "empty prepare and formatter",
            "bounds beyond 180 degrees",
        ],
    )
    def test_metadata_that_mapbox_ignores_is_not_an_error(
        self, shared: Account, change_mbtiles: Callable[..., bytes], statements: list[str]
    ) -> None:
        done = shared.upload(change_mbtiles(*statements), "taken")

        assert done["error"] is None
        assert shared.tileset("taken").json()["format"] == "pbf"

    def test_a_missing_column_is_an_error_of_sqlite(
        self, shared: Account, change_mbtiles: Callable[..., bytes]
    ) -> None:
        data = change_mbtiles(
            "DROP VIEW tiles", "CREATE VIEW tiles AS SELECT zoom_level, tile_column, tile_row FROM map"
        )

        assert shared.upload(data)["error"] == "SQLITE_ERROR: no such column: tile_data"

    @pytest.mark.parametrize(
        ("tile", "kind"),
        [
            (b"\x89PNG\r\n\x1a\n", "png"),
            (b"\xff\xd8\xff\xd9", "jpg"),
            (b"RIFF\x8e\xf4\x00\x00WEBP", "webp"),
            (b"GIF89a", "gif"),
        ],
        ids=["png", "jpg", "webp", "gif"],
    )
    def test_image_tiles_are_detected_by_their_bytes(
        self, shared: Account, change_mbtiles: Callable[..., bytes], tile: bytes, kind: str
    ) -> None:
        data = change_mbtiles(("UPDATE images SET tile_data = ?", (tile,)), "DELETE FROM metadata WHERE name <> 'name'")

        assert shared.upload(data, "images")["error"] is None
        assert shared.tileset("images").json()["format"] == kind

    def test_mbtiles_with_only_grids_are_published(self, shared: Account, change_mbtiles: Callable[..., bytes]) -> None:
        data = change_mbtiles(
            "DROP VIEW tiles",
            "CREATE TABLE grids (zoom_level, tile_column, tile_row, grid)",
            "INSERT INTO grids VALUES (0, 0, 0, x'00')",
        )

        assert shared.upload(data, "grids")["error"] is None
        assert shared.session.get(f"{shared.emulator.url}/tilesets/acme.grids", timeout=10).status_code == 200


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
TILES_OF = "SELECT 0 AS zoom_level, i AS tile_column, 0 AS tile_row, x'1f8b' AS tile_data FROM n"


class TestEndlessViews:
    """A table of an MBTiles file may be a view without an end."""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mbtiles, "QUERY_SECONDS", 0.3)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("statements", "message"),
        [
            # The first view returns endless rows. The others search endlessly for a row.
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
        ids=[
            "endless tiles",
            "no tile ever",
            "endless sort",
            "endless search after the first tile",
            "endless grids",
            "endless metadata",
            "endless empty metadata",
            "no metadata ever",
            "huge tile",
        ],
    )
    def test_endless_views_block_no_worker(
        self, shared: Account, change_mbtiles: Callable[..., bytes], statements: list[str], message: str | None
    ) -> None:
        # One upload more than workers.
        uploads = [
            shared.create(shared.stage(change_mbtiles(*statements))["url"], f"endless{n}").json() for n in range(3)
        ]

        for upload in uploads:
            error = shared.wait(upload["id"])["error"]
            assert (
                error == message if message else error in ("Processing timed out.", "Tileset exceeds processing limit.")
            )
        assert shared.upload(TOWNS, "after")["error"] is None

    def test_views_that_become_endless_after_publishing_block_no_page(
        self, shared: Account, change_mbtiles: Callable[..., bytes]
    ) -> None:
        shared.upload(TOWNS, "later")
        published = shared.emulator.folder / "tilesets" / "acme.later.mbtiles"
        published.write_bytes(
            change_mbtiles("DROP VIEW tiles", f"CREATE VIEW tiles AS {ENDLESS} {TILES_OF} WHERE i < 0")
        )

        for path in ("acme.later", "acme.later.json", "acme.later/0/0/0.pbf"):
            response = shared.session.get(f"{shared.emulator.url}/tilesets/{path}", timeout=10)
            assert response.status_code in (404, 500)

    def test_stop_aborts_a_query(self, change_mbtiles: Callable[..., bytes], tmp_path: Path) -> None:
        class StoppedError(Exception):
            pass

        def tick() -> None:
            raise StoppedError

        file = tmp_path / "endless.mbtiles"
        file.write_bytes(change_mbtiles("DROP VIEW tiles", f"CREATE VIEW tiles AS {ENDLESS} {TILES_OF} WHERE i < 0"))

        with pytest.raises(StoppedError):
            mbtilescheck.check_mbtiles(file, tick=tick)


def tile_of(commands: list[int], kind: int) -> bytes:
    """Return a vector tile with one feature."""

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
            # Not a polygon, so the validator ignores ClosePath.
            ([command(MOVE, 1), 6, 12, command(CLOSE, 2)], LINE),
            ([], POINT),
        ],
        ids=["polygon", "two rings", "two points", "line", "line with ClosePath", "no commands"],
    )
    def test_valid_geometries_pass(self, commands: list[int], kind: int) -> None:
        check_vector_tile(tile_of(commands, kind))

    @pytest.mark.parametrize(
        ("commands", "kind", "message"),
        [
            ([*TRIANGLE, command(CLOSE, 2)], POLYGON, "ClosePath command count is not 1"),
            ([*TRIANGLE, command(CLOSE, 0)], POLYGON, "ClosePath command count is not 1"),
            ([*TRIANGLE, command(CLOSE, 1), *TRIANGLE, command(CLOSE, 3)], POLYGON, "ClosePath command count is not 1"),
            ([command(MOVE, 1_000_000), 6, 12], POINT, "Max count too large"),
            ([command(MOVE, 1), 6, 12, command(DRAW, 1_000), 10, 10], LINE, "Max count too large"),
        ],
        ids=[
            "ClosePath count 2",
            "ClosePath count 0",
            "ClosePath count 3 of the second ring",
            "too many MoveTo",
            "too many LineTo",
        ],
    )
    def test_invalid_geometries_are_refused_with_the_validators_message(
        self, shared: Account, change_mbtiles: Callable[..., bytes], commands: list[int], kind: int, message: str
    ) -> None:
        tile = gzip.compress(tile_of(commands, kind))

        failed = shared.upload(change_mbtiles(("UPDATE images SET tile_data = ?", (tile,))), "refused")

        assert failed["error"] == f"Invalid tile based on the Mapbox Vector Tile spec: {message}"


class TestSize:
    @pytest.mark.parametrize("data", [b"{", b"{}", b"PK"])
    def test_file_of_one_or_two_bytes_is_too_small(self, shared: Account, data: bytes) -> None:
        assert shared.upload(data)["error"] == "File too small"

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"II*\x00", "Invalid raster: could not open the file"),
            (b"MM\x00*\x00\x00\x00", "Invalid raster: could not open the file"),
            (b"SQLite format 3\x00" + b"\x00" * 84, "SQLITE_NOTADB: file is not a database"),
            (b"SQLite format 3", "SQLITE_NOTADB: file is not a database"),
        ],
        ids=["4 bytes of TIFF", "7 bytes of TIFF", "100 bytes of MBTiles", "15 bytes of MBTiles"],
    )
    def test_file_that_ends_within_its_header_cannot_be_opened(
        self, shared: Account, data: bytes, message: str
    ) -> None:
        assert shared.upload(data)["error"] == message

    def test_too_many_tiles_are_refused(
        self, shared: Account, change_mbtiles: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Tested with a small limit, because writing thirty million tiles takes an hour.
        assert mbtilescheck.MAX_TILES == 30_000_000
        monkeypatch.setattr(mbtilescheck, "MAX_TILES", 1)

        data = change_mbtiles("INSERT INTO map SELECT zoom_level, 5, 5, tile_id FROM map")

        assert shared.upload(data, "refused")["error"] == "Tileset exceeds processing limit."

    @pytest.mark.parametrize(
        ("head", "size", "message"),
        [
            (b'{"type": "FeatureCollection"', (1 << 30) + 1, "File is larger than 1 GB. Too big to process."),
            (b"lon,lat\n", (1 << 30) + 1, "File is larger than 1 GB. Too big to process."),
            (b'<?xml version="1.0"?><kml>', 272_629_761, "File is larger than 260 MB. Too big to process."),
            (b"SQLite format 3\x00", 26_843_545_601, "File is larger than 25 GB. Too big to process."),
            (b"II*\x00", 10_000_000_001, "File is larger than 10 GB. Too big to process."),
        ],
        ids=["GeoJSON", "CSV", "KML", "MBTiles", "TIFF"],
    )
    def test_file_above_its_formats_limit_is_refused(
        self, tmp_path: Path, head: bytes, size: int, message: str
    ) -> None:
        file = tmp_path / "data"
        with file.open("wb") as stream:
            stream.write(head.ljust(sniff.HEAD_BYTES))
            stream.truncate(size)

        with pytest.raises(DataError) as caught:
            sniff.sniff(file)
        assert str(caught.value) == message

        with file.open("r+b") as stream:
            stream.truncate(size - 1)
        assert sniff.sniff(file)


class TestJsonStream:
    @pytest.mark.parametrize("block", [1, 2, 7, 1 << 20])
    def test_values_do_not_depend_on_block_boundaries(self, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
        monkeypatch.setattr("airflow_mapbox.emulator.jsonstream.BLOCK", block)
        value = {**TOWNS, "s": 'é "\\ \U0001f600', "n": [-1.5e-7, 12345678, True, None], "e": [], "o": {}}
        text = json.dumps(value, indent=1)

        reader = JsonReader(io.StringIO(text))
        values = {}
        for name in reader.members():
            values[name] = list(reader.elements()) if reader.peek() == "[" else reader.value()

        assert values == value
        assert reader.peek() == ""

    def test_error_is_raised_without_reading_the_rest(self) -> None:
        stream = io.StringIO('{"a": [1, 2, nope' + " " * (5 << 20))
        reader = JsonReader(stream)
        members = reader.members()
        next(members)

        with pytest.raises(JsonError):
            reader.value()
        assert stream.tell() < 4 << 20
