"""
Check MBTiles by the rules of Mapbox's validator: the database, its metadata, its tiles.

The order is Mapbox's, so the first problem is the message that Mapbox would give. Queries that read much come last, and
all of them share one deadline: what is not answered by then becomes a note, not a refusal.
"""

from __future__ import annotations

import math
import re
import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from airflow_mapbox.errors import SourceError, SourceUnavailableError
from airflow_mapbox.limits import MAX_TILE_ZOOM, MAX_TILES, TILE_BYTES
from airflow_mapbox.preflight import mbtiles_metadata as metadata
from airflow_mapbox.preflight.database import Database, TooSlowError, UncheckableError
from airflow_mapbox.preflight.findings import Content, Finding, finding
from airflow_mapbox.preflight.vectortile import TileError, layers_of
from airflow_mapbox.rules import mbtiles as rules
from airflow_mapbox.rules.rule import Rule
from airflow_mapbox.sources.ranges import FileRanges

# https://www.sqlite.org/fileformat.html, "The Database Header"
_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\x00"
_FRACTIONS = b"\x40\x20\x20"

# For all queries of a file, for one of them, and for a zoom, which an index answers at once.
_SECONDS = 4.0
_QUERY_SECONDS = 2.5
_ZOOM_SECONDS = 0.5
_SAMPLED_TILES = 20
_MAX_VIEW_USES, _MAX_VIEW_DEPTH = 5_000, 20
_MAX_METADATA_ROWS = 10_000
_MAX_JSON_BYTES = 4 << 20
_MAX_METADATA_BYTES = 8 << 20
_MAX_NAMED = 5
_MAX_UNPACKED_BYTES = 20_000_000
_MANY_UNPACKED_BYTES = 5_000_000
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS

# The end of Mapbox's messages about large tiles and grids.
_LESS_DETAIL = "Reduce the detail of data at this zoom level or omit it by adjusting your minzoom."

_NO_COLUMN = re.compile(r"no such column: (?:\w+\.)*(\w+)")
_NO_TABLE = "no such table"
_VIRTUAL = re.compile(r"\s*CREATE\s+VIRTUAL\b", re.IGNORECASE)
_WORDS = re.compile(r"\w+")
# Errors of SQLite that come from the disk or the memory, not from the file's content.
_OF_THE_MACHINE = (
    "SQLITE_IOERR_READ",
    "SQLITE_IOERR_FSTAT",
    "SQLITE_CANTOPEN",
    "SQLITE_FULL",
    "SQLITE_NOMEM",
    "SQLITE_PERM",
)
# A view that adds or leaves out rows of the tables that it joins.
_NOT_PLAIN = frozenset({"where", "union", "limit", "group", "distinct", "having", "except", "intersect", "recursive"})
_TABLES = ("metadata", "tiles", "grids")


def check_mbtiles(
    path: Path, content: Content, *, all_tiles: bool = False, clock: Callable[[], float] = time.monotonic
) -> Iterator[Finding]:
    """
    Check a local MBTiles file.

    :param path: the file.
    :param content: receives layers, number of tiles, bounds and zooms.
    :param all_tiles: whether to read every tile, not a sample of twenty.
    :param clock: seconds.
    :raises SourceError: if the file cannot be read.
    """
    with FileRanges(path) as file:
        head, size = file.read(0, _HEADER_BYTES), file.size
    findings = list(check_mbtiles_header(head, size))
    log = path.with_name(f"{path.name}-wal")
    if not findings and _size_of(log):
        findings.append(
            finding(
                rules.NOT_WRITTEN, f"has changes in {log.name} that are not yet in the file itself.", where=log.name
            )
        )
    if findings:
        yield from findings
        return
    failure = ""
    try:
        with Database(path, _SECONDS, clock) as database:
            yield from _Check(database, content, path.name, size).run(all_tiles=all_tiles)
    except TooSlowError:
        yield finding(
            rules.TOO_SLOW, f"has a schema that takes more than {_SECONDS:g} seconds to read.", where="schema"
        )
    except (sqlite3.Error, UnicodeError, OverflowError) as error:
        if str(getattr(error, "sqlite_errorname", "")).startswith(_OF_THE_MACHINE):
            failure = f"The source {path} can no longer be read ({error}).\nCheck its disk, then run the task again."
        else:
            yield _broken(error)
    if failure:
        raise SourceUnavailableError(failure)


def _size_of(log: Path) -> int:
    """Return the size of a log; 0 if there is no log."""
    try:
        with FileRanges(log) as file:
            return file.size
    except SourceUnavailableError:
        raise
    except SourceError:
        return 0


def check_mbtiles_header(head: bytes, size: int | None) -> Iterator[Finding]:
    """
    Check the header of an MBTiles file.

    :param head: its first bytes; 100 are enough.
    :param size: its size in bytes; None if it is unknown.
    """
    if not head.startswith(_MAGIC[: min(len(head), 15)]):
        yield finding(rules.NOT_DATABASE, "is not an SQLite database.", where="header", message="Unknown filetype")
        return
    if len(head) < _HEADER_BYTES:
        yield finding(rules.CUT_OFF, f"is a database of {len(head)} bytes: it is cut off.", where="header")
        return
    page_bytes = int.from_bytes(head[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes  # 65,536 does not fit into the field
    if (
        not head.startswith(_MAGIC)
        or page_bytes < 512
        or page_bytes & (page_bytes - 1)
        or max(head[18], head[19]) > 2
        or head[21:24] != _FRACTIONS
    ):
        yield finding(
            rules.NOT_DATABASE, "has a header that SQLite cannot read.", where="header", reason="not a database"
        )
        return
    pages = int.from_bytes(head[28:32], "big")
    # Old versions of SQLite do not write the number of pages ("In-header database size").
    if size is not None and head[24:28] == head[92:96] and pages * page_bytes > size:
        yield finding(
            rules.CUT_OFF,
            f"has {size:,} of the {pages * page_bytes:,} bytes in its header: it is cut off.",
            where="header",
        )


def _broken(error: Exception) -> Finding:
    code = getattr(error, "sqlite_errorname", None)
    if code == "SQLITE_NOTADB":
        return finding(
            rules.NOT_DATABASE, "is a database that cannot be read (not a database).", reason="not a database"
        )
    message = f"{code}: {error}" if code and code != "SQLITE_CORRUPT" else None
    return finding(rules.BROKEN, f"is a database that cannot be read ({error}).", message=message)


class _Check:
    """
    The check of one database.

    :param database: the database.
    :param content: receives facts.
    :param name: the file's name.
    :param size: its size in bytes.
    """

    def __init__(self, database: Database, content: Content, name: str, size: int) -> None:
        self._database = database
        self._content = content
        self._name = name
        self._size = size
        self._late: list[str] = []
        self._unsafe: list[str] = []
        self._columns: set[str] = set()
        self._endless = False
        self._counts: Counter[Rule] = Counter()
        self._deduplicated = _is_deduplicated(database.schema)

    def run(self, *, all_tiles: bool) -> Iterator[Finding]:
        """
        Yield the findings.

        :param all_tiles: whether to read every tile.
        """
        schema = self._database.schema
        if not schema.keys() & {"tiles", "grids"}:
            yield finding(rules.NO_TILES_TABLE, "is an SQLite database without a table of tiles, so it is not MBTiles.")
            return
        if unsafe := _unsafe_tables(schema):
            yield finding(
                rules.UNSAFE, f"has the table or view {unsafe[0]}, which is not safe to read.", where=unsafe[0]
            )
            return
        if "metadata" not in schema:
            yield finding(rules.NO_METADATA, "is an MBTiles file without a table of metadata.")
        # Asked in the order of their costs. A view that is too large is refused for its count.
        rows, tile, has_carmen = self._metadata_rows(), self._first_tile(), self._has_carmen()
        tiles, grids = self._count("tiles"), self._count("grids")
        zooms = self._tile_zooms()
        info = yield from self._check_metadata(rows, zooms)
        first = yield from self._check_first_tile(tile, info)
        if has_carmen:
            yield finding(rules.CARMEN, "has rows in the table carmen, an old index for search.", where="carmen")
        yield from self._check_counts(tiles, grids)
        yield from _check_zooms(rows, zooms, self._grid_zoom())
        self._describe(info, zooms, tiles)
        yield from self._check_tiles(info, first, tiles, all_tiles=all_tiles)
        if not all_tiles or self._late:
            yield from self._check_lengths()
        if grids != 0:
            yield from self._check_grid_lengths()
        yield from self._explain()

    def _explain(self) -> Iterator[Finding]:
        for column in sorted(self._columns):
            yield finding(rules.NO_COLUMN, f"lacks the column {column} in a table.", where=column, column=column)
        if self._endless:
            yield finding(rules.TOO_SLOW, f"has a recursive view that does not end within {_SECONDS:g} seconds.")
        if self._late:
            self._content.notes.append(
                f"The database took more than {_SECONDS:g} seconds, so some of it was not checked: "
                f"{', '.join(dict.fromkeys(self._late))}."
            )
        for reason in dict.fromkeys(self._unsafe):
            self._content.notes.append(f"A view uses {reason}, which is not safe to run: its rows were not checked.")

    # --- Queries ---

    def _row(
        self, what: str, query: str, *parameters: object, seconds: float = _QUERY_SECONDS
    ) -> tuple[Any, ...] | None:
        return next(self._rows(what, query, *parameters, seconds=seconds), None)

    def _rows(
        self, what: str, query: str, *parameters: object, seconds: float = _QUERY_SECONDS
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows; a missing table has no rows. An error that is not a broken database is reported at the end."""
        try:
            yield from self._database.rows(query, *parameters, seconds=seconds)
        except TooSlowError:
            self._late.append(what)
            self._endless |= self._database.is_recursive
        except UncheckableError as error:
            self._unsafe.append(str(error))
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR:
                raise
            missing = _NO_COLUMN.search(str(error))
            if missing is not None:
                self._columns.add(missing[1])
            elif _NO_TABLE not in str(error):
                raise
        except sqlite3.DataError:  # a value above the length limit
            self._late.append(f"{what} (a value has more than 20 MB)")

    def _tile_zooms(self) -> tuple[Any, Any] | None:
        """Return the lowest and highest zoom, both None without tiles; None without a table of tiles."""
        if "tiles" not in self._database.schema:
            return None
        table = "map" if self._deduplicated else "tiles"
        found = []
        for order in ("ASC", "DESC"):
            row = self._row(
                "zooms",
                f"SELECT zoom_level FROM {table} WHERE zoom_level IS NOT NULL ORDER BY zoom_level {order} LIMIT 1",  # noqa: S608
                seconds=_ZOOM_SECONDS,
            )
            found.append(None if row is None else _zoom(row[0]))
        if "zooms" in self._late or self._unsafe:
            return None
        return found[0], found[1]

    def _grid_zoom(self) -> Any:
        row = self._row("zooms of grids", "SELECT MAX(zoom_level) FROM grids") if self._has("grids") else None
        return None if row is None else _zoom(row[0])

    def _has(self, table: str) -> bool:
        return table in self._database.schema

    def _metadata_rows(self) -> list[tuple[Any, Any]]:
        if not self._has("metadata"):
            return []
        rows: list[tuple[Any, Any]] = []
        size = 0
        query = "SELECT name, value FROM metadata LIMIT ?"
        for name, value in self._rows("metadata", query, _MAX_METADATA_ROWS + 1):
            size += sum(len(text) for text in (name, value) if isinstance(text, str | bytes))
            if len(rows) == _MAX_METADATA_ROWS or size > _MAX_METADATA_BYTES:
                self._content.notes.append(
                    f"The metadata has more than {_MAX_METADATA_ROWS:,} rows or {_MAX_METADATA_BYTES:,} characters: "
                    f"only the first {len(rows):,} rows were read."
                )
                break
            if isinstance(value, str | bytes) and len(value) > _MAX_JSON_BYTES:
                self._content.notes.append(f"The metadata's {name} has {len(value):,} characters and was not read.")
            else:
                rows.append((name, value))
        return rows

    # --- Rules ---

    def _check_metadata(
        self, rows: list[tuple[Any, Any]], zooms: tuple[Any, Any] | None
    ) -> Generator[Finding, None, metadata.Info]:
        """Yield what is wrong with the metadata, and return it with what Mapbox adds."""
        findings: list[Finding] = []
        info = metadata.read_info(rows, findings)
        self._complete(info, zooms)
        checked = metadata.with_defaults(info)
        findings += metadata.check_info(checked, self._name, self._size)
        yield from findings
        yield from metadata.check_high_zoom(checked["maxzoom"] if "maxzoom" in info else None)
        if metadata.is_true(info.get("formatter")):
            yield finding(
                rules.TILEMILL, "has metadata with a formatter, which old versions of TileMill wrote.", where="metadata"
            )
        return info

    def _complete(self, info: metadata.Info, zooms: tuple[Any, Any] | None) -> None:
        """Add zooms, bounds and center as Mapbox does."""
        known = "minzoom" in info and "maxzoom" in info
        # Mapbox asks for each of the zooms 0 to 29.
        if (
            not known
            and zooms is not None
            and all(isinstance(zoom, int) and 0 <= zoom < MAX_TILE_ZOOM for zoom in zooms)
        ):
            info["minzoom"], info["maxzoom"] = zooms
        if "bounds" not in info and isinstance(info.get("minzoom"), int) and 0 <= info["minzoom"] <= MAX_TILE_ZOOM:
            bounds = self._tile_bounds(info["minzoom"])
            if bounds is not None:
                info["bounds"] = list(bounds)
        bounds = metadata.bounds_of(info)
        low, high = info.get("minzoom"), info.get("maxzoom")
        if "center" not in info and bounds is not None and isinstance(low, int) and isinstance(high, int):
            zoom = high if high - low <= 1 else (high - low) // 2 + low
            info["center"] = [(bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2, zoom]

    def _tile_bounds(self, zoom: int) -> tuple[float, float, float, float] | None:
        columns = "MIN(tile_column), MIN(tile_row), MAX(tile_column), MAX(tile_row)"
        table = "map" if self._deduplicated else "tiles"
        row = self._row(
            "bounds",
            f"SELECT {columns} FROM {table} WHERE zoom_level = ?",  # noqa: S608
            zoom,
        )
        numbers: list[int] = []
        for value in row or ():
            number = _zoom(value)
            if not isinstance(number, int):
                return None
            numbers.append(number)
        if not numbers:
            return None
        count = 1 << zoom
        west, east = (360 * number / count - 180 for number in (numbers[0], numbers[2] + 1))
        south, north = (_latitude(2 * number / count - 1) for number in (numbers[1], numbers[3] + 1))
        return max(west, -180.0), max(south, -90.0), min(east, 180.0), min(north, 90.0)

    def _first_tile(self) -> tuple[Any, ...] | None:
        return self._row("first tile", "SELECT tile_data FROM tiles LIMIT 1") if self._has("tiles") else None

    def _check_first_tile(
        self, tile: tuple[Any, ...] | None, info: metadata.Info
    ) -> Generator[Finding, None, str | None]:
        """Yield the problems of the first tile, and return its format; None without one."""
        if tile is None:
            return None
        (data,) = tile
        if data is None or data == "" or data == 0:
            yield finding(rules.FIRST_TILE, "has a first tile without data.", where="first tile")
            return None
        kind = tile_type(data)
        if kind is None:
            hint = ""
            if _is_plain_vector_tile(data):
                hint = ": it is a vector tile that is not compressed"
            yield finding(rules.TILE_FORMAT, f"has a first tile of an unknown format{hint}.", where="first tile")
        if kind == "pbf":
            yield from self._check_layers(info)
        return kind

    def _check_layers(self, info: metadata.Info) -> Iterator[Finding]:
        # Null is no layers, either: Mapbox's program fails when it counts them.
        if info.get("vector_layers") is None:
            yield finding(
                rules.NO_VECTOR_LAYERS, "has vector tiles, but no vector_layers in its metadata.", where="metadata.json"
            )
        counts = Counter(metadata.layer_ids(info))
        for identifier in [name for name, count in counts.items() if count > 1][:_MAX_NAMED]:
            yield finding(
                rules.DUPLICATE_LAYERS,
                f"has {counts[identifier]} vector layers with the id {_short(identifier)}.",
                where="metadata.vector_layers",
                id=identifier,
            )

    def _has_carmen(self) -> bool:
        """Return whether the old search index has rows. It is a virtual table, which keeps them in another one."""
        kind, sql = self._database.schema.get("carmen", ("", ""))
        if not kind:
            return False
        table = "carmen_content" if _VIRTUAL.match(sql) else "carmen"
        return self._row("old search index", f"SELECT 1 FROM {table} LIMIT 1") is not None  # noqa: S608

    def _check_counts(self, tiles: int | None, grids: int | None) -> Iterator[Finding]:
        if tiles == 0 and grids == 0:
            yield finding(rules.EMPTY, "has no tiles.", where="tiles")
        total = (tiles or 0) + (grids or 0)
        if total > MAX_TILES:
            yield finding(
                rules.TOO_MANY, f"has more than {MAX_TILES:,} tiles and grids, which is Mapbox's limit.", where="tiles"
            )

    def _count(self, table: str) -> int | None:
        """Return the number of rows, up to one more than allowed; None if it takes too long."""
        if not self._has(table):
            return 0
        if table == "tiles" and self._deduplicated:
            if self._row("number of tiles", "SELECT 1 FROM tiles LIMIT 1") is None:
                return None if "number of tiles" in self._late else 0
            table = "map"
        # SQLite counts a table by its smallest index. It would count all rows of an endless view.
        is_table = self._database.schema[table][0] == "table"
        rows = f"{table}" if is_table else f"(SELECT 1 FROM {table} LIMIT {MAX_TILES + 1})"  # noqa: S608
        before = len(self._late), len(self._unsafe), len(self._columns)
        row = self._row(f"number of {table}", f"SELECT COUNT(*) FROM {rows}")  # noqa: S608
        if row is None:
            return None if (len(self._late), len(self._unsafe), len(self._columns)) != before else 0
        return int(row[0])

    def _describe(self, info: metadata.Info, zooms: tuple[Any, Any] | None, tiles: int | None) -> None:
        content = self._content
        ids = metadata.layer_ids(info)
        content.layers = tuple(dict.fromkeys(ids)) if ids else None
        content.features = tiles
        content.bounds = metadata.bounds_of(info)
        low, high = zooms if zooms is not None and zooms[0] is not None else (info.get("minzoom"), info.get("maxzoom"))
        content.minzoom = low if isinstance(low, int) else None
        content.maxzoom = high if isinstance(high, int) else None

    # --- Tiles ---

    def _check_tiles(
        self, info: metadata.Info, first: str | None, tiles: int | None, *, all_tiles: bool
    ) -> Iterator[Finding]:
        if not tiles:
            return
        layers = frozenset(metadata.layer_ids(info))
        if all_tiles and tiles <= MAX_TILES:
            query = "SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles"
            rows = self._rows("all tiles", query)
        else:
            rows = self._sample()
        for row in rows:
            if all_tiles:
                self._database.start_again()
            for item in _check_tile(row, first, layers):
                self._counts[item.rule] += 1
                if self._counts[item.rule] <= _MAX_NAMED:
                    yield item
        for rule, count in self._counts.items():
            if count > _MAX_NAMED:
                self._content.notes.append(f"{count:,} tiles break the rule {rule.name}; {_MAX_NAMED} are named.")

    def _sample(self) -> Iterator[tuple[Any, ...]]:
        """Yield some tiles from all parts of the file."""
        columns = "zoom_level, tile_column, tile_row, tile_data"
        table = "map" if self._deduplicated else "tiles"
        last = self._last_rowid(table)
        if last is None:
            yield from self._rows("sample of tiles", f"SELECT {columns} FROM tiles LIMIT ?", _SAMPLED_TILES)  # noqa: S608
            return
        if self._deduplicated:
            query = (
                "SELECT m.zoom_level, m.tile_column, m.tile_row, i.tile_data FROM (SELECT * FROM map WHERE rowid >= ? "
                "ORDER BY rowid LIMIT 1) AS m JOIN images AS i USING (tile_id) LIMIT 1"
            )
        else:
            query = f"SELECT {columns} FROM tiles WHERE rowid >= ? ORDER BY rowid LIMIT 1"  # noqa: S608
        seen = set()
        for number in range(_SAMPLED_TILES):
            row = self._row("sample of tiles", query, 1 + number * last // _SAMPLED_TILES)
            if row is not None and row[:3] not in seen:
                seen.add(row[:3])
                yield row

    def _last_rowid(self, table: str) -> int | None:
        """Return the highest row number; None for a view, or a table without row numbers."""
        if self._database.schema[table][0] != "table":
            return None
        try:
            row = self._database.row(f"SELECT MAX(rowid) FROM {table}")  # noqa: S608
        except (TooSlowError, UncheckableError, sqlite3.OperationalError):
            return None
        return int(row[0]) if row is not None and isinstance(row[0], int) else None

    def _check_lengths(self) -> Iterator[Finding]:
        if not self._has("tiles") or self._counts[rules.TILE_SIZE]:
            return
        if self._deduplicated:
            row = self._row("sizes of tiles", "SELECT MAX(LENGTH(tile_data)), tile_id FROM images")
            if row is not None and _is_above(row[0], TILE_BYTES):
                zoom = self._row("sizes of tiles", "SELECT zoom_level FROM map WHERE tile_id = ? LIMIT 1", row[1])
                row = (row[0], zoom[0] if zoom is not None else "…")
        else:
            row = self._row("sizes of tiles", "SELECT MAX(LENGTH(tile_data)), zoom_level FROM tiles")
        if row is not None and _is_above(row[0], TILE_BYTES):
            yield _too_large(row[0], row[1], "")

    def _check_grid_lengths(self) -> Iterator[Finding]:
        row = (
            self._row("sizes of grids", "SELECT MAX(LENGTH(grid)), zoom_level FROM grids")
            if self._has("grids")
            else None
        )
        if row is not None and _is_above(row[0], TILE_BYTES):
            yield finding(
                rules.GRID_SIZE,
                f"has a grid of {row[0]:,} bytes at zoom {row[1]}; Mapbox's limit is {TILE_BYTES:,}.",
                where=f"zoom {row[1]}",
                zoom=row[1],
                advice=_LESS_DETAIL,
            )


def _is_deduplicated(schema: dict[str, tuple[str, str]]) -> bool:
    """Return whether the tiles are the usual view that joins map and images, whose tables answer faster."""
    kind, sql = schema.get("tiles", ("", ""))
    words = set(_WORDS.findall(sql.lower()))
    return (
        kind == "view"
        and {"map", "images"} <= words
        and not words & _NOT_PLAIN
        and all(schema.get(table, ("", ""))[0] == "table" for table in ("map", "images"))
        and {"tile_id", "zoom_level"} <= set(_WORDS.findall(schema["map"][1].lower()))
        and {"tile_id", "tile_data"} <= set(_WORDS.findall(schema["images"][1].lower()))
    )


def _unsafe_tables(schema: dict[str, tuple[str, str]]) -> list[str]:
    """
    Return what a query of MBTiles must not read: virtual tables, and views that SQLite would expand too often.

    A name counts as often as it is in the view's SQL, which is at least as often as SQLite reads it.
    """
    uses: dict[str, int] = {}

    def count(name: str, above: tuple[str, ...]) -> int:
        if name in above or len(above) > _MAX_VIEW_DEPTH:
            return _MAX_VIEW_USES + 1
        if name not in uses:
            kind, sql = schema[name]
            words = Counter(_WORDS.findall(sql.lower())) if kind == "view" else Counter[str]()
            del words[name]  # CREATE VIEW has it, too
            number = 1
            for word, times in words.items():
                if word in schema and number <= _MAX_VIEW_USES:
                    number += times * count(word, (*above, name))
            uses[name] = _MAX_VIEW_USES + 1 if _VIRTUAL.match(sql) else number
        return uses[name]

    return [name for name in _TABLES if name in schema and count(name, ()) > _MAX_VIEW_USES]


def _check_zooms(rows: list[tuple[Any, Any]], zooms: tuple[Any, Any] | None, highest_grid: Any) -> Iterator[Finding]:
    for zoom in (zooms[1] if zooms is not None else None, highest_grid):
        if _is_above(zoom, MAX_TILE_ZOOM):
            yield finding(
                rules.MAXZOOM,
                f"has tiles or grids at zoom {zoom}; Mapbox's limit is {MAX_TILE_ZOOM}.",
                where="tiles",
                maximum=MAX_TILE_ZOOM,
                zoom=zoom,
                advice="If you need support for 1cm tilesets please reach out to support.",
            )
    if zooms is None:
        return
    values = {name: metadata.parse_int(value) for name, value in reversed(rows) if name in ("fillzoom", "maxzoom")}
    # Mapbox compares with JavaScript, where the zoom of no tile is null and counts as 0.
    lowest, highest = (0 if zoom is None else zoom for zoom in zooms)
    for name in ("fillzoom", "maxzoom"):
        value = values.get(name, math.nan)
        if value < lowest:
            problem = ("lower", "minzoom", zooms[0])
        elif name == "maxzoom" and value < highest:
            problem = ("lower", "maxzoom", zooms[1])
        elif value > highest and (name == "fillzoom" or "fillzoom" not in values):
            problem = ("higher", "maxzoom", zooms[1])
        else:
            continue
        relation, bound, zoom = problem
        zoom = "null" if zoom is None else zoom
        yield finding(
            rules.ZOOMS,
            f"has the {name} {value} in its metadata, which is {relation} than its tiles' {bound} {zoom}.",
            where=f"metadata.{name}",
            name=name,
            value=value,
            relation=relation,
            bound=bound,
            zoom=zoom,
        )


def _check_tile(row: tuple[Any, ...], first: str | None, layers: frozenset[str]) -> Iterator[Finding]:
    zoom, column, line, data = row
    where = f"tile {zoom}/{column}/{line}"
    kind = tile_type(data)
    if kind is None and first is None:
        return  # as the first tile, whose finding says it
    if kind is None or (first is not None and (kind == "pbf") != (first == "pbf")):
        what = (
            "no data" if data is None or data == "" else "another format than the first" if kind else "no known format"
        )
        yield finding(rules.OTHER_TILE, f"has the {where} with {what}.", where=where)
        return
    if len(data) > TILE_BYTES:
        yield _too_large(len(data), zoom, where)
    elif kind == "pbf":
        yield from _check_vector_tile(data, where, layers)


def _check_vector_tile(data: bytes, where: str, layers: frozenset[str]) -> Iterator[Finding]:
    unzip = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        tile = unzip.decompress(data, _MAX_UNPACKED_BYTES)
        if len(tile) > _MANY_UNPACKED_BYTES:
            yield finding(
                rules.TILE_UNPACKED,
                f"has the {where} with {len(tile):,} bytes or more after decompression.",
                where=where,
            )
        if len(tile) >= _MAX_UNPACKED_BYTES:
            return
        if not unzip.eof:
            raise TileError("end of buffer exception")  # noqa: TRY301
        found = layers_of(tile)
    except (zlib.error, TileError) as error:
        reason = str(error) if isinstance(error, TileError) else "…"
        problem = "has broken compression" if isinstance(error, zlib.error) else f"breaks the specification: {error}"
        yield finding(rules.VECTOR_TILE, f"has the {where}, which {problem}.", where=where, reason=reason)
        return
    counts = Counter(layer.name for layer in found)
    problems = [f"the layer {_short(name)} {count} times" for name, count in counts.items() if count > 1]
    problems += [f"the layer {_short(layer.name)} without features" for layer in found if not layer.features]
    if layers:
        problems += [
            f"the layer {_short(name)}, which is not in vector_layers" for name in counts if name not in layers
        ]
    if problems:
        yield finding(rules.TILE_LAYERS, f"has the {where} with {problems[0]}.", where=where)


def _too_large(size: int, zoom: object, where: str) -> Finding:
    place = f"the {where}" if where else "a tile"
    return finding(
        rules.TILE_SIZE,
        f"has {place} with {size:,} bytes at zoom {zoom}; Mapbox's limit is {TILE_BYTES:,}.",
        where=where or f"zoom {zoom}",
        zoom=zoom,
        advice=_LESS_DETAIL,
    )


def tile_type(data: object) -> str | None:
    """
    Return the type that Mapbox recognises by a tile's first bytes: png, jpg, gif, webp, pbf; or None.

    Compressed data counts as a vector tile (pbf), whatever it contains.

    :param data: the tile.
    """
    if not isinstance(data, bytes):
        return None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9"):
        return "jpg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return "pbf" if data.startswith((b"\x78\x9c", b"\x1f\x8b")) else None


def _is_plain_vector_tile(data: object) -> bool:
    try:
        return isinstance(data, bytes) and len(data) <= _MANY_UNPACKED_BYTES and bool(layers_of(data))
    except TileError:
        return False


def _zoom(value: object) -> float | None:
    """Return a zoom, column or row as JavaScript compares it: NaN if it is neither a number nor begins with one."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return metadata.parse_int(value)


def _is_above(value: object, limit: int) -> bool:
    return isinstance(value, int | float) and value > limit


def _latitude(y: float) -> float:
    """Return the latitude in degrees of a place on the map's square, whose edges are at -1 and 1."""
    return math.degrees(math.atan(math.sinh(math.pi * max(-10.0, min(10.0, y)))))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")
