"""Reading a published MBTiles file: its metadata and its tiles."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Metadata that the emulator adds to what it made of an image, which is billed one zoom higher.
MADE_OF, TIFF = "made_of", "tiff"


@dataclass(frozen=True)
class TilesetFacts:
    """What a tileset is, as its file says.

    :param bounds: west, south, east, north.
    :param tiles: zoom to number of tiles.
    :param features: layer to number of features; None where the file does not say.
    :param is_tiff: whether it was made of a TIFF.
    """

    format: str
    minzoom: int
    maxzoom: int
    bounds: tuple[float, float, float, float]
    center: tuple[float, float, int]
    vector_layers: list[dict[str, Any]]
    tiles: dict[int, int]
    features: dict[str, int] | None
    is_tiff: bool


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an MBTiles file to read; it is never written to."""
    # Published files are replaced, not changed: without immutable, SQLite would look for a journal beside them.
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        yield db


def read_facts(path: Path) -> TilesetFacts:
    """Return what an MBTiles file says of itself, with zooms and counts taken from the tiles."""
    with opened(path) as db:
        metadata = {str(name): value for name, value in db.execute("SELECT name, value FROM metadata")}
        counts = db.execute("SELECT zoom_level, count(*) FROM tiles GROUP BY zoom_level ORDER BY zoom_level")
        tiles = {int(zoom): int(count) for zoom, count in counts}
    details = _json(metadata.get("json"))
    bounds = _numbers(metadata.get("bounds"), 4) or (-180.0, -85.051129, 180.0, 85.051129)
    minzoom, maxzoom = min(tiles, default=0), max(tiles, default=0)
    west, south, east, north = bounds
    center = _numbers(metadata.get("center"), 3) or ((west + east) / 2, (south + north) / 2, minzoom)
    return TilesetFacts(
        format=str(metadata.get("format", "pbf")),
        minzoom=minzoom,
        maxzoom=maxzoom,
        bounds=(west, south, east, north),
        center=(center[0], center[1], int(center[2])),
        vector_layers=[layer for layer in details.get("vector_layers", []) if isinstance(layer, dict)],
        tiles=tiles,
        features=_feature_counts(details.get("tilestats")),
        is_tiff=metadata.get(MADE_OF) == TIFF,
    )


def read_tile(path: Path, zoom: int, column: int, row: int) -> bytes | None:
    """Return a tile as stored, or None.

    :param row: counted from the north, as in URLs; MBTiles counts from the south.
    """
    if not (0 <= zoom <= 30 and 0 <= column < 2**zoom and 0 <= row < 2**zoom):
        return None
    with opened(path) as db:
        found = db.execute(
            "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?",
            (zoom, column, 2**zoom - 1 - row),
        ).fetchone()
    return bytes(found[0]) if found else None


def _feature_counts(stats: Any) -> dict[str, int] | None:
    """Take the counts out of tile statistics, as tippecanoe and mapbox-geostats write them."""
    try:
        return {str(layer["layer"]): int(layer["count"]) for layer in stats["layers"]}
    except (TypeError, KeyError, ValueError):
        return None


def _json(text: Any) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _numbers(text: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(part) for part in str(text).split(","))
    except ValueError:
        return None
    return numbers if len(numbers) == count else None
