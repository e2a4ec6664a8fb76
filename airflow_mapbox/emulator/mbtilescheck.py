"""Check MBTiles as Mapbox does: metadata, zooms, bounds, and every tile."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_mapbox.emulator.errors import DataError, FailureMessage
from airflow_mapbox.emulator.mbtiles import MBTiles, MetadataTooLargeError, QueryTimeoutError
from airflow_mapbox.emulator.vectortile import SpecError, check_vector_tile

MAX_TILE_BYTES = 512_000
# Tiles of all zooms (docs/reference/limits.md, "Sizes").
MAX_TILES = 30_000_000
# A compressed tile that the emulator itself makes (docs/reference/limits.md, "Sizes").
MAX_MADE_TILE_BYTES = 5_000_000
# Only a decompression bomb of 512,000 bytes expands to more.
MAX_DECOMPRESSED_BYTES = 64 << 20
BOUNDS = (("west", 360), ("south", 90), ("east", 360), ("north", 90))


def check_mbtiles(path: Path, *, tick: Callable[[], None]) -> None:
    """Check an MBTiles file.

    :param path: the file.
    :param tick: called regularly; raises to abort the work.
    :raises DataError: with Mapbox's message.
    """
    try:
        with MBTiles(path, tick=tick) as mbtiles:
            metadata = {name: str(value) for name, value in mbtiles.metadata().items()}
            _check_count(mbtiles)
            is_vector = _check_tile_format(mbtiles, metadata)
            _check_zooms(mbtiles, metadata)
            for number, (zoom, data) in enumerate(mbtiles.rows("SELECT zoom_level, tile_data FROM tiles")):
                if number % 100 == 0:
                    tick()
                # The number of a view's rows may differ from its count.
                if number >= MAX_TILES:
                    raise DataError(FailureMessage.TOO_MUCH)
                _check_tile(int(zoom), data, vector=is_vector)
    except MetadataTooLargeError:
        raise DataError(FailureMessage.METADATA_TOO_LARGE) from None
    except QueryTimeoutError:
        raise DataError(FailureMessage.TIMED_OUT) from None
    except (sqlite3.Error, ValueError, TypeError):
        raise DataError(FailureMessage.UNKNOWN_FORMAT) from None


def _check_tile_format(mbtiles: MBTiles, metadata: dict[str, str]) -> bool:
    """Return whether the tiles are vector tiles."""
    if "bounds" in metadata:
        _check_bounds(metadata["bounds"])
    first = mbtiles.row("SELECT tile_data FROM tiles LIMIT 1")
    if first is None:
        return False
    if not first[0]:
        raise DataError(FailureMessage.TILE_INVALID)
    tile_format = mbtiles.tile_format()
    if tile_format is None:
        raise DataError(FailureMessage.UNKNOWN_FORMAT)
    if tile_format == "pbf":
        _check_layers(metadata)
    return tile_format == "pbf"


def _check_layers(metadata: dict[str, str]) -> None:
    details: Any = None
    with contextlib.suppress(ValueError):
        details = json.loads(metadata.get("json", ""))
    if not isinstance(details, dict) or "vector_layers" not in details:
        raise DataError(FailureMessage.NO_VECTOR_LAYERS)
    layers = details["vector_layers"]
    if not isinstance(layers, list) or not all(isinstance(layer, dict) and "id" in layer for layer in layers):
        raise DataError(FailureMessage.VECTOR_LAYERS_NO_ARRAY)
    names: set[str] = set()
    for layer in layers:
        name = str(layer["id"])
        if name in names:
            raise DataError(FailureMessage.VECTOR_LAYERS_DUPLICATE.format(name))
        names.add(name)


def _check_bounds(bounds: str) -> None:
    values = [float(part) for part in bounds.split(",")]
    for (name, limit), value in zip(BOUNDS, values, strict=True):
        if not -limit <= value <= limit:
            raise DataError(FailureMessage.BOUNDS.format(name, -limit, limit))


def _check_zooms(mbtiles: MBTiles, metadata: dict[str, str]) -> None:
    lowest, highest = mbtiles.row("SELECT min(zoom_level), max(zoom_level) FROM tiles") or (None, None)
    if lowest is None:
        return  # the file has only UTFGrids
    zooms = {name: int(metadata[name]) for name in ("fillzoom", "maxzoom") if name in metadata}
    for name, zoom in zooms.items():
        if zoom < lowest:
            raise DataError(FailureMessage.ZOOM_MISMATCH.format(name, zoom, "lower", "minzoom", lowest))
        if zoom < highest and name == "maxzoom":
            raise DataError(FailureMessage.ZOOM_MISMATCH.format(name, zoom, "lower", "maxzoom", highest))
        # Mapbox makes the zooms above a fillzoom from the fillzoom's tiles.
        if zoom > highest and not (name == "maxzoom" and "fillzoom" in zooms):
            raise DataError(FailureMessage.ZOOM_MISMATCH.format(name, zoom, "higher", "maxzoom", highest))


def _check_count(mbtiles: MBTiles) -> None:
    # With a LIMIT, because a view may never end.
    counted = (
        mbtiles.row(f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT ?)", (MAX_TILES + 1,))  # noqa: S608 - two constants
        for table in ("tiles", "grids")
    )
    total = sum(row[0] for row in counted if row is not None)
    if total == 0:
        raise DataError(FailureMessage.TILESET_EMPTY)
    if total > MAX_TILES:
        raise DataError(FailureMessage.TOO_MUCH)


def check_made_tiles(path: Path) -> None:
    """Refuse the tiler's output if a tile is too large, which happens with too many features in one place.

    :param path: the tiler's output.
    :raises DataError: with Mapbox's message.
    """
    with MBTiles(path) as mbtiles:
        largest = mbtiles.row("SELECT max(length(tile_data)) FROM tiles")
    if largest is not None and (largest[0] or 0) > MAX_MADE_TILE_BYTES:
        raise DataError(FailureMessage.TILE_MADE_TOO_LARGE)


def _check_tile(zoom: int, data: object, *, vector: bool) -> None:
    if not isinstance(data, bytes) or not data:
        raise DataError(FailureMessage.TILE_INVALID)
    if not vector:
        return
    if len(data) > MAX_TILE_BYTES:
        raise DataError(FailureMessage.TILE_TOO_LARGE.format(zoom))
    try:
        check_vector_tile(_decompress(data))
    except SpecError as error:
        raise DataError(FailureMessage.TILE_BREAKS_SPEC.format(error)) from None
    except (ValueError, zlib.error):
        raise DataError(FailureMessage.TILE_INVALID) from None


def _decompress(data: bytes) -> bytes:
    if data[:2] != b"\x1f\x8b" and data[:1] != b"\x78":
        return data
    # 32: detect gzip or zlib by the header.
    decompressor = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    decompressed = decompressor.decompress(data, MAX_DECOMPRESSED_BYTES)
    if not decompressor.eof:
        raise ValueError("the tile is cut off, or too large when decompressed")
    return decompressed
