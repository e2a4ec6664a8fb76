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
from airflow_mapbox.emulator.mbtiles import EndlessError, MBTiles, MetadataTooLargeError
from airflow_mapbox.emulator.vectortile import SpecError, check_vector_tile

TILE_BYTES = 512_000
# Tiles in all (mapbox/mapbox-upload-limits).
TILES = 30_000_000
# Of a tile that was made here, packed.
MADE_TILE_BYTES = 5_000_000
# No tile that small unpacks to more unless it was made to.
UNPACKED_BYTES = 64 << 20
BOUNDS = (("west", 360), ("south", 90), ("east", 360), ("north", 90))


def check_mbtiles(path: Path, *, tick: Callable[[], None]) -> None:
    """Check an MBTiles file.

    :param path: the file.
    :param tick: called now and then; raises where the work is to be given up.
    :raises DataError: with Mapbox's message.
    """
    try:
        with MBTiles(path, tick=tick) as mbtiles:
            metadata = {name: str(value) for name, value in mbtiles.metadata().items()}
            _check_count(mbtiles)
            is_vector = _check_kind(mbtiles, metadata)
            _check_zooms(mbtiles, metadata)
            for number, (zoom, data) in enumerate(mbtiles.rows("SELECT zoom_level, tile_data FROM tiles")):
                if number % 100 == 0:
                    tick()
                # A view need not give as many rows as it was counted to have.
                if number >= TILES:
                    raise DataError(Failed.TOO_MUCH)
                _check_tile(int(zoom), data, vector=is_vector)
    except MetadataTooLargeError:
        raise DataError(Failed.METADATA_TOO_LARGE) from None
    except EndlessError:
        raise DataError(Failed.TIMED_OUT) from None
    except (sqlite3.Error, ValueError, TypeError):
        raise DataError(Failed.UNKNOWN_FORMAT) from None


def _check_kind(mbtiles: MBTiles, metadata: dict[str, str]) -> bool:
    """Return whether the tiles are vector tiles."""
    if "bounds" in metadata:
        _check_bounds(metadata["bounds"])
    first = mbtiles.row("SELECT tile_data FROM tiles LIMIT 1")
    if first is None:
        return False
    if not first[0]:
        raise DataError(Failed.TILE_INVALID)
    kind = mbtiles.kind()
    if kind is None:
        raise DataError(Failed.UNKNOWN_FORMAT)
    if kind == "pbf":
        _check_layers(metadata)
    return kind == "pbf"


def _check_layers(metadata: dict[str, str]) -> None:
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


def _check_bounds(text: str) -> None:
    values = [float(part) for part in text.split(",")]
    for (name, limit), value in zip(BOUNDS, values, strict=True):
        if not -limit <= value <= limit:
            raise DataError(Failed.BOUNDS.format(name, -limit, limit))


def _check_zooms(mbtiles: MBTiles, metadata: dict[str, str]) -> None:
    lowest, highest = mbtiles.row("SELECT min(zoom_level), max(zoom_level) FROM tiles") or (None, None)
    if lowest is None:
        return  # of grids alone
    told = {name: int(metadata[name]) for name in ("fillzoom", "maxzoom") if name in metadata}
    for name, zoom in told.items():
        if zoom < lowest:
            raise DataError(Failed.ZOOM_MISMATCH.format(name, zoom, "lower", "minzoom", lowest))
        if zoom < highest and name == "maxzoom":
            raise DataError(Failed.ZOOM_MISMATCH.format(name, zoom, "lower", "maxzoom", highest))
        # Where there is a fillzoom, the zooms above it are made of its tiles.
        if zoom > highest and not (name == "maxzoom" and "fillzoom" in told):
            raise DataError(Failed.ZOOM_MISMATCH.format(name, zoom, "higher", "maxzoom", highest))


def _check_count(mbtiles: MBTiles) -> None:
    # Counting ends where the answer is known: a view may have rows without end.
    counted = (
        mbtiles.row(f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT ?)", (TILES + 1,))  # noqa: S608 - two constants
        for table in ("tiles", "grids")
    )
    total = sum(row[0] for row in counted if row is not None)
    if total == 0:
        raise DataError(Failed.TILESET_EMPTY)
    if total > TILES:
        raise DataError(Failed.TOO_MUCH)


def check_made(path: Path) -> None:
    """Refuse tiles that came out too large, as they do of too many features in one place.

    :param path: what the tiler made.
    :raises DataError: with Mapbox's message.
    """
    with MBTiles(path) as mbtiles:
        largest = mbtiles.row("SELECT max(length(tile_data)) FROM tiles")
    if largest is not None and (largest[0] or 0) > MADE_TILE_BYTES:
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
