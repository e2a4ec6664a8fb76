"""The check of MBTiles: each rule with Mapbox's message, Mapbox's own files, vector tiles, hostile databases."""

from __future__ import annotations

import gzip
import json
import os
import random
import sqlite3
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.errors import SourceError
from airflow_mapbox.preflight.findings import Content, Finding
from airflow_mapbox.preflight.mbtiles import check_mbtiles, check_mbtiles_header, tile_type
from airflow_mapbox.preflight.units import pretty_bytes
from airflow_mapbox.preflight.vectortile import TileError, layers_of
from airflow_mapbox.rules import mbtiles as rules
from airflow_mapbox.rules.rule import Rule
from airflow_mapbox.rules.table import rule_of_message
from tests.support.memory import peak_of
from tests.unit.preflight.binaries import (
    FIXTURES,
    GRIDS_TABLE,
    METADATA_TABLE,
    PNG,
    POINT_FEATURE,
    TILE,
    TILES_TABLE,
    field,
    layer,
    mbtiles,
    unpacked,
)
from tests.unit.preflight.support import Write, database

SAMPLES = 200
RECURSIVE = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
MAP = "CREATE TABLE map (zoom_level integer, tile_column integer, tile_row integer, tile_id text)"
IMAGES = "CREATE TABLE images (tile_id text, tile_data blob)"
JOINED = (
    "CREATE VIEW tiles AS SELECT map.zoom_level AS zoom_level, map.tile_column AS tile_column, "
    "map.tile_row AS tile_row, images.tile_data AS tile_data FROM map JOIN images ON images.tile_id = map.tile_id"
)


@pytest.fixture
def found(write: Write) -> Callable[..., list[Finding]]:
    """Return a function that checks a database."""

    def found(data: bytes, content: Content | None = None, **options: Any) -> list[Finding]:
        return list(check_mbtiles(write(data, "roads.mbtiles"), content or Content(), **options))

    return found


def tiles_of(*features: bytes, **options: Any) -> bytes:
    return mbtiles(tiles=[(0, 0, 0, gzip.compress(layer(*features, **options))), (1, 0, 0, TILE)])


def layers_json(*layers: Any, **members: Any) -> dict[str, str]:
    return {"json": json.dumps({"vector_layers": layers, **members})}


LARGE = b"\x1f\x8b" + os.urandom(512_000)
# Rule → the smallest database that breaks it, and what Mapbox says.
BREAKS: dict[Rule, tuple[bytes, str | None]] = {
    rules.NOT_DATABASE: (mbtiles()[:16] + bytes(84), "SQLITE_NOTADB: file is not a database"),
    rules.CUT_OFF: (mbtiles()[:-1], "SQLITE_CORRUPT: database disk image is malformed"),
    rules.BROKEN: (
        mbtiles()[:100] + bytes(len(mbtiles()) - 100),
        "SQLITE_CORRUPT: database disk image is malformed",
    ),
    rules.NO_TILES_TABLE: (database(METADATA_TABLE), "Tileset is empty."),
    rules.NO_COLUMN: (
        mbtiles().replace(b"tile_data", b"tile_dato"),
        "SQLITE_ERROR: no such column: tile_data",
    ),
    rules.NO_METADATA: (database(TILES_TABLE, ("INSERT INTO tiles VALUES (0, 0, 0, ?)", (PNG,))), None),
    rules.METADATA_JSON: (
        mbtiles({"json": '{"a": 1,}'}, tiles=[(0, 0, 0, PNG), (1, 0, 0, PNG)]),
        "Unexpected token … in JSON at position 8",
    ),
    rules.PREPARE: (mbtiles({"prepare": "1"}), "Source cannot contain prepare key"),
    rules.SCHEME: (mbtiles({"scheme": "zxy"}), 'scheme must be "tms" or "xyz"'),
    rules.ZOOM_VALUE: (mbtiles({"minzoom": "low"}), "minzoom must be an integer between 0 and 30"),
    rules.ZOOM_ORDER: (
        mbtiles({"minzoom": "2", "center": None}),
        "minzoom must be less than or equal to maxzoom",
    ),
    rules.HIGH_ZOOM: (mbtiles({"maxzoom": "23"}, tiles=[(0, 0, 0, TILE), (23, 0, 0, TILE)]), None),
    rules.LAYER: (mbtiles(layers_json({"id": "roads"}, 5)), "vector_layers[1] must be a layer object"),
    rules.LAYER_ID: (
        mbtiles(layers_json({"id": "roads"}, {})),
        "vector_layers[1] id must be a string of 255 characters or less",
    ),
    rules.METADATA_TEXT: (mbtiles({"name": "x" * 256}), "name must be a string of 255 characters or less"),
    rules.METADATA_URLS: (
        mbtiles(layers_json({"id": "roads"}, tiles=[])),
        "tiles must be an array of templated urls",
    ),
    rules.CENTER_FORM: (mbtiles({"center": "0,0"}), "center must be an array of the form [lon, lat, z]"),
    rules.CENTER: (
        mbtiles({"center": "190,0,1", "bounds": "-180,-85,200,85"}),
        "center lon value must be between -180 and 180",
    ),
    rules.CENTER_BOUNDS: (
        mbtiles({"center": "8.5,0,1", "bounds": "-180,-85,8,85"}),
        "center lon value must be between bounds -180 and 8",
    ),
    rules.CENTER_ZOOM: (mbtiles({"center": "0,0,0.5"}), "center z value must be an integer between 0 and 30"),
    rules.CENTER_ZOOMS: (
        mbtiles({"center": "0,0,2"}),
        "center zoom value must be less than or equal to maxzoom 1",
    ),
    rules.BOUNDS_FORM: (
        mbtiles({"bounds": "-180,-85,180", "center": None}),
        "bounds must be an array of the form [west, south, east, north]",
    ),
    rules.BOUNDS: (mbtiles({"bounds": "-180,-85,361,85"}), "bounds east value must be between -360 and 360"),
    rules.BOUNDS_ORDER: (
        mbtiles({"bounds": "10,-85,-10,85", "center": None}),
        "bounds west value must be less than or equal to east",
    ),
    rules.VECTOR_LAYERS: (
        mbtiles({"json": '{"vector_layers": {}}'}),
        "vector_layers must be an array of layer objects",
    ),
    rules.METADATA_SIZE: (
        mbtiles({"other": "x" * 61_440}),
        f"Metadata {pretty_bytes(61_900)[:2]}… exceeds limit of 61.44 kB.",
    ),
    rules.TILEMILL: (
        mbtiles({"formatter": "x"}),
        "Use TileMill 0.7 or later to export MBTiles with a valid template.",
    ),
    rules.FIRST_TILE: (mbtiles(tiles=[(0, 0, 0, None), (1, 0, 0, TILE)]), "Tile is invalid"),
    rules.TILE_FORMAT: (mbtiles(tiles=[(0, 0, 0, b"hello"), (1, 0, 0, b"hello")]), "Unknown format."),
    rules.NO_VECTOR_LAYERS: (mbtiles({"json": None}), 'Vector source must include "vector_layers" key'),
    rules.DUPLICATE_LAYERS: (
        mbtiles(layers_json({"id": "roads"}, {"id": "roads"})),
        'Vector source "vector_layers" contains duplicate ID: roads',
    ),
    rules.CARMEN: (
        mbtiles(more=["CREATE TABLE carmen (id)", "INSERT INTO carmen VALUES (1)"]),
        "Carmen 0.1.x tilesets are no longer supported.",
    ),
    rules.EMPTY: (mbtiles({"minzoom": "0", "maxzoom": "0", "center": None}, tiles=[]), "Tileset is empty."),
    rules.TOO_MANY: (b"", "Tileset exceeds processing limit."),  # Mapbox's own file
    rules.MAXZOOM: (
        mbtiles({"maxzoom": None}, tiles=[(0, 0, 0, TILE), (31, 0, 0, TILE)]),
        "Maxzoom exceeded for mbtiles file. There is a max zoom limit of 30 but tiles up to zoom level 31 were found. "
        "If you need support for 1cm tilesets please reach out to support.",
    ),
    rules.ZOOMS: (
        mbtiles({"maxzoom": "2"}),
        "In mbtiles file, metadata.maxzoom (2) is higher than actual tiles maxzoom (1)",
    ),
    rules.TILE_SIZE: (
        mbtiles(tiles=[(0, 0, 0, TILE), (1, 0, 0, LARGE)]),
        "Tile exceeds maximum size of 500k at z1. Reduce the detail of data at this zoom level or omit it by "
        "adjusting your minzoom.",
    ),
    rules.GRID_SIZE: (
        mbtiles(more=[GRIDS_TABLE, ("INSERT INTO grids VALUES (1, 0, 0, ?)", (LARGE,))]),
        "Grid exceeds maximum size of 500k at z1. Reduce the detail of data at this zoom level or omit it by "
        "adjusting your minzoom.",
    ),
    rules.VECTOR_TILE: (
        tiles_of(POINT_FEATURE, name=None),
        "Invalid tile based on the Mapbox Vector Tile spec: missing name field in layer (spec 4.1)",
    ),
    rules.OTHER_TILE: (mbtiles(tiles=[(0, 0, 0, TILE), (1, 0, 0, b"")]), None),
    rules.TILE_LAYERS: (tiles_of(), None),
    rules.TILE_UNPACKED: (
        mbtiles(tiles=[(0, 0, 0, TILE), (1, 0, 0, gzip.compress(layer(POINT_FEATURE) + field(9, bytes(6_000_000))))]),
        None,
    ),
    rules.UNSAFE: (database(METADATA_TABLE, "CREATE VIRTUAL TABLE tiles USING fts4(tile_data)"), None),
    rules.TOO_SLOW: (b"", None),  # a clock of its own
    rules.NOT_WRITTEN: (mbtiles(), None),  # a file of its own
}
OF_THEIR_OWN = (rules.TOO_MANY, rules.TOO_SLOW, rules.NOT_WRITTEN)


class TestRules:
    def test_every_checked_rule_has_a_database_that_breaks_it(self) -> None:
        assert set(BREAKS) == {rule for rule in rules.RULES if rule.checked}

    @pytest.mark.parametrize("rule", [rule for rule in BREAKS if rule not in OF_THEIR_OWN], ids=lambda rule: rule.name)
    def test_a_database_that_breaks_one_rule_has_that_finding_with_mapboxs_message(
        self, found: Callable[..., list[Finding]], rule: Rule
    ) -> None:
        data, message = BREAKS[rule]

        findings = found(data)

        assert {item.rule for item in findings} == {rule}
        start, _, end = (message or "").partition("…") if rule is rules.METADATA_SIZE else (message or "", "", "")
        assert str(findings[0].message or "").startswith(start)
        assert str(findings[0].message or "").endswith(end)
        assert findings[0].what.endswith(".")

    @pytest.mark.parametrize(
        "rule", [rule for rule, (_, message) in BREAKS.items() if message], ids=lambda rule: rule.name
    )
    def test_the_message_of_a_rule_is_recognised_when_it_comes_back(self, rule: Rule) -> None:
        message = str(BREAKS[rule][1])
        recognised = rule_of_message(message)

        assert recognised is not None
        same_words = {rules.CUT_OFF, rules.BROKEN}, {rules.EMPTY, rules.NO_TILES_TABLE}
        assert recognised is rule or any({recognised, rule} == pair for pair in same_words)

    def test_changes_in_a_log_beside_the_file_are_a_problem(self, write: Write) -> None:
        path = write(mbtiles(), "a.mbtiles")
        (path.parent / "a.mbtiles-wal").write_bytes(b"")
        assert list(check_mbtiles(path, Content())) == []

        (path.parent / "a.mbtiles-wal").write_bytes(b"changes")

        (item,) = check_mbtiles(path, Content())
        assert (item.rule, item.where) == (rules.NOT_WRITTEN, "a.mbtiles-wal")

    def test_all_problems_are_found_at_once_and_in_mapboxs_order(self, found: Callable[..., list[Finding]]) -> None:
        changes = {"prepare": "1", "bounds": "-400,-85,180,85", "formatter": "x", "json": None, "maxzoom": "9"}

        findings = found(mbtiles(changes))

        assert [item.rule for item in findings] == [
            rules.PREPARE,
            rules.BOUNDS,
            rules.TILEMILL,
            rules.NO_VECTOR_LAYERS,
            rules.ZOOMS,
        ]


class TestMetadata:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"format": None},
            {"minzoom": 0, "maxzoom": 1},  # numbers, not strings
            {"minzoom": "0.9", "maxzoom": "1 of 2"},  # as JavaScript reads them
            {"minzoom": None, "maxzoom": None},
            {"bounds": None},
            {"center": None},
            {"bounds": "-360,-95,360,95"},
            {"bounds": " -180, -85.0 ,1.8e2,85deg"},
            {"scheme": "tms"},
            {"name": "😀" * 127},
            {"attribution": "x" * 2000, "legend": "x" * 8000},
            {"prepare": "", "formatter": ""},
            {"description": None, "version": None},
            layers_json({"id": "roads"}, tilestats={"layers": ["x" * 100_000]}),
            layers_json({"id": "roads"}, maxzoom=9, name="another"),  # rows come first
            {"json": '{"vector_layers": [{"id": "roads"}], "center": null}'},
        ],
        ids=lambda changes: str(changes)[:40],
    )
    def test_right_metadata_passes(self, found: Callable[..., list[Finding]], changes: dict[str, Any]) -> None:
        assert found(mbtiles(changes)) == []

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"minzoom": "-1"}, "minzoom must be an integer between 0 and 30"),
            ({"maxzoom": "31"}, "maxzoom must be an integer between 0 and 30"),
            ({"name": 5}, "name must be a string of 255 characters or less"),
            ({"version": 1.0}, "version must be a string of 255 characters or less"),
            ({"name": "😀" * 128}, "name must be a string of 255 characters or less"),
            ({"format": "x" * 256}, "format must be a string of 255 characters or less"),
            ({"description": "x" * 2001}, "description must be a string of 2000 characters or less"),
            ({"template": "x" * 8001}, "template must be a string of 8000 characters or less"),
            ({"name": b"roads"}, "name must be a string of 255 characters or less"),
            ({"bounds": 5, "center": None}, "bounds must be an array of the form [west, south, east, north]"),
            ({"bounds": "a,b,c,d", "center": None}, "bounds must be an array of the form [west, south, east, north]"),
            ({"bounds": "-361,-85,180,85"}, "bounds west value must be between -360 and 360"),
            ({"bounds": "-180,-95.5,180,85"}, "bounds south value must be between -95 and 95"),
            ({"bounds": "-180,-85,180,96"}, "bounds north value must be between -95 and 95"),
            ({"bounds": "-180,85,180,-85", "center": None}, "bounds south value must be less than or equal to north"),
            ({"center": "0,91,1", "bounds": "-180,-85,180,92"}, "center lat value must be between -90 and 90"),
            ({"center": "0,86,1"}, "center lat value must be between bounds -85 and 85"),
            ({"center": "0,0,-1"}, "center z value must be an integer between 0 and 30"),
            ({"center": "0,0,0", "minzoom": "1"}, "center zoom value must be greater than or equal to minzoom 1"),
            ({"json": "null"}, "Unexpected token … in JSON at position …"),
            ({"json": "NaN"}, "Unexpected token … in JSON at position …"),
            ({"json": "[" * 100_000}, "Unexpected token … in JSON at position …"),
            (layers_json(), "vector_layers must be an array of layer objects"),
            (layers_json({"id": 5}), "vector_layers[0] id must be a string of 255 characters or less"),
            (layers_json({"id": "x" * 256}), "vector_layers[0] id must be a string of 255 characters or less"),
            (layers_json([]), "vector_layers[0] id must be a string of 255 characters or less"),
            (layers_json({"id": "roads"}, grids=[5]), "grids must be an array of templated urls"),
            ({"maxzoom": "0"}, "In mbtiles file, metadata.maxzoom (0) is lower than actual tiles maxzoom (1)"),
            ({"fillzoom": "2"}, "In mbtiles file, metadata.fillzoom (2) is higher than actual tiles maxzoom (1)"),
            ({"fillzoom": "-1"}, "In mbtiles file, metadata.fillzoom (-1) is lower than actual tiles minzoom (0)"),
        ],
        ids=lambda value: str(value)[:60],
    )
    def test_wrong_metadata_is_refused_with_mapboxs_message(
        self, found: Callable[..., list[Finding]], changes: dict[str, Any], message: str
    ) -> None:
        assert message in [item.message for item in found(mbtiles(changes))]

    def test_a_fillzoom_allows_a_higher_maxzoom(self, found: Callable[..., list[Finding]]) -> None:
        assert found(mbtiles({"maxzoom": "9", "fillzoom": "1"})) == []

    def test_what_metadata_leaves_out_is_computed_from_the_tiles(self, found: Callable[..., list[Finding]]) -> None:
        content = Content()
        changes = {"minzoom": None, "maxzoom": None, "bounds": None, "center": None}

        assert found(mbtiles(changes, tiles=[(1, 1, 1, TILE), (2, 2, 2, TILE)]), content) == []
        assert (content.minzoom, content.maxzoom) == (1, 2)
        assert content.bounds == pytest.approx((0, 0, 180, 85.0511), abs=1e-4)

    def test_a_large_json_is_left_unread_with_a_note(self, found: Callable[..., list[Finding]]) -> None:
        content = Content()
        found(mbtiles({"json": "[" + "0," * 3_000_000}), content)

        assert "was not read" in content.notes[0]


class TestContent:
    def test_layers_tiles_bounds_and_zooms_are_read(self, found: Callable[..., list[Finding]]) -> None:
        content = Content()

        assert found(mbtiles(), content) == []
        assert (content.layers, content.features, content.minzoom, content.maxzoom) == (("roads",), 2, 0, 1)
        assert content.bounds == (-180, -85, 180, 85)
        assert content.notes == []

    @pytest.mark.parametrize("kind", ["text", "blob"])
    def test_zooms_may_be_strings(self, found: Callable[..., list[Finding]], kind: str) -> None:
        content = Content()
        table = "CREATE TABLE tiles (zoom_level text, tile_column text, tile_row text, tile_data blob)"
        rows = [(f"INSERT INTO tiles VALUES ('{zoom}', '0', '0', ?)", (TILE,)) for zoom in (0, 1)]
        metadata = 'INSERT INTO metadata VALUES (\'json\', \'{"vector_layers": [{"id": "roads"}]}\')'

        assert found(database(METADATA_TABLE, table, metadata, *rows), content) == []
        assert (content.minzoom, content.maxzoom) == (0, 1)

    @pytest.mark.parametrize("zoom", ["x", b"\x08", "", float("inf"), -(2**63), 0.5, 1e300])
    def test_zooms_of_any_type_raise_nothing(self, found: Callable[..., list[Finding]], zoom: Any) -> None:
        content = Content()
        changes = {"minzoom": None, "maxzoom": None, "bounds": None, "center": None}

        found(mbtiles(changes, tiles=[(zoom, zoom, zoom, TILE), (1, 0, 0, TILE)]), content, all_tiles=True)
        found(mbtiles({"maxzoom": zoom, "minzoom": zoom, "bounds": zoom, "center": zoom}), content)

        assert content.features == 2

    def test_deduplicated_tiles_are_read_through_their_view(self, found: Callable[..., list[Finding]]) -> None:
        content = Content()
        data = deduplicated(TILE)

        assert found(data, content) == []
        assert (content.features, content.minzoom, content.maxzoom) == (3, 0, 1)
        (item,) = found(deduplicated(LARGE))
        assert item.rule is rules.TILE_SIZE

    def test_deduplicated_tiles_without_images_are_empty(self, found: Callable[..., list[Finding]]) -> None:
        findings = found(database(METADATA_TABLE, MAP, IMAGES, JOINED, "INSERT INTO map VALUES (0, 0, 0, 'a')"))

        assert rules.EMPTY in [item.rule for item in findings]

    def test_a_view_without_its_tables_is_empty(self, found: Callable[..., list[Finding]]) -> None:
        data = database(METADATA_TABLE, MAP, IMAGES, JOINED, "DROP TABLE images")

        assert rules.EMPTY in [item.rule for item in found(data)]

    def test_grids_alone_pass(self, found: Callable[..., list[Finding]]) -> None:
        data = database(METADATA_TABLE, GRIDS_TABLE, "INSERT INTO grids VALUES (0, 0, 0, CAST('x' AS blob))")

        assert found(data) == []


def deduplicated(tile: bytes) -> bytes:
    layers = json.dumps({"vector_layers": [{"id": "roads"}]})
    return database(
        METADATA_TABLE,
        MAP,
        IMAGES,
        JOINED,
        ("INSERT INTO metadata VALUES ('json', ?)", (layers,)),
        "INSERT INTO map VALUES (0, 0, 0, 'a'), (1, 0, 0, 'b'), (1, 1, 0, 'a')",
        ("INSERT INTO images VALUES ('a', ?)", (TILE,)),
        ("INSERT INTO images VALUES ('b', ?)", (tile,)),
    )


class TestTiles:
    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (PNG, "png"),
            (b"\xff\xd8\xff\xd9", "jpg"),
            (b"\xff\xd8\xff", None),
            (b"GIF89a", "gif"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
            (b"RIFF\0\0\0\0WAVE", None),
            (TILE, "pbf"),
            (zlib.compress(b"x"), "pbf"),
            (gzip.decompress(TILE), None),
            (b"", None),
            ("text", None),
            (None, None),
        ],
    )
    def test_types_of_tiles_are_recognised_by_their_first_bytes(self, data: Any, kind: str | None) -> None:
        assert tile_type(data) == kind

    def test_an_uncompressed_vector_tile_is_named_as_one(self, found: Callable[..., list[Finding]]) -> None:
        findings = found(mbtiles(tiles=[(0, 0, 0, gzip.decompress(TILE)), (1, 0, 0, TILE)]))

        assert findings[0].rule is rules.TILE_FORMAT
        assert "not compressed" in findings[0].what

    def test_an_empty_first_tile_has_an_unknown_format(self, found: Callable[..., list[Finding]]) -> None:
        assert found(mbtiles(tiles=[(0, 0, 0, b""), (1, 0, 0, TILE)]))[0].message == "Unknown format."

    def test_png_and_jpeg_may_be_mixed(self, found: Callable[..., list[Finding]]) -> None:
        data = mbtiles({"json": None}, tiles=[(0, 0, 0, PNG), (1, 0, 0, b"\xff\xd8\xff\xd9")])

        assert found(data, all_tiles=True) == []

    def test_a_sample_of_tiles_is_spread_over_the_file_and_all_are_read_on_request(
        self, found: Callable[..., list[Finding]]
    ) -> None:
        tiles = [(9, number, 0, TILE) for number in range(500)]
        tiles[250] = (9, 250, 0, gzip.compress(layer(POINT_FEATURE, version=7)))
        tiles[251] = (9, 251, 0, gzip.compress(layer(POINT_FEATURE))[:-9])
        data = mbtiles({"minzoom": "9", "maxzoom": "9", "center": None}, tiles=tiles)

        assert [item.rule for item in found(data)] in ([], [rules.VECTOR_TILE])
        first, second = found(data, all_tiles=True)
        assert first.where == "tile 9/250/0"
        assert str(first.message).endswith("spec: unknown vector tile version: 7")
        assert second.where == "tile 9/251/0"

    def test_many_bad_tiles_are_counted_and_some_are_named(self, found: Callable[..., list[Finding]]) -> None:
        content = Content()
        tiles = [(9, number, 0, gzip.compress(layer(name=None))) for number in range(30)]

        findings = found(
            mbtiles({"minzoom": "9", "maxzoom": "9", "center": None}, tiles=tiles), content, all_tiles=True
        )

        assert len(findings) == 5
        assert content.notes == ["30 tiles break the rule mbtiles-vector-tile; 5 are named."]

    @pytest.mark.parametrize(
        ("tile", "why"),
        [
            (layer(POINT_FEATURE, name=None), "missing name field in layer (spec 4.1)"),
            (layer(POINT_FEATURE, version=99), "unknown vector tile version: 99"),
            (layer(field(3, 1)), "Missing geometry field in feature (spec 4.2)"),
            (layer(field(4, b"\x09\2\2")), "unknown geometry type"),
            (layer(field(3, 9) + field(4, b"\x09\2\2")), "Unknown geometry type (spec 4.3.4)"),
            (layer(POINT_FEATURE + field(4, b"\x09\2\2")), "Feature has more than one geometry field"),
            (layer(field(2, b"\0") + POINT_FEATURE[4:]), "unpaired property key/value indexes (spec 4.4)"),
            (layer(field(2, b"\0\1") + POINT_FEATURE[4:]), "index out of range: 1"),
            (layer(field(2, b"\x80\1\0") + POINT_FEATURE[4:]), "index out of range: 128"),
            (layer(field(3, 2) + field(4, b"\x0a\2\2")), "expected command 1 but got 2"),
            (layer(field(3, 1) + field(4, b"\x09\2")), "too few points in geometry"),
            (layer(field(3, 1) + field(4, b"\x09\x82\x82")), "too few points in geometry"),
            (layer(field(3, 1) + field(4, b"\xf9\xff\xff\xff\x0f\2\2")), "too few points in geometry"),
            (b"\x1a\x05ab", "end of buffer exception"),
            (b"\x1a", "end of buffer exception"),
            (b"\x18" + b"\xff" * 20, "varint too long exception"),
            (b"\x1b\0", "unknown pbf field type exception"),
        ],
    )
    def test_a_tile_that_breaks_the_specification_is_refused_with_the_reason(self, tile: bytes, why: str) -> None:
        with pytest.raises(TileError) as caught:
            layers_of(tile)

        assert str(caught.value) == why

    @pytest.mark.parametrize(
        "tile",
        [
            b"",
            layer(POINT_FEATURE) + field(17, b"other"),
            layer(field(3, 3) + field(4, b"\x09\xb4\x37\xd0\1\x12\2\2\x80\4\2\x0f\x09\2\2\x12\2\2\2\2\x0f")),
            layer(POINT_FEATURE, version=1),
        ],
    )
    def test_a_right_tile_passes(self, tile: bytes) -> None:
        assert all(found.name == "roads" for found in layers_of(tile))

    def test_tiles_of_another_library_agree(self) -> None:
        import mapbox_vector_tile

        features = [
            {"geometry": shape, "properties": {"n": number, "name": f"x{number}"}}
            for number, shape in enumerate(
                ["POINT(1 2)", "LINESTRING(0 0, 4000 300, 5 5)", "POLYGON((0 0, 0 900, 900 900, 900 0, 0 0))"] * 100
            )
        ]
        tile = mapbox_vector_tile.encode([{"name": "a", "features": features}, {"name": "b", "features": features[:1]}])

        assert [(found.name, found.features) for found in layers_of(tile)] == [("a", 300), ("b", 1)]


class TestHeaders:
    @pytest.mark.parametrize("size", [0, 10, 50, 99])
    def test_a_short_head_is_cut_off(self, size: int) -> None:
        (item,) = check_mbtiles_header(mbtiles()[:size], size)

        assert item.rule is rules.CUT_OFF

    def test_the_head_of_a_remote_file_is_compared_with_its_size(self) -> None:
        data = mbtiles()

        assert list(check_mbtiles_header(data[:100], len(data))) == []
        assert list(check_mbtiles_header(data[:100], None)) == []
        assert list(check_mbtiles_header(data[:100], len(data) + 1)) == []
        (item,) = check_mbtiles_header(data[:100], len(data) - 1)
        assert item.rule is rules.CUT_OFF

    @pytest.mark.parametrize("at", [15, 16, 18, 19, 21])
    def test_a_head_that_sqlite_cannot_read_is_no_database(self, at: int) -> None:
        head = bytearray(mbtiles()[:100])
        head[at] = 77

        (item,) = check_mbtiles_header(bytes(head), None)

        assert item.message == "SQLITE_NOTADB: file is not a database"

    def test_a_file_that_vanishes_is_a_source_error(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"a\.mbtiles cannot be read"):
            list(check_mbtiles(tmp_path / "a.mbtiles", Content()))


# Mapbox's test/fixtures/index.js and test/expected/index.js
VALID = (
    "valid-carmen2.mbtiles",
    "valid-onlygrids.mbtiles",
    "valid-onlytiles.mbtiles",
    "valid-tilesgrid.mbtiles",
    "valid-tilestats-metadata.mbtiles",
    "valid-update1.mbtiles",
    "valid-update2.mbtiles",
    "valid-vectorgzip.mbtiles",
    "valid-webp.mbtiles",
    "valid.vector-metadata-maxzoom-beyond-tiles-but-fillzoom.mbtiles",
    # Mapbox has no test of it, and no rule that it breaks.
    "invalid.mbtiles-crisscross.mbtiles",
)
_IN = "In mbtiles file, metadata."
INVALID = {
    "invalid.mbtiles-corrupt.mbtiles": "SQLITE_CORRUPT: database disk image is malformed",
    "invalid.mbtiles-duplicate-layers.mbtiles": 'Vector source "vector_layers" contains duplicate ID: apples',
    "invalid.mbtiles-empty.mbtiles": "Tileset is empty.",
    "invalid.mbtiles-limits.mbtiles": "Tileset exceeds processing limit.",
    "invalid.mbtiles-notadb.mbtiles": "Unknown filetype",
    "invalid.mbtiles-notiledata.mbtiles": "SQLITE_ERROR: no such column: tile_data",
    "invalid.mbtiles-oldcarmen.mbtiles": "Carmen 0.1.x tilesets are no longer supported.",
    "invalid.mbtiles-prepare.mbtiles": "Source cannot contain prepare key",
    "invalid.mbtiles-template.mbtiles": "Use TileMill 0.7 or later to export MBTiles with a valid template.",
    "invalid.mbtiles-vector.mbtiles": 'Vector source must include "vector_layers" key',
    "invalid.vector-metadata-fillzoom-below-tiles.mbtiles": (
        f"{_IN}fillzoom (0) is lower than actual tiles minzoom (1)"
    ),
    "invalid.vector-metadata-fillzoom-beyond-tiles.mbtiles": (
        f"{_IN}fillzoom (3) is higher than actual tiles maxzoom (2)"
    ),
    "invalid.vector-metadata-maxzoom-below-tiles.mbtiles": (f"{_IN}maxzoom (0) is lower than actual tiles minzoom (1)"),
    "invalid.vector-metadata-maxzoom-beyond-tiles.mbtiles": (
        f"{_IN}maxzoom (4) is higher than actual tiles maxzoom (2)"
    ),
}


class TestMapboxsFiles:
    def test_every_file_is_in_one_of_the_tables(self) -> None:
        names = {path.name.removesuffix(".gz") for path in FIXTURES.glob("*.mbtiles.gz")}

        assert names == {*VALID, *INVALID}

    @pytest.mark.parametrize("all_tiles", [False, True])
    @pytest.mark.parametrize("name", VALID)
    def test_its_valid_files_pass(self, tmp_path: Path, name: str, all_tiles: bool) -> None:
        assert list(check_mbtiles(unpacked(name, tmp_path), Content(), all_tiles=all_tiles)) == []

    @pytest.mark.parametrize("name", INVALID)
    def test_its_invalid_files_are_refused_with_its_messages(self, tmp_path: Path, name: str) -> None:
        # 30,000,000 rows are counted, however slow this machine is.
        clock = Hurried(2e-5) if "limits" in name else time.monotonic
        refused = (item for item in check_mbtiles(unpacked(name, tmp_path), Content(), clock=clock) if item.refused)

        assert next(refused).message == INVALID[name]


def _endless_view(columns: str = "i AS zoom_level, 1 AS tile_column, 1 AS tile_row, NULL AS tile_data") -> str:
    return f"CREATE VIEW tiles AS {RECURSIVE} SELECT {columns} FROM n"


def _doubling(select: str) -> list[str]:
    views = ["CREATE TABLE m0 (name, value)"]
    views += [f"CREATE VIEW m{number} AS {select.format(number - 1)}" for number in range(1, 30)]
    return [TILES_TABLE, *views, "CREATE VIEW metadata AS SELECT * FROM m29"]


class TestHostileDatabases:
    @pytest.mark.parametrize(
        "statements",
        [
            [_endless_view(), METADATA_TABLE],
            [_endless_view(), f"CREATE VIEW metadata AS {RECURSIVE} SELECT i AS name, i AS value FROM n WHERE i < 0"],
            [f"{_endless_view()} WHERE i < 0", METADATA_TABLE],
            [_endless_view("i AS zoom_level, 1 AS tile_column, 1 AS tile_row, x'00' AS tile_data"), METADATA_TABLE],
        ],
    )
    def test_a_view_without_end_is_refused(self, found: Callable[..., list[Finding]], statements: list[str]) -> None:
        content = Content()
        data = database(*statements)
        findings, peak = peak_of(lambda: found(data, content, clock=Hurried(), all_tiles=True))

        assert rules.TOO_SLOW in [item.rule for item in findings]
        assert "was not checked" in content.notes[0]
        assert peak < 50_000_000

    @pytest.mark.parametrize(
        "select",
        [
            "SELECT a.name, b.value FROM m{0} AS a JOIN m{0} AS b",
            "SELECT * FROM m{0} UNION ALL SELECT * FROM m{0}",
            "SELECT (SELECT name FROM m{0} LIMIT 1) AS name, (SELECT value FROM m{0} LIMIT 1) AS value",
        ],
    )
    def test_views_that_double_are_not_expanded(self, found: Callable[..., list[Finding]], select: str) -> None:
        data = database(*_doubling(select))
        (item,), peak = peak_of(lambda: found(data))

        assert (item.rule, item.what) == (rules.UNSAFE, "has the table or view metadata, which is not safe to read.")
        assert peak < 10_000_000

    @pytest.mark.parametrize("call", ["randomblob(9)", "instr(tile_row, 'x')", "zeroblob(9)"])
    def test_a_view_with_a_function_is_not_run_but_noted(self, found: Callable[..., list[Finding]], call: str) -> None:
        content = Content()
        view = f"CREATE VIEW tiles AS SELECT zoom_level, tile_column, tile_row, {call} AS tile_data FROM a"

        found(database(METADATA_TABLE, TILES_TABLE.replace("TABLE tiles", "TABLE a"), view), content)

        assert call.partition("(")[0] in content.notes[0]

    def test_a_schema_with_too_many_views_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mbtiles"
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute(TILES_TABLE)
            rows = ((f"v{number}", f"v{number}", f"CREATE VIEW v{number} AS SELECT 1") for number in range(20_000))
            db.executemany("INSERT INTO sqlite_schema VALUES ('view', ?, ?, 0, ?)", rows)
            db.commit()
        (item,), peak = peak_of(lambda: list(check_mbtiles(path, Content(), clock=Hurried(1.0))))

        assert item.rule is rules.TOO_SLOW
        assert peak < 200_000_000

    @pytest.mark.slow
    def test_a_tile_that_is_a_zip_bomb_is_not_unzipped_further(self, found: Callable[..., list[Finding]]) -> None:
        bomb = gzip.compress(bytes(400_000_000), 9)
        data = mbtiles(tiles=[(0, 0, 0, bomb[:500_000]), (1, 0, 0, bomb[:500_000])])
        findings, peak = peak_of(lambda: found(data))

        assert {item.rule for item in findings} == {rules.TILE_UNPACKED}
        assert peak < 100_000_000

    def test_a_tile_above_sqlites_limit_is_a_finding(self, found: Callable[..., list[Finding]]) -> None:
        data = mbtiles(more=["INSERT INTO tiles VALUES (1, 1, 1, CAST(x'1f8b' || zeroblob(21000000) AS blob))"])
        content = Content()

        findings = found(data, content)

        assert rules.TILE_SIZE in [item.rule for item in findings] or "20 MB" in content.notes[0]

    def test_twenty_five_gigabytes_cost_little(self, write: Write) -> None:
        path = write(mbtiles(tiles=[(1, number, 0, TILE) for number in range(20_000)]), "a.mbtiles")
        with path.open("r+b") as stream:
            stream.truncate(25_000_000_000)
        started = time.process_time()
        findings, peak = peak_of(lambda: list(check_mbtiles(path, Content())))

        assert findings == []
        assert time.process_time() - started < 2
        assert peak < 50_000_000

    def test_randomly_changed_databases_raise_nothing(self, tmp_path: Path) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        wholes = [mbtiles(), deduplicated(TILE), mbtiles({"json": None}, tiles=[(0, 0, 0, PNG)])]
        for number in range(SAMPLES):
            data = bytearray(chance.choice(wholes))
            for _ in range(chance.randint(1, 8)):
                at = chance.randrange(len(data) if chance.random() < 0.95 else 100)
                data[at : at + 4] = chance.choice((bytes(4), b"\xff" * 4, chance.randbytes(4), b"\0\0\0\1"))
            path = tmp_path / f"{number}.mbtiles"
            path.write_bytes(data)
            for item in check_mbtiles(path, Content(), all_tiles=chance.random() < 0.5, clock=Hurried(0.05)):
                assert item.rule in rules.RULES

    def test_randomly_changed_tiles_raise_only_the_error_of_tiles(self) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        whole = layer(POINT_FEATURE, POINT_FEATURE) + layer(POINT_FEATURE, name=b"other")
        for _ in range(20 * SAMPLES):
            data = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(data))
                data[at : at + chance.choice((0, 1, 2))] = chance.randbytes(chance.choice((0, 1, 2)))
            try:
                layers_of(bytes(data))
            except TileError:
                continue


class Hurried:
    """
    A clock that goes forward by itself, so that a deadline of seconds comes soon.

    :param step: seconds that pass at each look.
    """

    def __init__(self, step: float = 0.005) -> None:
        self.seconds, self.step = 0.0, step

    def __call__(self) -> float:
        self.seconds += self.step
        return self.seconds
