"""What the tests of tilesets share: replies as Mapbox sends them."""

from __future__ import annotations

from typing import Any

from tests.unit.support import ACCOUNT

TILESET = f"{ACCOUNT}.harbours"


def tileset_json(**changed: Any) -> dict[str, Any]:
    """Give a tileset of the account's list."""
    return {
        "type": "vector",
        "center": [7.1, 50.7, 4],
        "created": "2023-11-14T22:13:20.000Z",
        "modified": "2023-11-15T22:13:20.000Z",
        "description": "",
        "filesize": 20480,
        "id": TILESET,
        "name": "Harbours",
        "visibility": "private",
        "status": "available",
        "tileset_precisions": {"10m": 658.5, "1m": 0.5},
        "created_by_client": None,
        "cu": 1.5,
    } | changed


def tilejson(**changed: Any) -> dict[str, Any]:
    """Give the TileJSON of a vector tileset."""
    return {
        "bounds": [7.0, 50.0, 8.0, 51.0],
        "center": [7.5, 50.5, 4],
        "format": "pbf",
        "id": TILESET,
        "maxzoom": 6,
        "minzoom": 0,
        "modified": 1_700_000_000_000,
        "name": "Harbours",
        "private": True,
        "tiles": [f"https://a.tiles.mapbox.com/v4/{TILESET}/{{z}}/{{x}}/{{y}}.vector.pbf"],
        "vector_layers": [{"id": "harbours", "fields": {"name": "String", "depth": "Number"}, "minzoom": 0}],
    } | changed
