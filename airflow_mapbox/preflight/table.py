"""What Mapbox would refuse in CSV: its first rows, as Mapnik reads them at Mapbox."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import Any

from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE
from airflow_mapbox.preflight.features import Features, beyond_problem, kind_beyond
from airflow_mapbox.preflight.problems import WRITER, Problem
from airflow_mapbox.preflight.sniff import columns_of, geometry_columns, separator_of, x_columns, y_columns

_NUMBERS = (
    "Coordinates are longitude and latitude in degrees, with a decimal point; a geometry column holds WKT or GeoJSON. "
    'Other reference systems: upload it with format="auto" and export={"crs": "EPSG:…"}.'
)


def check_rows(head: bytes, *, is_whole: bool) -> Iterator[Problem]:
    """
    Check the rows of a table.

    :param head: the beginning of a file that Mapbox recognises as CSV.
    :param is_whole: whether that is the whole file; otherwise the last row is cut, and not looked at.
    """
    text = head.decode("utf-8-sig", "ignore").lstrip("\r\n")
    lines = text.splitlines(keepends=True)
    rows = list(_rows(text, separator_of(lines[0])))
    if not is_whole:
        rows.pop()
    data = [(number, row) for number, row in enumerate(rows[1:], 2) if any(cell.strip() for cell in row)]
    if not data:
        if is_whole:
            yield Problem("has a header and no rows.", "Check the query or filter that chose the data.")
        return
    yield from _check_places(data, columns_of(head), is_whole=is_whole)


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    # A geometry in a cell may well be larger than the module's 128 KiB, and the head is smaller than that.
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    except csv.Error:
        return


def _check_places(rows: list[tuple[int, list[str]]], columns: list[str], *, is_whole: bool) -> Iterator[Problem]:
    unreadable: list[tuple[int, str]] = []
    beyond: list[tuple[int, float, float]] = []
    for number, row in rows:
        found = _place(row, columns)
        if isinstance(found, str):
            unreadable.append((number, found))
        elif not (abs(found[0]) <= 180 and abs(found[1]) <= WEB_MERCATOR_LATITUDE):
            beyond.append((number, *found))
    of = f"of the first {len(rows):,} rows"
    if beyond:
        # Those that are furthest away tell most: in metres some are near the origin.
        example = max(beyond, key=lambda found: abs(found[1]) + abs(found[2]))
        problem = beyond_problem(kind_beyond(*example[1:]), example, place="row")
        if len(beyond) + len(unreadable) < len(rows):
            problem = Problem(f"{problem.what[:-1]} ({len(beyond):,} {of}).", problem.remedy, refused=False)
        yield problem
    if unreadable:
        number, cells = unreadable[0]
        if is_whole and len(unreadable) == len(rows):
            yield Problem(f"has no coordinates that Mapbox can read in any row; row {number} has {cells}.", _NUMBERS)
        else:
            what = f"has no coordinates that Mapbox can read in {len(unreadable):,} {of}; row {number} has {cells}."
            # Mapbox takes the file if a later row has a position.
            remedy = _NUMBERS if len(unreadable) == len(rows) else WRITER
            yield Problem(what, f"Mapbox leaves such rows out. {remedy}", refused=False)


def _place(row: list[str], columns: list[str]) -> tuple[float, float] | str:
    """Return a row's outermost position, or the cells that have none."""
    wholes = geometry_columns(columns)
    for at in wholes:
        if at < len(row) and (position := _outermost(row[at].strip())) is not None:
            return position
    xs, ys = x_columns(columns), y_columns(columns)
    for x in xs:
        for y in ys:
            if max(x, y) < len(row) and (pair := _pair(row[x], row[y])) is not None:
                return pair
    cells = [row[at] for at in (*wholes, *xs[:1], *ys[:1]) if at < len(row)]
    return ", ".join(repr(cell if len(cell) <= 40 else f"{cell[:37]}…") for cell in cells) or "too few cells"


def _pair(x: str, y: str) -> tuple[float, float] | None:
    try:
        pair = float(x), float(y)
    except ValueError:
        return None
    return pair if math.isfinite(pair[0]) and math.isfinite(pair[1]) else None


def _outermost(cell: str) -> tuple[float, float] | None:
    """Return the position of WKT or GeoJSON that is furthest from the origin."""
    import numpy as np
    import shapely

    if cell.startswith("{"):
        if not _is_geometry(cell):
            return None
        geometry = shapely.from_geojson(cell, on_invalid="ignore")
    else:
        # Numbers may be larger than any; that they are beyond the map is said below.
        with np.errstate(over="ignore"):
            geometry = None if cell.upper().startswith("SRID") else shapely.from_wkt(cell, on_invalid="ignore")
    if geometry is None or geometry.is_empty:
        return None
    west, south, east, north = geometry.bounds
    return max(west, east, key=abs), max(south, north, key=abs)


def _is_geometry(cell: str) -> bool:
    try:
        geometry: Any = json.loads(cell)
    except (ValueError, RecursionError):
        return False
    return Features().add({"type": "Feature", "geometry": geometry}) is None
