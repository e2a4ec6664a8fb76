"""Reading a published MBTiles file: its metadata and its tiles."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A table may be a view that never ends, or that never comes to its first row: a query that gives no row for so long is
# given up. Counting the most tiles that Mapbox takes needs a few seconds.
QUERY_SECONDS = 15.0
_STEPS = 100_000  # of SQLite's virtual machine between two looks at the clock: some milliseconds
# The largest value; a tile may have 512,000 bytes.
_VALUE_BYTES = 64 << 20
METADATA_BYTES = 60 * 1024
# Zooms that are listed; there are 31.
_ZOOMS = 31

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


class EndlessError(Exception):
    """A query was given up."""


class MetadataTooLargeError(Exception):
    """There is more metadata than Mapbox takes."""


class MBTiles:
    """An MBTiles file, opened to be read; others made it, so nothing in it is trusted.

    :param path: the file.
    :param tick: called now and then; raises where the work is to be given up.
    """

    def __init__(self, path: Path, *, tick: Callable[[], None] = lambda: None) -> None:
        # Published files are replaced, not changed: without immutable, SQLite would look for a journal beside them.
        self._db = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        self._db.execute("PRAGMA query_only = ON")
        # A view may call only what is harmless wherever it is called.
        self._db.execute("PRAGMA trusted_schema = OFF")
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_BYTES)
        self._db.set_progress_handler(self._look, _STEPS)
        self._tick = tick
        self._last_row = 0.0
        self._raised: BaseException | None = None

    def __enter__(self) -> MBTiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def rows(self, query: str, parameters: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query; of a table that is missing there are none, as for Mapbox.

        :raises EndlessError: where none comes for too long.
        :raises sqlite3.Error: for what is no database, or another one.
        """
        try:
            self._last_row = time.monotonic()
            for row in self._db.execute(query, parameters):
                yield row
                self._last_row = time.monotonic()
        except sqlite3.OperationalError as error:
            raised, self._raised = self._raised, None
            if raised is not None:
                raise raised from None
            if not str(error).startswith("no such table"):
                raise

    def row(self, query: str, parameters: tuple[object, ...] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query, or None; raises as :meth:`rows` does."""
        return next(self.rows(query, parameters), None)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata.

        :raises MetadataTooLargeError: for more than Mapbox takes.
        """
        found: dict[str, Any] = {}
        size = 0
        for name, value in self.rows("SELECT name, value FROM metadata"):
            # Rows without a byte are counted too: there may be any number of them.
            size += max(1, len(str(name).encode()) + len(str(value).encode()))
            if size > METADATA_BYTES:
                raise MetadataTooLargeError
            found[str(name)] = value
        return found

    def kind(self) -> str | None:
        """Return what the first tile is; what the metadata says of it Mapbox does not ask."""
        first = self.row("SELECT tile_data FROM tiles LIMIT 1")
        return kind_of(first[0]) if first is not None and isinstance(first[0], bytes) else None

    def _look(self) -> int:
        """Interrupt the query where it is to be given up; SQLite itself would swallow what is raised here."""
        try:
            self._tick()
        except BaseException as error:
            self._raised = error
        else:
            self._raised = EndlessError() if time.monotonic() - self._last_row > QUERY_SECONDS else None
        return int(self._raised is not None)


def read_facts(path: Path) -> TilesetFacts:
    """Return what an MBTiles file says of itself, with zooms and counts taken from the tiles."""
    with MBTiles(path) as mbtiles:
        metadata = mbtiles.metadata()
        counts = mbtiles.rows(
            "SELECT zoom_level, count(*) FROM tiles GROUP BY zoom_level ORDER BY zoom_level LIMIT ?", (_ZOOMS,)
        )
        tiles = {int(zoom): int(count) for zoom, count in counts}
        kind = mbtiles.kind()
    details = _json(metadata.get("json"))
    bounds = _numbers(metadata.get("bounds"), 4) or (-180.0, -85.051129, 180.0, 85.051129)
    minzoom, maxzoom = min(tiles, default=0), max(tiles, default=0)
    west, south, east, north = bounds
    center = _numbers(metadata.get("center"), 3) or ((west + east) / 2, (south + north) / 2, minzoom)
    return TilesetFacts(
        format=kind or str(metadata.get("format", "pbf")),
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
    with MBTiles(path) as mbtiles:
        found = mbtiles.row(
            "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?",
            (zoom, column, 2**zoom - 1 - row),
        )
    return bytes(found[0]) if found else None


def kind_of(tile: bytes) -> str | None:
    """Return a tile's format by its first bytes, as mapbox/tiletype does: a vector tile is packed."""
    if tile.startswith(b"\x89PNG"):
        return "png"
    if tile.startswith(b"\xff\xd8"):
        return "jpg"
    if tile[:4] == b"RIFF" and tile[8:12] == b"WEBP":
        return "webp"
    return "pbf" if tile.startswith((b"\x1f\x8b", b"\x78\x9c")) else None


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
