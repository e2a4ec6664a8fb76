"""Read the metadata and the tiles of an MBTiles file."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A table may be a view that never ends or never returns a row. A query without a row for this long is aborted. Counting
# as many tiles as Mapbox allows takes a few seconds.
QUERY_SECONDS = 15.0
_STEPS_PER_CHECK = 100_000  # steps of SQLite's virtual machine between two checks of the clock: some milliseconds
# Much more than a tile may have (512,000 bytes).
_MAX_VALUE_BYTES = 64 << 20
# Much more than Mapbox allows (60 kB), because its limit does not count tile statistics.
MAX_METADATA_BYTES = 16 << 20
# Also counted for each row, because a file may have any number of empty ones.
METADATA_ROW_BYTES = 64
# Zooms 0 to 30.
_MAX_ZOOMS = 31

# The emulator adds this metadata to tilesets made from a TIFF, because their price tiers are one zoom higher.
SOURCE_KEY, TIFF = "made_of", "tiff"


@dataclass(frozen=True)
class TilesetFacts:
    """A summary of a tileset's file.

    :param bounds: west, south, east, north in degrees.
    :param tiles: number of tiles by zoom.
    :param features: number of features by layer; None if the file does not contain it.
    :param is_tiff: whether the tileset was made from a TIFF.
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


class QueryTimeoutError(Exception):
    """A query returned no row for too long."""


class MetadataTooLargeError(Exception):
    """There is too much metadata to read it."""


class MBTiles:
    """An MBTiles file, open for reading. A user made it, so it is not trusted.

    :param path: the file.
    :param tick: called regularly; raises to abort the work.
    """

    def __init__(self, path: Path, *, tick: Callable[[], None] = lambda: None) -> None:
        # Published files are replaced, never changed. Without `immutable`, SQLite would look for a journal beside them.
        self._db = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        self._db.execute("PRAGMA query_only = ON")
        # With this, the file's views may call only harmless functions.
        self._db.execute("PRAGMA trusted_schema = OFF")
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
        self._db.set_progress_handler(self._interrupt_if_needed, _STEPS_PER_CHECK)
        self._tick = tick
        self._last_row = 0.0
        self._exception: BaseException | None = None

    def __enter__(self) -> MBTiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def rows(self, query: str, parameters: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query. A missing table counts as empty, as for Mapbox.

        :raises QueryTimeoutError: if there is no row for too long.
        :raises sqlite3.Error: if the file is not a database, or has other columns.
        """
        try:
            self._last_row = time.monotonic()
            for row in self._db.execute(query, parameters):
                yield row
                self._last_row = time.monotonic()
        except sqlite3.OperationalError as error:
            exception, self._exception = self._exception, None
            if exception is not None:
                raise exception from None
            if not str(error).startswith("no such table"):
                raise

    def row(self, query: str, parameters: tuple[object, ...] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query, or None; raises as :meth:`rows` does."""
        return next(self.rows(query, parameters), None)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata.

        :raises MetadataTooLargeError: if there is too much to read it.
        """
        return {str(name): value for name, value in self.metadata_rows()}

    def metadata_rows(self) -> Iterator[tuple[Any, Any]]:
        """Yield name and value of each row of the metadata.

        :raises MetadataTooLargeError: if there is too much to read it.
        """
        size = 0
        for name, value in self.rows("SELECT name, value FROM metadata"):
            size += METADATA_ROW_BYTES + len(str(name)) + len(str(value))
            if size > MAX_METADATA_BYTES:
                raise MetadataTooLargeError
            yield name, value

    def tile_format(self) -> str | None:
        """Return the format of the first tile. Like Mapbox, ignore the ``format`` in the metadata."""
        first = self.row("SELECT tile_data FROM tiles LIMIT 1")
        return format_of_tile(first[0]) if first is not None and isinstance(first[0], bytes) else None

    def _interrupt_if_needed(self) -> int:
        """Return 1 to interrupt the query. SQLite discards exceptions of this handler, so :meth:`rows` raises them."""
        try:
            self._tick()
        except BaseException as error:
            self._exception = error
        else:
            self._exception = QueryTimeoutError() if time.monotonic() - self._last_row > QUERY_SECONDS else None
        return int(self._exception is not None)


def read_facts(path: Path) -> TilesetFacts:
    """Return the summary of an MBTiles file, with zooms and counts computed from its tiles."""
    with MBTiles(path) as mbtiles:
        metadata = mbtiles.metadata()
        counts = mbtiles.rows(
            "SELECT zoom_level, count(*) FROM tiles GROUP BY zoom_level ORDER BY zoom_level LIMIT ?", (_MAX_ZOOMS,)
        )
        tiles = {int(zoom): int(count) for zoom, count in counts}
        tile_format = mbtiles.tile_format()
    details = _json(metadata.get("json"))
    bounds = _numbers(metadata.get("bounds"), 4) or (-180.0, -85.051129, 180.0, 85.051129)
    minzoom, maxzoom = min(tiles, default=0), max(tiles, default=0)
    west, south, east, north = bounds
    center = _numbers(metadata.get("center"), 3) or ((west + east) / 2, (south + north) / 2, minzoom)
    return TilesetFacts(
        format=tile_format or str(metadata.get("format", "pbf")),
        minzoom=minzoom,
        maxzoom=maxzoom,
        bounds=(west, south, east, north),
        center=(center[0], center[1], int(center[2])),
        vector_layers=[layer for layer in details.get("vector_layers", []) if isinstance(layer, dict)],
        tiles=tiles,
        features=_feature_counts(details.get("tilestats")),
        is_tiff=metadata.get(SOURCE_KEY) == TIFF,
    )


def read_tile(path: Path, zoom: int, column: int, row: int) -> bytes | None:
    """Return a tile as stored, or None if it is missing.

    :param row: row number from the north, as in URLs; MBTiles counts from the south.
    """
    if not (0 <= zoom <= 30 and 0 <= column < 2**zoom and 0 <= row < 2**zoom):
        return None
    with MBTiles(path) as mbtiles:
        tile = mbtiles.row(
            "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?",
            (zoom, column, 2**zoom - 1 - row),
        )
    return bytes(tile[0]) if tile else None


def format_of_tile(tile: bytes) -> str | None:
    """Return a tile's format by its bytes, as mapbox/tiletype does: a vector tile is always compressed."""
    if tile.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if tile.startswith(b"\xff\xd8") and tile.endswith(b"\xff\xd9"):
        return "jpg"
    if tile.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if tile[:4] == b"RIFF" and tile[8:12] == b"WEBP":
        return "webp"
    return "pbf" if tile.startswith((b"\x1f\x8b", b"\x78\x9c")) else None


def _feature_counts(stats: Any) -> dict[str, int] | None:
    """Return the number of features by layer from tile statistics of tippecanoe or mapbox-geostats."""
    try:
        return {str(layer["layer"]): int(layer["count"]) for layer in stats["layers"]}
    except (TypeError, KeyError, ValueError):
        return None


def _json(value: Any) -> dict[str, Any]:
    try:
        details = json.loads(value)
    except (TypeError, ValueError):
        return {}
    return details if isinstance(details, dict) else {}


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(part) for part in str(value).split(","))
    except ValueError:
        return None
    return numbers if len(numbers) == count else None
