"""What a comparison of a tileset with its source finds."""

from __future__ import annotations

import gzip
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import geopandas
import numpy as np
import pytest
import shapely

from airflow_mapbox.errors import InvalidAnswerError, NotFoundError, OptionError
from airflow_mapbox.export import write_mbtiles
from airflow_mapbox.tilesets.client import TilesetsClient
from airflow_mapbox.tilesets.expected import Expected
from airflow_mapbox.tilesets.models import TileJson, VectorLayer
from airflow_mapbox.tilesets.verify import Verification, verify_tileset

CHANGED = datetime(2026, 11, 29, 12, tzinfo=UTC)
PARCELS = TileJson(
    tiles=("https://tiles/{z}/{x}/{y}",),
    bounds=(7.0, 50.0, 8.0, 51.0),
    minzoom=0,
    maxzoom=10,
    vector_layers=(VectorLayer("parcels", {"owner": "String", "area": "Number"}), VectorLayer("roads", {"kind": "s"})),
    modified=CHANGED.timestamp() * 1000,
)


class Tileset:
    """A tileset that a client reads."""

    def __init__(self, tilejson: TileJson | None, tiles: dict[tuple[int, int, int], bytes] | None = None) -> None:
        self.tilejson = tilejson
        self.tiles = tiles or {}
        self.read: list[tuple[int, int, int]] = []

    def get_tilejson(self, tileset: str) -> TileJson:
        if self.tilejson is None:
            raise NotFoundError("gone", status=404, message="Tileset does not exist")
        return self.tilejson

    def get_tile(self, tileset: str, z: int, x: int, y: int) -> bytes | None:
        self.read.append((z, x, y))
        return self.tiles.get((z, x, y))


def verify(tileset: Tileset, expected: dict[str, Any], **options: Any) -> Verification:
    source = options.pop("source", None)
    client = cast("TilesetsClient", tileset)
    return verify_tileset(client, "acme.parcels", Expected.from_json(expected, source), **options)


@pytest.mark.parametrize(
    "expected",
    [
        {},
        {"layers": ["parcels"]},
        {"layers": "roads", "fields": ["owner", "kind"]},
        {"fields": {"parcels": ["area", "owner"], "roads": ["kind"]}},
        {"minzoom": 0, "maxzoom": 10, "bounds_within": [7, 50, 8, 51]},
    ],
)
def test_a_tileset_that_is_as_expected(expected: dict[str, Any]) -> None:
    result = verify(Tileset(PARCELS), expected)

    assert result.differences == ()
    assert "acme.parcels is as expected: layers parcels, roads, 3 fields; zoom 0 to 10." in str(result)
    assert result.to_json()["ok"] is True


@pytest.mark.parametrize(
    ("expected", "what", "wanted", "found"),
    [
        ({"layers": ["parcels", "rivers"]}, "layers", "parcels, rivers", "parcels, roads"),
        ({"fields": ["owner", "price"]}, "fields", "price", "missing; there are owner, area, kind"),
        ({"fields": {"roads": ["owner"]}}, "fields of layer roads", "owner", "missing; there are kind"),
        ({"fields": {"rivers": ["name"]}}, "layers", "rivers", "parcels, roads"),
        ({"maxzoom": 14}, "maxzoom", "14", "10"),
        ({"minzoom": 4}, "minzoom", "4", "0"),
        ({"bounds_within": [7, 50, 7.9, 51]}, "bounds", "within 7, 50, 7.9, 51", "7, 50, 8, 51"),
    ],
)
def test_each_difference_is_a_row_of_a_table(expected: dict[str, Any], what: str, wanted: str, found: str) -> None:
    result = verify(Tileset(PARCELS), expected)

    assert [(row.what, row.expected, row.found) for row in result.differences] == [(what, wanted, found)]
    heading, titles, row = str(result).splitlines()
    assert heading == "Tileset acme.parcels has 1 difference from what is expected:"
    assert titles.split() == ["expected", "found"]
    assert (row.index(wanted), row.index(found)) == (titles.index("expected"), titles.index("found"))
    assert result.to_json()["ok"] is False


SOURCE = {"bounds": [7.1, 50.1, 8, 51], "fields": ["owner"], "layers": ["parcels"], "features": 3, "minzoom": 4}


def test_a_tileset_that_is_as_its_source() -> None:
    result = verify(Tileset(PARCELS), {}, source=SOURCE)  # the bounds are less than a tile of zoom 10 away

    assert result.differences == ()


@pytest.mark.parametrize(
    ("facts", "what", "wanted"),
    [
        ({"bounds": [7, 50, 9, 51]}, "bounds", "7, 50, 9, 51 of the source"),
        ({"fields": ["price"]}, "fields", "price"),
        ({"layers": ["rivers"]}, "layers", "rivers"),
    ],
)
def test_a_tileset_that_differs_from_its_source(facts: dict[str, Any], what: str, wanted: str) -> None:
    result = verify(Tileset(PARCELS), {}, source=SOURCE | facts)

    assert [(row.what, row.expected) for row in result.differences] == [(what, wanted)]


@pytest.mark.parametrize(
    "bounds",
    [[-180.05, -90.05, 180.15, 90], [170, -20, 190, 20], [7, 50, 8, 89], [7, 50, 7.5], "everywhere", [8, 50, 7, 51]],
)
def test_a_source_beyond_the_map_is_no_difference_and_has_a_note(bounds: Any) -> None:
    result = verify(Tileset(PARCELS), {}, source={"bounds": bounds})

    assert result.differences == ()
    assert "The bounds were not compared" in str(result)


def test_facts_that_cannot_be_read_are_unknown() -> None:
    facts = {"fields": 3, "layers": [None], "features": "many", "bounds": [7, 50, 8, 51]}

    assert verify(Tileset(PARCELS), {"sample": 0}, source=facts).differences == ()


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        ({"layer": ["parcels"]}, "'layer', which is unknown"),
        ({"layers": [1]}, "layers=[1]"),
        ({"layers": 3}, "layers=3"),
        ({"fields": {"parcels": None}}, "fields of layer parcels=None"),
        ({"maxzoom": "14"}, "maxzoom='14', which is not a whole number from 0 to 30"),
        ({"maxzoom": True}, "maxzoom=True"),
        ({"bounds_within": [8, 50, 7, 51]}, "not west, south, east, north"),
        ({"bounds_within": "7,50,8,51"}, "not west, south, east, north"),
        ({"min_features": 10}, "needs 'sample' for 'min_features'"),
        ({"sample": -1}, "sample=-1"),
    ],
)
def test_what_cannot_be_expected(expected: dict[str, Any], problem: str) -> None:
    with pytest.raises(OptionError, match="verify ") as caught:
        Expected.from_json(expected)
    assert problem in str(caught.value)


class TestTheTileset:
    def test_of_an_earlier_upload_is_outdated(self) -> None:
        result = verify(Tileset(PARCELS), {"maxzoom": 3}, modified_since=CHANGED + timedelta(seconds=1))

        assert result.is_outdated
        assert [row.what for row in result.differences] == ["last change"]

    def test_that_is_missing_is_outdated_only_for_an_upload(self) -> None:
        assert verify(Tileset(None), {}, modified_since=CHANGED).is_outdated
        with pytest.raises(NotFoundError):
            verify(Tileset(None), {})

    def test_whose_last_change_mapbox_does_not_tell_is_compared_with_a_note(self) -> None:
        unknown = TileJson(minzoom=0, maxzoom=10, vector_layers=PARCELS.vector_layers)

        result = verify(Tileset(unknown), {"layers": ["lakes"]}, modified_since=CHANGED)

        assert not result.is_outdated
        assert [row.what for row in result.differences] == ["layers"]
        assert "does not tell when" in str(result)

    def test_without_bounds_differs_if_they_are_expected(self) -> None:
        result = verify(Tileset(TileJson(minzoom=0, maxzoom=1)), {"bounds_within": [0, 0, 1, 1]})

        assert [(row.what, row.found) for row in result.differences] == [("bounds", "unknown")]


@pytest.fixture(scope="module")
def quakes(tmp_path_factory: pytest.TempPathFactory) -> Tileset:
    """A tileset of 60 points in three tiles of zoom 5, with an attribute that only one of them has."""
    points = shapely.points(np.repeat([[1.0, 1.0], [80.0, 10.0], [-100.0, 40.0]], 20, axis=0))
    place = ["Bonn"] + [None] * 59
    frame = geopandas.GeoDataFrame({"mag": np.arange(60) / 10, "place": place}, geometry=points, crs=4326)
    file = tmp_path_factory.mktemp("tiles") / "quakes.mbtiles"
    report = write_mbtiles(frame, file, maxzoom=5)
    tiles = {}
    with sqlite3.connect(file) as database:
        for zoom, column, row, content in database.execute("SELECT * FROM tiles"):
            tiles[zoom, column, 2**zoom - 1 - row] = gzip.decompress(content)
    layer = VectorLayer("quakes", {"mag": "Number", "place": "String"})
    return Tileset(TileJson((), report.bounds, None, 0, 5, (layer,)), tiles)


class TestSample:
    def test_all_tiles_are_read_if_the_bounds_have_no_more(self, quakes: Tileset) -> None:
        result = verify(quakes, {"sample": 1000, "min_features": 60, "fields": ["mag", "place"]})

        assert result.differences == ()
        sample = result.found["sample"]
        assert (sample["zoom"], sample["features"]) == (5, 60)
        assert sample["tiles"] == sample["of"] > 3

    def test_fewer_features_than_are_expected_is_a_difference(self, quakes: Tileset) -> None:
        result = verify(quakes, {"sample": 1000, "min_features": 61})

        assert [(row.what, row.expected, row.found) for row in result.differences] == [
            ("features", "at least 61", "60")
        ]

    def test_fewer_features_than_the_source_has_is_a_note_since_small_ones_are_merged(self, quakes: Tileset) -> None:
        result = verify(quakes, {"sample": 1000}, source={"features": 61})

        assert result.differences == ()
        assert "The source has 61 features, and the sample 60" in str(result)

    def test_an_attribute_that_no_feature_has_is_a_difference(self, quakes: Tileset) -> None:
        assert quakes.tilejson is not None
        only = {tile: content for tile, content in quakes.tiles.items() if b"Bonn" not in content}

        result = verify(Tileset(quakes.tilejson, only), {"sample": 1000, "fields": {"quakes": ["place"]}})

        assert [row.what for row in result.differences] == ["fields of features in layer quakes"]

    def test_a_smaller_sample_finds_tiles_with_features_from_the_lowest_zoom_down(self, quakes: Tileset) -> None:
        reader = Tileset(quakes.tilejson, quakes.tiles)

        result = verify(reader, {"sample": 1, "fields": ["mag", "place"], "min_features": 60})

        assert result.differences == ()  # what was not read is unknown
        assert result.found["sample"] | {"features": 20, "tiles": 1} == result.found["sample"]
        assert [tile[0] for tile in reader.read] == [0, 1, 2, 3, 4, 5]
        assert "so whether there are 60 is unknown" in str(result)

    def test_a_tileset_whose_tiles_are_empty_differs(self, quakes: Tileset) -> None:
        result = verify(Tileset(quakes.tilejson), {"sample": 4})

        assert [(row.what, row.found) for row in result.differences] == [("features in the sample", "none in 0 tiles")]

    def test_the_number_of_requests_is_bounded(self, quakes: Tileset) -> None:
        # Tiles of low zooms with features, and none at the highest.
        reader = Tileset(quakes.tilejson, {tile: content for tile, content in quakes.tiles.items() if tile[0] < 5})

        verify(reader, {"sample": 2})

        assert len(reader.read) <= 2 + 64

    @pytest.mark.parametrize(
        "content",
        [
            b"\x1a\xff\xff\xff\xff\x0f",
            b'<OGRVRTDataSource><OGRVRTLayer name="x"><SrcDataSource>/etc/passwd</SrcDataSource></OGRVRTLayer>'
            b"</OGRVRTDataSource>",
        ],
        ids=["cut off", "a format of GDAL that names a file"],
    )
    def test_what_is_no_vector_tile_is_an_error(self, quakes: Tileset, content: bytes) -> None:
        broken = Tileset(quakes.tilejson, dict.fromkeys(quakes.tiles, content))

        with pytest.raises(InvalidAnswerError, match=r"Tile 0/0/0 of acme\.parcels is not a vector tile"):
            verify(broken, {"sample": 1})

    def test_a_tileset_of_images_has_no_sample(self) -> None:
        result = verify(Tileset(TileJson((), (0, 0, 1, 1), None, 0, 5)), {"sample": 4})

        assert result.differences == ()
        assert "no vector layers" in str(result)
