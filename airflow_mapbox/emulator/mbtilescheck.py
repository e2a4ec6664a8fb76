"""MBTiles checked as Mapbox checks it: metadata, zooms, bounds, and every tile."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_mapbox.emulator.errors import DataError, Failed
from airflow_mapbox.emulator.mbtiles import opened
from airflow_mapbox.emulator.vectortile import SpecError, check_vector_tile

METADATA_BYTES = 60 * 1024
TILE_BYTES = 512_000
# Tiles in all (mapbox/mapbox-upload-limits).
TILES = 30_000_000
# Of a tile that was made here, packed.
MADE_TILE_BYTES = 5_000_000
# No tile that small unpacks to more unless it was made to.
UNPACKED_BYTES = 64 << 20
RASTER = ("png", "jpg", "jpeg", "webp")
BOUNDS = (("west", 360), ("south", 90), ("east", 360), ("north", 90))


def check_mbtiles(path: Path, *, tick: Callable[[], None]) -> None:
    """Check an MBTiles file.

    :param path: the file.
    :param tick: called now and then; raises where the work is to be given up.
    :raises DataError: with Mapbox's message.
    """
    try:
        with opened(path) as db:
            metadata = {str(name): str(value) for name, value in db.execute("SELECT name, value FROM metadata")}
            vector = _check_metadata(metadata)
            _check_zooms(db, metadata)
            _check_count(db)
            tiles = db.execute("SELECT zoom_level, tile_data FROM tiles")
            for number, (zoom, data) in enumerate(tiles):
                if number % 100 == 0:
                    tick()
                _check_tile(int(zoom), data, vector=vector)
    except (sqlite3.Error, ValueError, TypeError):
        raise DataError(Failed.UNKNOWN_FORMAT) from None


def _check_metadata(metadata: dict[str, str]) -> bool:
    """Return whether the tiles are vector tiles."""
    if sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items()) > METADATA_BYTES:
        raise DataError(Failed.METADATA_TOO_LARGE)
    if "bounds" in metadata:
        _check_bounds(metadata["bounds"])
    kind = metadata.get("format")
    if kind in RASTER:
        return False
    if kind != "pbf":
        raise DataError(Failed.UNKNOWN_FORMAT)
    details: Any = None
    with contextlib.suppress(ValueError):
        details = json.loads(metadata.get("json", ""))
    if not isinstance(details, dict) or "vector_layers" not in details:
        raise DataError(Failed.NO_VECTOR_LAYERS)
    layers = details["vector_layers"]
    if not isinstance(layers, list) or not all(isinstance(layer, dict) and "id" in layer for layer in layers):
        raise DataError(Failed.VECTOR_LAYERS_NO_ARRAY)
    seen: set[str] = set()
    for layer in layers:
        name = str(layer["id"])
        if name in seen:
            raise DataError(Failed.VECTOR_LAYERS_DUPLICATE.format(name))
        seen.add(name)
    return True


def _check_bounds(text: str) -> None:
    values = [float(part) for part in text.split(",")]
    for (name, limit), value in zip(BOUNDS, values, strict=True):
        if not -limit <= value <= limit:
            raise DataError(Failed.BOUNDS.format(name, -limit, limit))


def _check_zooms(db: sqlite3.Connection, metadata: dict[str, str]) -> None:
    lowest, highest = db.execute("SELECT min(zoom_level), max(zoom_level) FROM tiles").fetchone()
    if lowest is None:
        raise DataError(Failed.TILESET_EMPTY)
    for name, actual in (("minzoom", lowest), ("maxzoom", highest)):
        if name in metadata and (told := int(metadata[name])) != actual:
            relation = "higher" if told > actual else "lower"
            raise DataError(Failed.ZOOM_MISMATCH.format(name, told, relation, name, actual))


def _check_count(db: sqlite3.Connection) -> None:
    (count,) = db.execute("SELECT count(*) FROM tiles").fetchone()
    if count > TILES:
        raise DataError(Failed.TOO_MUCH)


def check_made(path: Path) -> None:
    """Refuse tiles that came out too large, as they do of too many features in one place.

    :param path: what the tiler made.
    :raises DataError: with Mapbox's message.
    """
    with opened(path) as db:
        (largest,) = db.execute("SELECT max(length(tile_data)) FROM tiles").fetchone()
    if largest is not None and largest > MADE_TILE_BYTES:
        raise DataError(Failed.TILE_MADE_TOO_LARGE)


def _check_tile(zoom: int, data: object, *, vector: bool) -> None:
    if not isinstance(data, bytes) or not data:
        raise DataError(Failed.TILE_INVALID)
    if not vector:
        return
    if len(data) > TILE_BYTES:
        raise DataError(Failed.TILE_TOO_LARGE.format(zoom))
    try:
        check_vector_tile(_unpacked(data))
    except SpecError as error:
        raise DataError(Failed.TILE_BREAKS_SPEC.format(error)) from None
    except (ValueError, zlib.error):
        raise DataError(Failed.TILE_INVALID) from None


def _unpacked(data: bytes) -> bytes:
    if data[:2] != b"\x1f\x8b" and data[:1] != b"\x78":
        return data
    # 32: whichever of gzip and zlib it is.
    unpacking = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    plain = unpacking.decompress(data, UNPACKED_BYTES)
    if not unpacking.eof:
        raise ValueError("the tile is cut off, or unpacks to too much")
    return plain
