"""Check MBTiles as Mapbox does: metadata, first tile, counts, sizes, zooms, and every tile.

The order of the checks is that of mapbox/mapbox-upload-validate (lib/validators/mbtiles.js). A file with several faults
gets Mapbox's message. Mapbox's validator reads only the first tile; the check of the others is the emulator's own.
"""

from __future__ import annotations

import math
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_mapbox.emulator.errors import DataError, FailureMessage
from airflow_mapbox.emulator.mbtiles import MBTiles, MetadataTooLargeError, QueryTimeoutError, format_of_tile
from airflow_mapbox.emulator.mbtilesinfo import MAX_ZOOM, Info, as_text, parse_integer, read_info
from airflow_mapbox.emulator.vectortile import SpecError, check_vector_tile

# Also of a grid.
MAX_TILE_BYTES = 512_000
# Tiles of all zooms (docs/reference/limits.md, "Sizes").
MAX_TILES = 30_000_000
# A compressed tile that the emulator itself makes (docs/reference/limits.md, "Sizes").
MAX_MADE_TILE_BYTES = 5_000_000
# Only a decompression bomb of 512,000 bytes expands to more.
MAX_DECOMPRESSED_BYTES = 64 << 20


def check_mbtiles(path: Path, *, tick: Callable[[], None]) -> None:
    """Check an MBTiles file.

    :param path: the file.
    :param tick: called regularly; raises to abort the work.
    :raises DataError: with Mapbox's message.
    """
    try:
        with MBTiles(path, tick=tick) as mbtiles:
            info = read_info(mbtiles, path.stat().st_size)
            is_vector = _check_first_tile(mbtiles, info)
            if mbtiles.row("SELECT 1 FROM carmen LIMIT 1") is not None:
                raise DataError(FailureMessage.OLD_CARMEN)
            _check_count(mbtiles)
            _check_sizes(mbtiles)
            _check_zooms(mbtiles)
            for number, (data,) in enumerate(mbtiles.rows("SELECT tile_data FROM tiles")):
                if number % 100 == 0:
                    tick()
                # The number of a view's rows may differ from its count.
                if number >= MAX_TILES:
                    raise DataError(FailureMessage.TOO_MUCH)
                _check_tile(data, vector=is_vector)
    except MetadataTooLargeError:
        raise DataError(FailureMessage.METADATA_TOO_LARGE) from None
    except QueryTimeoutError:
        raise DataError(FailureMessage.TIMED_OUT) from None
    except (sqlite3.DataError, OverflowError):
        raise DataError(FailureMessage.UNKNOWN_FORMAT) from None  # a value that is too large for any tile
    except sqlite3.Error as error:
        # Extended codes such as SQLITE_CORRUPT_INDEX begin with the code that Mapbox shows.
        code = "_".join(str(getattr(error, "sqlite_errorname", "SQLITE_ERROR")).split("_")[:2])
        raise DataError(FailureMessage.SQLITE.format(code, error)) from None


def _check_first_tile(mbtiles: MBTiles, info: Info) -> bool:
    """Return whether the tiles are vector tiles."""
    first = mbtiles.row("SELECT tile_data FROM tiles LIMIT 1")
    if first is None:
        return False
    data = first[0]
    # An empty BLOB is not null for Mapbox, but has no known format.
    if data is None or data in ("", 0):
        raise DataError(FailureMessage.TILE_INVALID)
    tile_format = format_of_tile(data) if isinstance(data, bytes) else None
    if tile_format is None:
        raise DataError(FailureMessage.UNKNOWN_FORMAT)
    if tile_format == "pbf":
        _check_layer_ids(info)
    return tile_format == "pbf"


def _check_layer_ids(info: Info) -> None:
    layers = info.get("vector_layers")
    if layers is None:
        raise DataError(FailureMessage.NO_VECTOR_LAYERS)
    ids: set[str] = set()
    for layer in layers:
        if layer["id"] in ids:
            raise DataError(FailureMessage.VECTOR_LAYERS_DUPLICATE.format(layer["id"]))
        ids.add(layer["id"])


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


def _check_sizes(mbtiles: MBTiles) -> None:
    for table, column, message in (
        ("tiles", "tile_data", FailureMessage.TILE_TOO_LARGE),
        ("grids", "grid", FailureMessage.GRID_TOO_LARGE),
    ):
        # SQLite takes zoom_level from the row with the maximum.
        row = mbtiles.row(f"SELECT max(length({column})), zoom_level FROM {table}")  # noqa: S608 - constants
        if row is not None and (row[0] or 0) > MAX_TILE_BYTES:
            raise DataError(message.format(row[1]))


def _check_zooms(mbtiles: MBTiles) -> None:
    lowest, highest = mbtiles.row("SELECT min(zoom_level), max(zoom_level) FROM tiles") or (math.nan, math.nan)
    highest_grid = (mbtiles.row("SELECT max(zoom_level) FROM grids") or (None,))[0]
    for zoom in (highest, highest_grid):
        if _as_number(zoom) > MAX_ZOOM:
            raise DataError(FailureMessage.MAXZOOM.format(MAX_ZOOM, zoom))
    rows = {
        name: mbtiles.row("SELECT value FROM metadata WHERE name = ? LIMIT 1", (name,))
        for name in ("fillzoom", "maxzoom")
    }
    for name, row in rows.items():
        if row is None:
            continue
        zoom = parse_integer(row[0])
        if zoom < _as_number(lowest):
            raise _zoom_mismatch(name, zoom, "lower", "minzoom", lowest)
        if name == "maxzoom" and zoom < _as_number(highest):
            raise _zoom_mismatch(name, zoom, "lower", "maxzoom", highest)
        # Mapbox makes the zooms above a fillzoom from the fillzoom's tiles.
        if zoom > _as_number(highest) and (name == "fillzoom" or rows["fillzoom"] is None):
            raise _zoom_mismatch(name, zoom, "higher", "maxzoom", highest)


def _as_number(zoom: Any) -> float:
    """Return a zoom as JavaScript compares it. Without tiles it is null, which is 0; without a table it is NaN."""
    if zoom is None:
        return 0.0
    return float(zoom) if isinstance(zoom, int | float) else math.nan


def _zoom_mismatch(name: str, zoom: float, relation: str, bound: str, actual: Any) -> DataError:
    shown = "null" if actual is None else actual
    return DataError(FailureMessage.ZOOM_MISMATCH.format(name, as_text(zoom), relation, bound, shown))


def check_made_tiles(path: Path) -> None:
    """Refuse the tiler's output if a tile is too large, which happens with too many features in one place.

    :param path: the tiler's output.
    :raises DataError: with Mapbox's message.
    """
    with MBTiles(path) as mbtiles:
        largest = mbtiles.row("SELECT max(length(tile_data)) FROM tiles")
    if largest is not None and (largest[0] or 0) > MAX_MADE_TILE_BYTES:
        raise DataError(FailureMessage.TILE_MADE_TOO_LARGE)


def _check_tile(data: object, *, vector: bool) -> None:
    if not isinstance(data, bytes) or not data:
        raise DataError(FailureMessage.TILE_INVALID)
    if not vector:
        return
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
