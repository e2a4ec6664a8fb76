"""Processing of data: tiles that contain every feature, or Mapbox's message and no tileset."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import random
import sqlite3
from pathlib import Path
from typing import Any

import mapbox_vector_tile
import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.zooms import pick_maxzoom, pick_minzoom
from tests.emulator.conftest import TOWNS, Account, Clock, points


def tiles_at(account: Account, zoom: int, tileset: str = "places") -> list[tuple[int, int, bytes]]:
    """Return column, row (from the north) and content of every tile of a zoom."""
    file = account.emulator.folder / "tilesets" / f"{account.name}.{tileset}.mbtiles"
    with sqlite3.connect(file) as db:
        rows = db.execute("SELECT tile_column, tile_row, tile_data FROM tiles WHERE zoom_level = ?", (zoom,))
        return [(x, 2**zoom - 1 - y, gzip.decompress(data)) for x, y, data in rows]


def positions_at(account: Account, zoom: int, layer: str) -> dict[int, tuple[float, float]]:
    """Return longitude and latitude of each numbered point in the served tiles."""
    positions = {}
    for x, y, _ in tiles_at(account, zoom):
        response = account.session.get(
            f"{account.emulator.url}/v4/{account.name}.places/{zoom}/{x}/{y}.mvt",
            params={"access_token": account.emulator.token},
            timeout=10,
        )
        decoded = mapbox_vector_tile.decode(response.content, default_options={"y_coord_down": True})[layer]
        for feature in decoded["features"]:
            px, py = feature["geometry"]["coordinates"]
            if not (0 <= px < decoded["extent"] and 0 <= py < decoded["extent"]):
                continue
            lon = (x + px / decoded["extent"]) / 2**zoom * 360 - 180
            lat = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * (y + py / decoded["extent"]) / 2**zoom))))
            positions[feature["properties"]["number"]] = (lon, lat)
    return positions


class TestTiles:
    def test_every_point_keeps_its_position(self, acme: Account) -> None:
        uploaded = [(-179.9 + number * 0.9, -84 + number * 0.42) for number in range(400)]
        acme.upload(points(*uploaded), name="Towns of Europe")
        tilejson = acme.tileset().json()

        in_tiles = positions_at(acme, tilejson["maxzoom"], "Towns_of_Europe")

        assert sorted(in_tiles) == list(range(400))
        grid = 360 / 2 ** tilejson["maxzoom"] / 4096
        for number, (lon, lat) in enumerate(uploaded):
            assert in_tiles[number] == pytest.approx((lon, lat), abs=grid)

    def test_attributes_keep_their_types(self, acme: Account) -> None:
        data = points((1, 2))
        data["features"][0]["properties"] = {"s": "é<", "i": 7, "f": 1.5, "t": True, "n": None}
        acme.upload(data)

        [(_, _, tile)] = tiles_at(acme, 0)

        [feature] = mapbox_vector_tile.decode(tile)["places"]["features"]
        assert feature["properties"] == {"s": "é<", "i": 7, "f": 1.5, "t": True}

    @pytest.mark.slow
    def test_tile_above_5_mb_is_refused(self, acme: Account) -> None:
        # All points are in one tile, and their random texts cannot be compressed well.
        letters = random.Random(3)
        rows = (f"{number / 1e6},{number / 1e6},{letters.randbytes(1500).hex()}{number}" for number in range(5_000))

        failed = acme.upload(("lon,lat,text\n" + "\n".join(rows)).encode())

        assert failed["error"] == "Tile size exceeds limit. At least one vector tile is larger than 5MB."
        assert acme.tileset().status_code == 404

    def test_features_and_tiles_are_counted(self, acme: Account) -> None:
        acme.upload(points(*[(number / 10, number / 20) for number in range(1200)]), name="Posts")

        assert acme.tileset().json()["feature_counts"] == {"Posts": 1200}
        page = acme.session.get(f"{acme.emulator.url}/tilesets/acme.places", timeout=10).text
        assert "<td>features</td><td>1,200</td>" in page
        assert "<td>Posts</td><td>1,200</td><td>number</td>" in page
        assert f"<td>tiles</td><td>{sum(acme.tileset().json()['tile_counts'].values()):,}, " in page

    def test_ids_are_dropped_and_a_tippecanoe_member_is_ignored(self, acme: Account) -> None:
        data = points((1, 2))
        data["features"][0] |= {"id": 7, "tippecanoe": {"layer": "elsewhere", "minzoom": 9}}
        acme.upload(data)

        [(_, _, tile)] = tiles_at(acme, 0)

        decoded = mapbox_vector_tile.decode(tile)
        assert list(decoded) == ["places"]
        assert not decoded["places"]["features"][0].get("id")

    def test_small_polygons_and_short_lines_are_in_the_maxzoom(self, acme: Account) -> None:
        features = [
            {"type": "Feature", "properties": {"number": number}, "geometry": geometry}
            for number, geometry in enumerate(
                [
                    {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]},
                    {"type": "LineString", "coordinates": [[20, 20], [21, 21]]},
                    {"type": "MultiPoint", "coordinates": [[30, 30], [31, 31]]},
                    {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [40, 40]}]},
                ]
            )
        ]
        acme.upload({"type": "FeatureCollection", "features": features})
        maxzoom = acme.tileset().json()["maxzoom"]

        numbers = {
            feature["properties"]["number"]
            for _, _, tile in tiles_at(acme, maxzoom)
            for feature in mapbox_vector_tile.decode(tile)["places"]["features"]
        }

        assert numbers == {0, 1, 2, 3}

    @pytest.mark.parametrize(
        "crs", ["urn:ogc:def:crs:EPSG::3857", "urn:ogc:def:crs:EPSG::2056", "urn:ogc:def:crs:OGC:1.3:CRS84"]
    )
    def test_crs_member_is_ignored(self, acme: Account, crs: str) -> None:
        acme.upload(points((8, 47), crs={"type": "name", "properties": {"name": crs}}))

        west, south, east, north = acme.tileset().json()["bounds"]
        assert (west, south) == pytest.approx((8, 47), abs=0.2)
        assert (east, north) == pytest.approx((8, 47), abs=0.2)

    @pytest.mark.parametrize(
        "data",
        [
            {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 2]}},
            {"type": "Point", "coordinates": [1, 2, 3]},
            {"features": TOWNS["features"], "type": "FeatureCollection"},
            {"bbox": [0, 0, 1, 1], "name": "x", **TOWNS},
        ],
        ids=["Feature", "Point with height", "type after features", "bbox and name"],
    )
    def test_every_form_of_geojson_is_read(self, acme: Account, data: dict[str, Any]) -> None:
        assert acme.upload(data)["error"] is None

    def test_byte_order_mark_and_whitespace_are_ignored(self, acme: Account) -> None:
        body = json.dumps(TOWNS, indent=4).encode()

        assert acme.upload(b"\xef\xbb\xbf" + body)["error"] is None
        assert acme.upload(b"\n  " + body + b"\n\n")["error"] is None

    def test_features_without_geometry_are_dropped(self, acme: Account) -> None:
        data = points((1, 2))
        data["features"].append({"type": "Feature", "properties": None, "geometry": None})

        assert acme.upload(data)["error"] is None

    def test_tileset_contains_no_local_path(self, acme: Account) -> None:
        acme.upload(TOWNS)

        data = (acme.emulator.folder / "tilesets" / "acme.places.mbtiles").read_bytes()
        assert str(acme.emulator.folder).encode() not in data
        with sqlite3.connect(acme.emulator.folder / "tilesets" / "acme.places.mbtiles") as db:
            metadata = dict(db.execute("SELECT name, value FROM metadata"))
        assert not {"generator", "generator_options"} & set(metadata)
        assert (metadata["name"], metadata["description"]) == ("places", "places")

    def test_staged_data_is_deleted_after_processing(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            acme.upload(TOWNS)
            acme.upload(b"nonsense")
        # An upload is shown as finished before its worker deletes the files. The emulator's stop waits for the workers.

        for name in ("staged", "incoming", "work"):
            assert list((tmp_path / name).iterdir()) == []


class TestReplacing:
    def test_second_upload_replaces_the_tiles(self, acme: Account) -> None:
        acme.upload(points((1, 1)))
        acme.upload(points((50, 50)))

        assert acme.tileset().json()["bounds"][:2] == pytest.approx([50, 50], abs=0.2)

    def test_upload_with_a_new_name_keeps_the_source_layer(self, acme: Account) -> None:
        acme.upload(TOWNS, name="first name")
        acme.upload(TOWNS, name="second name")

        tilejson = acme.tileset().json()
        assert tilejson["name"] == "second name"
        assert [layer["id"] for layer in tilejson["vector_layers"]] == ["first_name"]

    def test_failed_upload_keeps_the_old_tileset(self, acme: Account) -> None:
        acme.upload(TOWNS)
        before = acme.tileset().json()

        failed = acme.upload(b'{"type": "FeatureCollection", "features": [{}]}')

        assert failed["error"] == "Failed to parse geojson feature"
        assert acme.tileset().json() == before


def lon_lat(*position: float) -> dict[str, Any]:
    return {"type": "Point", "coordinates": list(position)}


INVALID = "Error creating Mapnik Datasource: Invalid geojson"
FEATURE = "Failed to parse geojson feature"
EMPTY = "Invalid geojson: does not contain any features"
BEYOND = "Coordinates beyond web mercator range. Please check projection and lat/lon values."
UNKNOWN = "Unknown filetype"
BAD_GEOJSON: dict[str, tuple[bytes | dict[str, Any], str]] = {
    "empty file": (b"", "File is zero bytes."),
    "two bytes": (b"{}", "File too small"),
    "empty object": (b"{ }", UNKNOWN),
    "members of another type": ({"type": "Bears", "features": [{"type": "Black"}]}, INVALID),
    "binary": (b"\x00\x01\x02", UNKNOWN),
    "gzipped GeoJSON": (gzip.compress(json.dumps(TOWNS).encode()), UNKNOWN),
    "gzipped CSV": (gzip.compress(b"lon,lat\n1,2\n"), UNKNOWN),
    "500 spaces first": (b" " * 500 + json.dumps(TOWNS).encode(), UNKNOWN),
    "UTF-16": (json.dumps(TOWNS).encode("utf-16"), UNKNOWN),
    "plain text": (b"just words", UNKNOWN),
    "TileJSON": (b'{"tilejson":"2.2.0","type":"x"}', UNKNOWN),
    "TopoJSON": (b'{"type":"Topology","arcs":[],"objects":{}}', UNKNOWN),
    "no features": ({"type": "FeatureCollection", "features": []}, EMPTY),
    "only null geometries": (
        {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": None}]},
        EMPTY,
    ),
    "features missing": ({"type": "FeatureCollection"}, INVALID),
    "features an object": ({"type": "FeatureCollection", "features": {}}, INVALID),
    "unknown type": ({"type": "Nonsense", "features": TOWNS["features"]}, INVALID),
    "type missing": ({"features": TOWNS["features"]}, INVALID),
    "truncated before features": (b'{"type": "FeatureCollection", ', INVALID),
    "truncated after the bracket": (b'{"type": "FeatureCollection", "features": [', INVALID),
    "truncated in features": (json.dumps(TOWNS).encode()[:-3], INVALID),
    "truncated after features": (json.dumps(TOWNS).encode()[:-1], INVALID),
    "text after the end": (json.dumps(TOWNS).encode() + b"x", INVALID),
    "line-delimited": (b"\n".join(json.dumps(feature).encode() for feature in TOWNS["features"]), INVALID),
    "invalid JSON in a feature": (
        b'{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": nope}]}',
        INVALID,
    ),
    "invalid UTF-8": (b'{"type": "FeatureCollection", "features": [\xff\xfe]}', INVALID),
    "infinite number": (json.dumps(TOWNS).replace('"number": 1', '"number": 1e400').encode(), FEATURE),
    "half a surrogate pair": (json.dumps(TOWNS).replace('"number": 1', '"number": "\\ud800"').encode(), FEATURE),
    "empty feature": ({"type": "FeatureCollection", "features": [{}]}, FEATURE),
    "feature a number": ({"type": "FeatureCollection", "features": [7]}, FEATURE),
    "feature a geometry": ({"type": "FeatureCollection", "features": [lon_lat(1, 2)]}, FEATURE),
    **{
        name: (
            {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": geometry}]},
            message,
        )
        for name, geometry, message in [
            ("geometry a number", 7, FEATURE),
            ("unknown geometry type", {"type": "Nonsense", "coordinates": [1, 2]}, FEATURE),
            ("polygon with an empty ring", {"type": "Polygon", "coordinates": [[]]}, FEATURE),
            ("position of one number", {"type": "Point", "coordinates": [1]}, FEATURE),
            ("position of strings", {"type": "Point", "coordinates": ["1", "2"]}, FEATURE),
            ("position with a boolean", {"type": "Point", "coordinates": [True, 2]}, FEATURE),
            ("coordinates missing", {"type": "Point"}, FEATURE),
            ("line of one position", {"type": "LineString", "coordinates": [[1, 2]]}, FEATURE),
            ("line of numbers", {"type": "LineString", "coordinates": [1, 2]}, FEATURE),
            ("ring of three positions", {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}, FEATURE),
            ("collection of numbers", {"type": "GeometryCollection", "geometries": [7]}, FEATURE),
            ("empty point", {"type": "Point", "coordinates": []}, EMPTY),
            ("empty multipolygon", {"type": "MultiPolygon", "coordinates": []}, EMPTY),
            ("longitude 181", lon_lat(181, 0), BEYOND),
            ("longitude -180.001", lon_lat(-180.001, 0), BEYOND),
            ("latitude 85.06", lon_lat(0, 85.06), BEYOND),
            ("latitude -90", lon_lat(0, -90), BEYOND),
            ("metres", lon_lat(2_600_000, 1_200_000), BEYOND),
            ("infinite longitude", lon_lat(1e400, 0), INVALID),
        ]
    },
}


@pytest.mark.parametrize(("data", "message"), BAD_GEOJSON.values(), ids=BAD_GEOJSON)
def test_geojson_that_mapbox_refuses_fails_with_its_message(
    shared: Account, data: bytes | dict[str, Any], message: str
) -> None:
    failed = shared.upload(data)

    assert (failed["error"], failed["complete"]) == (message, False)
    assert shared.tileset().json() == {"message": "Tileset does not exist"}


def test_positions_on_the_edge_of_web_mercator_are_accepted(acme: Account) -> None:
    assert acme.upload(points((-180, -85.05112878), (180, 85.05113)))["error"] is None


class TestDatasets:
    def put(self, account: Account, data: bytes) -> None:
        file = account.emulator.folder / "datasets" / "acme" / "d1.geojson"
        file.parent.mkdir(parents=True)
        file.write_bytes(data)

    def test_dataset_becomes_a_tileset_and_can_be_used_again(self, acme: Account) -> None:
        self.put(acme, json.dumps(TOWNS).encode())

        for _ in range(2):
            response = acme.create("mapbox://datasets/acme/d1")
            assert response.status_code == 201
            assert acme.wait(response.json()["id"])["complete"]
        assert acme.tileset().status_code == 200

    @pytest.mark.parametrize("url", ["mapbox://datasets/acme/d2", "mapbox://datasets/other/d1"])
    def test_missing_dataset_fails(self, acme: Account, url: str) -> None:
        self.put(acme, json.dumps(TOWNS).encode())

        failed = acme.wait(acme.create(url).json()["id"])

        assert failed["error"] == "Dataset not found. It may have been deleted during processing into a tileset."

    @pytest.mark.parametrize(
        "url", ["mapbox://datasets/acme/../x", "mapbox://datasets/../x", "mapbox://datasets/acme/a%2fb"]
    )
    def test_dataset_url_cannot_contain_a_path(self, acme: Account, url: str) -> None:
        assert acme.create(url).status_code == 500


class TestMaxzoom:
    @pytest.mark.parametrize(
        ("size", "bounds", "zoom"),
        [
            (999, (-180, -85, 180, 85), 0),
            (1000, (-180, -85, 180, 85), 1),
            (4000, (-180, -85, 180, 85), 2),
            (3999, (-180, -85, 180, 85), 1),
            (1_219_853, (-179.6445, -65.8617, 178.8275, 83.0422), 6),
            (5000, (10, 10, 10, 10), 16),
            (999, (10, 10, 10, 10), 0),
            (10**9, (0, 0, 1e-9, 1e-9), 16),
            (10**9, (-180, -85.06, 180, 85.06), 10),
        ],
        ids=[
            "999 bytes of the world",
            "1000 bytes of the world",
            "4000 bytes of the world",
            "3999 bytes of the world",
            "a real file",
            "5000 bytes in a point",
            "999 bytes in a point",
            "1 GB in a millimetre",
            "1 GB of the world",
        ],
    )
    def test_maxzoom_is_the_lowest_zoom_with_tile_shares_under_1000_bytes(
        self, size: int, bounds: tuple[float, float, float, float], zoom: int
    ) -> None:
        assert pick_maxzoom(size, bounds) == zoom


class TestMinzoom:
    @pytest.mark.parametrize(
        ("size", "bounds", "zoom"),
        [
            (512_001, (-180, -85, 180, 85), 0),
            (4 * 512_000, (-180, -85, 180, 85), 0),
            (4 * 512_000 + 1, (-180, -85, 180, 85), 1),
            (10**9, (-180, -85.06, 180, 85.06), 5),
            (512_000, (10, 10, 10, 10), 0),
            (512_001, (10, 10, 10, 10), 16),
        ],
        ids=[
            "512,001 bytes of the world",
            "exactly 500 kB a tile",
            "just over 500 kB a tile",
            "1 GB of the world",
            "512,000 bytes in a point",
            "512,001 bytes in a point",
        ],
    )
    def test_minzoom_is_the_highest_zoom_with_tile_shares_over_500_kb(
        self, size: int, bounds: tuple[float, float, float, float], zoom: int
    ) -> None:
        assert pick_minzoom(size, bounds) == zoom


class TestRestart:
    def test_restart_keeps_uploads_tilesets_and_the_token(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            upload, token, tilejson = acme.upload(TOWNS), emulator.token, acme.tileset().json()
            del tilejson["tiles"]

        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            assert emulator.token == token
            assert acme.call("GET").json() == [upload]
            assert acme.tileset().json().items() >= tilejson.items()

    def test_restart_keeps_a_staged_object(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            credentials = Account(emulator).stage(TOWNS)

        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            head = acme.s3(credentials).head_object(Bucket=credentials["bucket"], Key=credentials["key"])
            assert head["ContentLength"] == len(json.dumps(TOWNS))
            assert acme.wait(acme.create(credentials["url"]).json()["id"])["complete"]

    def test_restart_finishes_interrupted_processing(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        long = EmulatorSettings(account="acme", processing_seconds=3600, rate_limit=0)
        with Emulator(tmp_path, settings=long, clock=Clock()) as emulator:
            acme = Account(emulator)
            uploads = [acme.create(acme.stage(TOWNS)["url"], f"t{number}").json()["id"] for number in range(3)]
            assert acme.tileset("t0").status_code == 404

        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            for upload in uploads:
                assert acme.wait(upload)["complete"]
            assert acme.tileset("t2").status_code == 200

    def test_restart_keeps_used_urls(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            credentials = acme.stage(TOWNS)
            acme.create(credentials["url"])

        with Emulator(tmp_path, settings=settings) as emulator:
            assert Account(emulator).create(credentials["url"], "other").status_code == 409

    def test_two_emulators_cannot_share_a_folder(self, emulator: Emulator, settings: EmulatorSettings) -> None:
        with pytest.raises(RuntimeError, match="another emulator uses"):
            Emulator(emulator.folder, settings=settings).start()


def test_processing_that_takes_too_long_times_out(tmp_path: Path) -> None:
    hours = itertools.count(1_700_000_000, 7200)
    settings = EmulatorSettings(account="acme", processing_seconds=0, credentials_lifetime=1e9, rate_limit=0)
    with Emulator(tmp_path, settings=settings, clock=lambda: next(hours)) as emulator:
        acme = Account(emulator)

        assert acme.upload(TOWNS)["error"] == "Processing timed out."
        assert acme.tileset().status_code == 404


def test_stop_does_not_wait_for_processing(tmp_path: Path) -> None:
    settings = EmulatorSettings(account="acme", processing_seconds=3600, rate_limit=0)
    with Emulator(tmp_path, settings=settings) as emulator:
        acme = Account(emulator)
        acme.create(acme.stage(TOWNS)["url"])  # a wait for its hour of processing would outlast pytest's timeout
