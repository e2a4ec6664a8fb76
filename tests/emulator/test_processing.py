"""What processing makes of data: tiles with every feature in them, or Mapbox's message and nothing published."""

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
    """Column, row from the north, and content of every tile of a zoom."""
    file = account.emulator.folder / "tilesets" / f"{account.name}.{tileset}.mbtiles"
    with sqlite3.connect(file) as db:
        rows = db.execute("SELECT tile_column, tile_row, tile_data FROM tiles WHERE zoom_level = ?", (zoom,))
        return [(x, 2**zoom - 1 - y, gzip.decompress(data)) for x, y, data in rows]


def positions_at(account: Account, zoom: int, layer: str) -> dict[int, tuple[float, float]]:
    """Longitude and latitude of each numbered point, taken from tiles as they are served."""
    found = {}
    for x, y, _ in tiles_at(account, zoom):
        answer = account.session.get(
            f"{account.emulator.url}/v4/{account.name}.places/{zoom}/{x}/{y}.mvt",
            params={"access_token": account.emulator.token},
            timeout=10,
        )
        decoded = mapbox_vector_tile.decode(answer.content, default_options={"y_coord_down": True})[layer]
        for feature in decoded["features"]:
            px, py = feature["geometry"]["coordinates"]
            if not (0 <= px < decoded["extent"] and 0 <= py < decoded["extent"]):
                continue
            lon = (x + px / decoded["extent"]) / 2**zoom * 360 - 180
            lat = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * (y + py / decoded["extent"]) / 2**zoom))))
            found[feature["properties"]["number"]] = (lon, lat)
    return found


class TestTiles:
    def test_every_point_keeps_its_position(self, acme: Account) -> None:
        put = [(-179.9 + number * 0.9, -84 + number * 0.42) for number in range(400)]
        acme.upload(points(*put), name="Towns of Europe")
        described = acme.tileset().json()

        got = positions_at(acme, described["maxzoom"], "Towns_of_Europe")

        assert sorted(got) == list(range(400))
        grid = 360 / 2 ** described["maxzoom"] / 4096
        for number, (lon, lat) in enumerate(put):
            assert got[number] == pytest.approx((lon, lat), abs=grid)

    def test_attributes_keep_their_types(self, acme: Account) -> None:
        data = points((1, 2))
        data["features"][0]["properties"] = {"s": "é<", "i": 7, "f": 1.5, "t": True, "n": None}
        acme.upload(data)

        [(_, _, tile)] = tiles_at(acme, 0)

        [feature] = mapbox_vector_tile.decode(tile)["places"]["features"]
        assert feature["properties"] == {"s": "é<", "i": 7, "f": 1.5, "t": True}

    def test_a_tile_of_more_than_5_mb_is_refused(self, acme: Account) -> None:
        # In one place, and of letters that cannot be packed small.
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

    def test_ids_are_not_kept_and_no_member_steers_the_tiler(self, acme: Account) -> None:
        data = points((1, 2))
        data["features"][0] |= {"id": 7, "tippecanoe": {"layer": "elsewhere", "minzoom": 9}}
        acme.upload(data)

        [(_, _, tile)] = tiles_at(acme, 0)

        decoded = mapbox_vector_tile.decode(tile)
        assert list(decoded) == ["places"]
        assert not decoded["places"]["features"][0].get("id")

    def test_small_polygons_and_short_lines_are_there_at_maxzoom(self, acme: Account) -> None:
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
    def test_a_crs_member_is_ignored(self, acme: Account, crs: str) -> None:
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
    )
    def test_every_form_of_geojson_is_read(self, acme: Account, data: dict[str, Any]) -> None:
        assert acme.upload(data)["error"] is None

    def test_a_byte_order_mark_and_whitespace_are_passed_over(self, acme: Account) -> None:
        body = json.dumps(TOWNS, indent=4).encode()

        assert acme.upload(b"\xef\xbb\xbf" + body)["error"] is None
        assert acme.upload(b"\n  " + body + b"\n\n")["error"] is None

    def test_features_without_geometry_are_left_out(self, acme: Account) -> None:
        data = points((1, 2))
        data["features"].append({"type": "Feature", "properties": None, "geometry": None})

        assert acme.upload(data)["error"] is None

    def test_no_path_of_this_machine_is_in_the_tileset(self, acme: Account) -> None:
        acme.upload(TOWNS)

        data = (acme.emulator.folder / "tilesets" / "acme.places.mbtiles").read_bytes()
        assert str(acme.emulator.folder).encode() not in data
        with sqlite3.connect(acme.emulator.folder / "tilesets" / "acme.places.mbtiles") as db:
            metadata = dict(db.execute("SELECT name, value FROM metadata"))
        assert not {"generator", "generator_options"} & set(metadata)
        assert (metadata["name"], metadata["description"]) == ("places", "places")

    def test_the_staged_file_is_removed_after_processing(self, acme: Account) -> None:
        acme.upload(TOWNS)
        acme.upload(b"nonsense")

        for name in ("staged", "incoming", "work"):
            assert list((acme.emulator.folder / name).iterdir()) == []


class TestReplacing:
    def test_a_second_upload_replaces_the_tiles(self, acme: Account) -> None:
        acme.upload(points((1, 1)))
        acme.upload(points((50, 50)))

        assert acme.tileset().json()["bounds"][:2] == pytest.approx([50, 50], abs=0.2)

    def test_a_new_name_leaves_the_old_source_layer(self, acme: Account) -> None:
        acme.upload(TOWNS, name="first name")
        acme.upload(TOWNS, name="second name")

        described = acme.tileset().json()
        assert described["name"] == "second name"
        assert [layer["id"] for layer in described["vector_layers"]] == ["first_name"]

    def test_a_failed_upload_leaves_the_tileset_unchanged(self, acme: Account) -> None:
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
BAD_GEOJSON = [
    (b"", "File is zero bytes."),
    (b"{}", UNKNOWN),
    (b"\x00\x01\x02", UNKNOWN),
    (gzip.compress(json.dumps(TOWNS).encode()), UNKNOWN),
    (gzip.compress(b"lon,lat\n1,2\n"), UNKNOWN),
    (b" " * 500 + json.dumps(TOWNS).encode(), UNKNOWN),
    (json.dumps(TOWNS).encode("utf-16"), UNKNOWN),
    (b"just words", UNKNOWN),
    (b'{"tilejson":"2.2.0","type":"x"}', UNKNOWN),
    (b'{"type":"Topology","arcs":[],"objects":{}}', UNKNOWN),
    ({"type": "FeatureCollection", "features": []}, EMPTY),
    ({"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": None}]}, EMPTY),
    ({"type": "FeatureCollection"}, INVALID),
    ({"type": "FeatureCollection", "features": {}}, INVALID),
    ({"type": "Nonsense", "features": TOWNS["features"]}, INVALID),
    ({"features": TOWNS["features"]}, INVALID),
    (b'{"type": "FeatureCollection", ', INVALID),
    (b'{"type": "FeatureCollection", "features": [', FEATURE),
    (json.dumps(TOWNS).encode()[:-3], FEATURE),
    (json.dumps(TOWNS).encode()[:-1], INVALID),
    (json.dumps(TOWNS).encode() + b"x", FEATURE),
    (b"\n".join(json.dumps(feature).encode() for feature in TOWNS["features"]), FEATURE),
    (b'{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": nope}]}', FEATURE),
    (b'{"type": "FeatureCollection", "features": [\xff\xfe]}', FEATURE),
    (json.dumps(TOWNS).replace('"number": 1', '"number": 1e400').encode(), FEATURE),
    (json.dumps(TOWNS).replace('"number": 1', '"number": "\\ud800"').encode(), FEATURE),
    ({"type": "FeatureCollection", "features": [{}]}, FEATURE),
    ({"type": "FeatureCollection", "features": [7]}, FEATURE),
    ({"type": "FeatureCollection", "features": [lon_lat(1, 2)]}, FEATURE),
    *(
        (
            {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": geometry}]},
            message,
        )
        for geometry, message in [
            (7, FEATURE),
            ({"type": "Nonsense", "coordinates": [1, 2]}, FEATURE),
            ({"type": "Point", "coordinates": [1]}, FEATURE),
            ({"type": "Point", "coordinates": ["1", "2"]}, FEATURE),
            ({"type": "Point", "coordinates": [True, 2]}, FEATURE),
            ({"type": "Point"}, FEATURE),
            ({"type": "LineString", "coordinates": [[1, 2]]}, FEATURE),
            ({"type": "LineString", "coordinates": [1, 2]}, FEATURE),
            ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}, FEATURE),
            ({"type": "GeometryCollection", "geometries": [7]}, FEATURE),
            ({"type": "Point", "coordinates": []}, EMPTY),
            ({"type": "MultiPolygon", "coordinates": []}, EMPTY),
            (lon_lat(181, 0), BEYOND),
            (lon_lat(-180.001, 0), BEYOND),
            (lon_lat(0, 85.06), BEYOND),
            (lon_lat(0, -90), BEYOND),
            (lon_lat(2_600_000, 1_200_000), BEYOND),
            (lon_lat(1e400, 0), FEATURE),
        ]
    ),
]


@pytest.mark.parametrize(("data", "message"), BAD_GEOJSON, ids=[str(n) for n in range(len(BAD_GEOJSON))])
def test_geojson_that_mapbox_would_not_take_fails_with_its_message(
    shared: Account, data: bytes | dict[str, Any], message: str
) -> None:
    failed = shared.upload(data)

    assert (failed["error"], failed["complete"]) == (message, False)
    assert shared.tileset().json() == {"message": "Tileset does not exist"}


def test_the_edge_of_web_mercator_is_inside(acme: Account) -> None:
    assert acme.upload(points((-180, -85.05112878), (180, 85.05113)))["error"] is None


class TestDatasets:
    def put(self, account: Account, data: bytes) -> None:
        file = account.emulator.folder / "datasets" / "acme" / "d1.geojson"
        file.parent.mkdir(parents=True)
        file.write_bytes(data)

    def test_a_dataset_becomes_a_tileset_and_stays(self, acme: Account) -> None:
        self.put(acme, json.dumps(TOWNS).encode())

        for _ in range(2):
            answer = acme.create("mapbox://datasets/acme/d1")
            assert answer.status_code == 201
            assert acme.wait(answer.json()["id"])["complete"]
        assert acme.tileset().status_code == 200

    @pytest.mark.parametrize("url", ["mapbox://datasets/acme/d2", "mapbox://datasets/other/d1"])
    def test_a_dataset_that_is_not_there_fails(self, acme: Account, url: str) -> None:
        self.put(acme, json.dumps(TOWNS).encode())

        failed = acme.wait(acme.create(url).json()["id"])

        assert failed["error"] == "Dataset not found. It may have been deleted during processing into a tileset."

    @pytest.mark.parametrize(
        "url", ["mapbox://datasets/acme/../x", "mapbox://datasets/../x", "mapbox://datasets/acme/a%2fb"]
    )
    def test_a_dataset_is_not_a_path(self, acme: Account, url: str) -> None:
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
    )
    def test_the_maxzoom_is_the_lowest_at_which_a_tiles_share_is_under_1000_bytes(
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
    )
    def test_the_minzoom_is_the_highest_at_which_a_tiles_share_is_over_500_kb(
        self, size: int, bounds: tuple[float, float, float, float], zoom: int
    ) -> None:
        assert pick_minzoom(size, bounds) == zoom


class TestRestart:
    def test_uploads_tilesets_and_the_token_are_still_there(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            upload, token, described = acme.upload(TOWNS), emulator.token, acme.tileset().json()
            del described["tiles"]

        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            assert emulator.token == token
            assert acme.call("GET").json() == [upload]
            assert acme.tileset().json().items() >= described.items()

    def test_a_staged_object_waits_for_its_create(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            issued = Account(emulator).stage(TOWNS)

        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            head = acme.s3(issued).head_object(Bucket=issued["bucket"], Key=issued["key"])
            assert head["ContentLength"] == len(json.dumps(TOWNS))
            assert acme.wait(acme.create(issued["url"]).json()["id"])["complete"]

    def test_processing_that_was_interrupted_finishes(self, tmp_path: Path, settings: EmulatorSettings) -> None:
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

    def test_a_url_used_before_is_used_after(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            issued = acme.stage(TOWNS)
            acme.create(issued["url"])

        with Emulator(tmp_path, settings=settings) as emulator:
            assert Account(emulator).create(issued["url"], "other").status_code == 409

    def test_two_emulators_cannot_have_one_folder(self, emulator: Emulator, settings: EmulatorSettings) -> None:
        with pytest.raises(RuntimeError, match="in use"):
            Emulator(emulator.folder, settings=settings).start()


def test_processing_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    hours = itertools.count(1_700_000_000, 7200)
    settings = EmulatorSettings(account="acme", processing_seconds=0, credentials_lifetime=1e9, rate_limit=0)
    with Emulator(tmp_path, settings=settings, clock=lambda: next(hours)) as emulator:
        acme = Account(emulator)

        assert acme.upload(TOWNS)["error"] == "Processing timed out."
        assert acme.tileset().status_code == 404


def test_stopping_does_not_wait_for_processing(tmp_path: Path) -> None:
    settings = EmulatorSettings(account="acme", processing_seconds=3600, rate_limit=0)
    with Emulator(tmp_path, settings=settings) as emulator:
        acme = Account(emulator)
        acme.create(acme.stage(TOWNS)["url"])  # a wait for its hour of processing would outlast pytest's timeout
