"""
Check CSV of any size while its bytes pass, like Mapnik, which reads CSV at Mapbox.

Rows are parsed in chunks by the standard library. A chunk ends at a line break that is not inside a quoted cell: there,
the number of quotation marks before it is even.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE
from airflow_mapbox.preflight.csvcells import QUOTED, split_cells
from airflow_mapbox.preflight.features import Features, beyond_map, guess_cause
from airflow_mapbox.preflight.findings import Content, Finding, finding
from airflow_mapbox.preflight.memory import without_garbage_collection
from airflow_mapbox.preflight.sniff import columns_of, geometry_columns, separator_of, x_columns, y_columns
from airflow_mapbox.preflight.text import not_utf8
from airflow_mapbox.rules import csv as rules
from airflow_mapbox.rules import files as file_rules
from airflow_mapbox.rules.remedies import WRITER

# The cells of larger chunks fall out of the processor's cache.
_CHUNK_BYTES = 64 * 1024
_CHUNK_CHARACTERS = _CHUNK_BYTES // 2
# Parsing a row takes up to 15 times its text in memory.
_MAX_ROW_CHARACTERS = 8 * 2**20
_HEADER_BYTES = 64 * 1024
_MAX_CUTS_TRIED = 1000
# GEOS reads collections in collections recursively, and thousands of them end the process.
_MAX_BRACKETS = 100
# The limit of the csv module is one for the whole process.
_FIELD_LIMIT = threading.Lock()

Box: TypeAlias = "tuple[float, float, float, float]"


class CSVCheck:
    """
    The check of one table, whose bytes are fed to it.

    :param content: gets the number of rows, the bounds, and notes on what was not checked.
    """

    def __init__(self, content: Content) -> None:
        self.findings: list[Finding] = []
        self._content = content
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._bytes = 0
        self._text = ""
        self._needed = _CHUNK_CHARACTERS
        self._rows: _Rows | None = None
        self._is_stopped = False

    def feed(self, data: bytes | memoryview) -> None:
        """
        Check the next bytes.

        :param data: the bytes that follow those of the call before.
        """
        for start in range(0, len(data), _CHUNK_BYTES):
            if not self._is_stopped:
                self._decode(bytes(data[start : start + _CHUNK_BYTES]), is_end=False)
                if len(self._text) >= self._needed:
                    self._read_rows(is_end=False)

    def close(self, *, is_whole: bool = True) -> list[Finding]:
        """
        Check the last rows, and all rows together.

        :param is_whole: whether all bytes of the file were fed. Otherwise the last row is cut, and not checked.
        :return: the findings.
        """
        if not self._is_stopped:
            self._decode(b"", is_end=is_whole)
            self._read_rows(is_end=is_whole)
        is_whole = is_whole and not self._is_stopped
        if self._rows is not None:
            self.findings += self._rows.findings(is_whole=is_whole)
            if is_whole:
                self._content.features, self._content.bounds = self._rows.count, self._rows.bounds
        return self.findings

    def _stop(self, *findings: Finding) -> None:
        self.findings += findings
        self._is_stopped = True
        self._text = ""

    def _decode(self, data: bytes, *, is_end: bool) -> None:
        try:
            self._text += self._decoder.decode(data, is_end)
        except UnicodeDecodeError as error:
            held = error.object
            offset = self._bytes + len(data) - len(held)
            self._stop(not_utf8(held, error.start, offset))
            return
        if 0 in data:
            where = f"byte {self._bytes + data.index(0):,}"
            what = "contains NUL bytes, which text never does."
            self._stop(finding(file_rules.NOT_TEXT, what, where=where, remedy=WRITER))
        self._bytes += len(data)

    def _read_rows(self, *, is_end: bool) -> None:
        if self._is_stopped:
            return
        if self._rows is None:
            self._text = self._text.removeprefix("\ufeff").lstrip("\r\n")
            header = self._text[:_HEADER_BYTES].splitlines()[:1]
            if not header:
                return
            self._rows = _Rows(columns_of(header[0].encode()), separator_of(header[0]))
        has_open_quote = False
        length = len(self._text) if is_end else _last_row_end(self._text)
        if length:
            text, self._text = self._text[:length], self._text[length:]
            self._rows.read(text)
            has_open_quote = is_end and text.count('"') % 2 == 1
            self._needed = len(self._text) + _CHUNK_CHARACTERS
        elif len(self._text) > _MAX_ROW_CHARACTERS:
            row = self._rows.number
            self._content.notes.append(
                f"Row {row:,} has more than {_MAX_ROW_CHARACTERS // 2**20} MiB. The file is not checked from there on."
            )
            self._stop(*([_unclosed_quote(row)] if self._text.count('"') % 2 else []))
        else:
            self._needed = 2 * len(self._text) + _CHUNK_CHARACTERS
        if has_open_quote:
            self.findings.append(_unclosed_quote(self._rows.number - 1))


class _Rows:
    """
    The rows that were read, and what they have together.

    :param columns: the names of the columns as Mapbox sees them.
    :param separator: the separator between cells.
    """

    def __init__(self, columns: list[str], separator: str) -> None:
        self.count = 0
        self.number = 1  # of the next row; the header is row 1
        self._columns, self._separator = columns, separator
        self._geometries = geometry_columns(columns)
        self._xs, self._ys = x_columns(columns), y_columns(columns)
        self._box = [math.inf, math.inf, -math.inf, -math.inf]
        self._unreadable, self._first_unreadable = 0, (0, "")
        self._beyond, self._furthest = 0, (0, 0.0, 0.0)
        self._wide, self._first_wide = 0, 0

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north of all positions; None without a position."""
        west, south, east, north = self._box
        return (west, south, east, north) if west <= east else None

    def read(self, text: str) -> None:
        """
        Read complete rows.

        :param text: the rows.
        """
        with _longer_fields(len(text)), without_garbage_collection():
            is_first = self.number == 1
            lines = io.StringIO(text, newline="")
            if is_first:
                next(csv.reader(lines, delimiter=self._separator))
                self.number = 2
                text = text[lines.tell() :]
            if not text.strip("\r\n"):
                self.number += len(text.splitlines())
                return
            is_simple = not self._geometries and len(self._xs) == len(self._ys) == 1
            if not (is_simple and self._read_plain(lines, text)):
                self._read_each(csv.reader(io.StringIO(text, newline=""), delimiter=self._separator))

    def _read_plain(self, lines: io.StringIO, text: str) -> bool:
        """Read rows of numbers at once. Return False if there is another kind of row among them."""
        cells = self._columns_of(lines, text)
        if cells is None:
            return False
        try:
            xs, ys = list(map(float, cells[0])), list(map(float, cells[1]))
        except ValueError:
            return False
        box = min(xs), min(ys), max(xs), max(ys)
        # NaN passes no comparison, but may hide from min() and max(). Python takes 1_000 for a number.
        is_plain = (
            math.isfinite(sum(xs) + sum(ys))
            and _is_on_map(box)
            and not ("_" in text and "_" in "".join((*cells[0], *cells[1])))
        )
        if is_plain:
            self.count += len(xs)
            self.number += len(xs)
            self._grow(*box)
        return is_plain

    def _columns_of(self, lines: io.StringIO, text: str) -> tuple[Sequence[str], Sequence[str]] | None:
        """Return the cells of longitude and latitude; None if there is a row with more or fewer cells than columns."""
        x, y, width = self._xs[0], self._ys[0], len(self._columns)
        cells = split_cells(text, self._separator, width)
        if cells is not None and QUOTED not in (cells[x], cells[y]):
            return cells[x::width], cells[y::width]
        rows = list(csv.reader(lines, delimiter=self._separator))
        if not rows or set(map(len, rows)) != {width}:
            return None
        return [row[x] for row in rows], [row[y] for row in rows]

    def _read_each(self, reader: Iterator[list[str]]) -> None:
        rows = list(reader)
        first, self.number = self.number, self.number + len(rows)
        for number, (row, box) in enumerate(zip(rows, self._boxes_of(rows), strict=True), first):
            if not any(cell.strip() for cell in row):
                continue
            self.count += 1
            if len(row) > len(self._columns):
                self._first_wide = self._first_wide or number
                self._wide += 1
            if box is None:
                if not self._unreadable:
                    self._first_unreadable = number, self._shown(row)
                self._unreadable += 1
                continue
            if not _is_on_map(box):
                x, y = max(box[0], box[2], key=abs), max(box[1], box[3], key=abs)
                # The furthest position shows the cause best: some coordinates in metres are near the origin.
                if not self._beyond or abs(x) + abs(y) > abs(self._furthest[1]) + abs(self._furthest[2]):
                    self._furthest = number, x, y
                self._beyond += 1
            self._grow(*box)

    def _grow(self, west: float, south: float, east: float, north: float) -> None:
        box = self._box
        self._box = [min(box[0], west), min(box[1], south), max(box[2], east), max(box[3], north)]

    def _boxes_of(self, rows: list[list[str]]) -> list[Box | None]:
        """Return the bounds of each row's geometry or position, or None."""
        boxes: list[Box | None] = [None] * len(rows)
        for index in self._geometries:
            cells = [row[index].strip() if index < len(row) else "" for row in rows]
            boxes = [box or other for box, other in zip(boxes, _boxes_of_geometries(cells), strict=True)]
        return [box or self._position_of(row) for box, row in zip(boxes, rows, strict=True)]

    def _position_of(self, row: list[str]) -> Box | None:
        for x in self._xs:
            for y in self._ys:
                if max(x, y) < len(row) and (pair := _pair(row[x], row[y])) is not None:
                    return (*pair, *pair)
        return None

    def _shown(self, row: list[str]) -> str:
        cells = [row[index] for index in (*self._geometries, *self._xs[:1], *self._ys[:1]) if index < len(row)]
        return ", ".join(repr(cell if len(cell) <= 40 else f"{cell[:37]}…") for cell in cells) or "too few cells"

    def findings(self, *, is_whole: bool) -> Iterator[Finding]:
        """
        Yield the findings of all rows together.

        :param is_whole: whether all rows were read.
        """
        if not self.count:
            if is_whole:
                yield finding(rules.EMPTY, "has a header and no rows.")
            return
        of_rows = f"{self.count:,} rows" if is_whole else f"the first {self.count:,} rows"
        if self._beyond:
            number, x, y = self._furthest
            is_everywhere = self._beyond + self._unreadable == self.count
            rule = rules.RANGE if is_everywhere else rules.SOME_OUT_OF_RANGE
            count = "" if is_everywhere else f" ({self._beyond:,} of {of_rows})"
            yield beyond_map(rule, guess_cause(x, y), (number, x, y), place="row", count=count)
        if self._unreadable:
            number, cells = self._first_unreadable
            where = f"row {number}"
            has = "has no coordinates that Mapbox can read in"
            if is_whole and self._unreadable == self.count:
                yield finding(rules.UNREADABLE, f"{has} any row; {where} has {cells}.", where=where)
            else:
                # A warning, because Mapbox accepts the file if another row has a position.
                what = f"{has} {self._unreadable:,} of {of_rows}; {where} has {cells}."
                yield finding(rules.SKIPPED_ROWS, what, where=where)
        if self._wide:
            where = f"row {self._first_wide}"
            what = f"has {self._wide:,} of {of_rows} with more cells than the header; the first is {where}."
            yield finding(rules.WIDE_ROWS, what, where=where)


def _unclosed_quote(row: int) -> Finding:
    what = f"has a quotation mark in or before row {row:,} that is not closed, so one cell takes the rest of the file."
    return finding(rules.QUOTE, what, where=f"row {row:,}")


def _last_row_end(text: str) -> int:
    """Return the index behind the last line break that is not in a quoted cell; 0 if there is none."""
    # A line break may have two characters, of which the second has not come yet.
    end = len(text) - text.endswith("\r")
    quotes = text.count('"')
    for _ in range(_MAX_CUTS_TRIED):
        cut = max(text.rfind("\n", 0, end), text.rfind("\r", 0, end)) + 1
        quotes -= text.count('"', cut, end)
        if not cut or quotes % 2 == 0:
            return cut
        end = cut - 1
    return 0


@contextmanager
def _longer_fields(characters: int) -> Iterator[None]:
    """Allow cells of a length that the csv module refuses by default, such as geometries."""
    with _FIELD_LIMIT:
        before = csv.field_size_limit(max(characters, csv.field_size_limit()))
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _is_on_map(box: tuple[float, float, float, float]) -> bool:
    west, south, east, north = box
    return west >= -180 and east <= 180 and south >= -WEB_MERCATOR_LATITUDE and north <= WEB_MERCATOR_LATITUDE


def _pair(x: str, y: str) -> tuple[float, float] | None:
    try:
        pair = float(x), float(y)
    except ValueError:
        return None
    is_number = math.isfinite(pair[0]) and math.isfinite(pair[1]) and "_" not in x + y
    return pair if is_number else None


def _boxes_of_geometries(cells: list[str]) -> list[Box | None]:
    """Return the bounds of WKT or GeoJSON in each cell, or None."""
    import numpy as np
    import shapely

    as_wkt = np.array([cell if _is_wkt(cell) else None for cell in cells], dtype=object)
    # An overflow needs no warning here: the caller reports the position as beyond the map.
    with np.errstate(over="ignore"):
        geometries = shapely.from_wkt(as_wkt, on_invalid="ignore")
    for index, cell in enumerate(cells):
        if cell.startswith("{") and _is_geometry(cell):
            geometries[index] = shapely.from_geojson(cell, on_invalid="ignore")
    # An empty geometry has no bounds.
    return [None if math.isnan(box[0]) else tuple(box) for box in shapely.bounds(geometries).tolist()]


def _is_wkt(cell: str) -> bool:
    if not cell or cell.startswith("{"):
        return False
    upper = cell.upper()
    return not (upper.startswith("SRID") or _is_deep(upper))


def _is_deep(wkt: str) -> bool:
    """Return whether geometries are nested deeper than GEOS can read."""
    if wkt.count("COLLECTION") <= _MAX_BRACKETS:
        return False
    depth = 0
    for bracket in re.finditer(r"[()]", wkt):
        depth += 1 if bracket[0] == "(" else -1
        if depth > _MAX_BRACKETS:
            return True
    return False


def _is_geometry(cell: str) -> bool:
    try:
        geometry: Any = json.loads(cell)
    except (ValueError, RecursionError):
        return False
    return Features().add({"type": "Feature", "geometry": geometry}) is None
