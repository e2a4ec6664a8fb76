"""Tilesets and TileJSON in every form that Mapbox may send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mapbox.errors import InvalidAnswerError
from airflow_mapbox.tilesets.models import TileJson, Tileset
from tests.unit.support import make_token
from tests.unit.tilesets.support import TILESET, tilejson, tileset_json

OPTIONAL = sorted(set(tileset_json()) - {"id"})
STRANGE = (None, 7, -1.5, "text", "", [], {}, [None], {"a": [1]}, True, 1e308, float("nan"), float("inf"))


def test_a_tileset_is_read_with_all_fields() -> None:
    tileset = Tileset.from_json(tileset_json())

    assert (tileset.id, tileset.account, tileset.own_name) == (TILESET, "orion", "harbours")
    assert (tileset.name, tileset.type, tileset.status, tileset.is_public) == ("Harbours", "vector", "available", False)
    assert (tileset.filesize, tileset.cu, tileset.center) == (20480, 1.5, (7.1, 50.7, 4.0))
    assert (tileset.precisions, tileset.area) == ({"10m": 658.5, "1m": 0.5}, 659.0)
    assert tileset.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert tileset.modified_at == datetime(2023, 11, 15, 22, 13, 20, tzinfo=UTC)


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("value", STRANGE, ids=repr)
def test_no_optional_field_breaks_the_reading_of_a_tileset(name: str, value: Any) -> None:
    tileset = Tileset.from_json(tileset_json(**{name: value}, unknown={"new": value}))

    assert tileset.id == TILESET
    assert tileset.to_json()["id"] == TILESET
    for shown in (tileset.created_at, tileset.modified_at, tileset.area, tileset.is_public):
        assert shown is None or shown == shown


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_tileset_without_an_optional_field_is_read(name: str) -> None:
    document = tileset_json()
    del document[name]

    assert Tileset.from_json(document).id == TILESET


def test_a_tileset_of_unknown_visibility_counts_as_public() -> None:
    assert Tileset.from_json(tileset_json(visibility=None)).is_public
    assert Tileset.from_json(tileset_json(visibility="public")).is_public


@pytest.mark.parametrize("precisions", ["10m", ["10m"]])
def test_precisions_without_areas_have_no_area(precisions: Any) -> None:
    tileset = Tileset.from_json(tileset_json(tileset_precisions=precisions))

    assert (tileset.precisions, tileset.area) == ({"10m": None}, None)


@pytest.mark.parametrize("document", [None, [], "x", {}, {"id": 7}, {"id": ""}, {"id": "nodot"}, {"id": ".x"}])
def test_a_tileset_without_an_id_is_refused(document: Any) -> None:
    with pytest.raises(InvalidAnswerError, match=r"'id'|JSON object"):
        Tileset.from_json(document)


def test_tilejson_is_read_with_all_fields() -> None:
    read = TileJson.from_json(tilejson())

    assert (read.minzoom, read.maxzoom, read.bounds) == (0, 6, (7.0, 50.0, 8.0, 51.0))
    (layer,) = read.vector_layers
    assert (layer.id, layer.fields) == ("harbours", {"name": "String", "depth": "Number"})
    assert read.modified_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert read.private is True


def test_the_change_in_tilejson_may_be_iso_8601() -> None:
    read = TileJson.from_json(tilejson(modified="2023-11-14T22:13:20Z"))

    assert read.modified_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


@pytest.mark.parametrize("name", sorted(tilejson()))
@pytest.mark.parametrize("value", [*STRANGE, [{"id": 3}, {"id": "a", "fields": 7}, None]], ids=repr)
def test_no_field_breaks_the_reading_of_tilejson(name: str, value: Any) -> None:
    read = TileJson.from_json(tilejson(**{name: value}))

    assert read.to_json().keys() >= {"tiles", "bounds", "vector_layers"}
    assert read.bounds is None or len(read.bounds) == 4


@pytest.mark.parametrize("document", [None, [], {}, {"message": "Not Found"}])
def test_what_is_not_tilejson_is_refused(document: Any) -> None:
    with pytest.raises(InvalidAnswerError):
        TileJson.from_json(document)


def test_a_token_in_the_tiles_urls_is_taken_out() -> None:
    token = make_token()
    url = f"https://a.tiles.mapbox.com/v4/x/{{z}}/{{x}}/{{y}}.mvt?style=a&access_token={token}"

    read = TileJson.from_json(tilejson(tiles=[url, 7, f"http://[{token}"]))

    assert read.tiles[0] == "https://a.tiles.mapbox.com/v4/x/{z}/{x}/{y}.mvt?style=a"
    assert token not in repr(read)
