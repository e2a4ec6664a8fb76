"""Check the first rows of CSV like Mapnik, which reads CSV at Mapbox."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import Any

from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE
from airflow_mapbox.preflight.features import Features, beyond_problem, guess_cause
from airflow_mapbox.preflight.problems import WRITER, Problem
from airflow_mapbox.preflight.sniff import columns_of, geometry_columns, separator_of, x_columns, y_columns

_COORDINATES = (
    "Write longitude and latitude in degrees with a decimal point, or WKT or GeoJSON in a geometry column. "
    'For other reference systems, upload it with format="auto" and export={"crs": "EPSG:…"}.'
)


def check_rows(head: bytes, *, is_whole: bool) -> Iterator[Problem]:
    """
    Check the rows of a table.

    :param head: the beginning of a file that Mapbox recognises as CSV.
    :param is_whole: whether that is the complete file. Otherwise the last row is cut, and not checked.
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
    yield from _check_positions(data, columns_of(head), is_whole=is_whole)


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    # The csv module refuses cells above 128 KiB. The head is smaller than that.
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    except csv.Error:
        return


def _check_positions(rows: list[tuple[int, list[str]]], columns: list[str], *, is_whole: bool) -> Iterator[Problem]:
    unreadable: list[tuple[int, str]] = []
    beyond: list[tuple[int, float, float]] = []
    for number, row in rows:
        position = _position(row, columns)
        if isinstance(position, str):
            unreadable.append((number, position))
        elif not (abs(position[0]) <= 180 and abs(position[1]) <= WEB_MERCATOR_LATITUDE):
            beyond.append((number, *position))
    of_the_first_rows = f"of the first {len(rows):,} rows"
    if beyond:
        # The furthest position shows the cause best: some coordinates in metres are near the origin.
        example = max(beyond, key=lambda row: abs(row[1]) + abs(row[2]))
        problem = beyond_problem(guess_cause(*example[1:]), example, place="row")
        if len(beyond) + len(unreadable) < len(rows):
            what = f"{problem.what[:-1]} ({len(beyond):,} {of_the_first_rows})."
            problem = Problem(what, problem.remedy, refused=False)
        yield problem
    if unreadable:
        number, cells = unreadable[0]
        if is_whole and len(unreadable) == len(rows):
            what = f"has no coordinates that Mapbox can read in any row; row {number} has {cells}."
            yield Problem(what, _COORDINATES)
        else:
            what = (
                f"has no coordinates that Mapbox can read in {len(unreadable):,} {of_the_first_rows}; row {number} has "
                f"{cells}."
            )
            # A warning, because Mapbox accepts the file if a later row has a position.
            remedy = _COORDINATES if len(unreadable) == len(rows) else WRITER
            yield Problem(what, f"Mapbox leaves such rows out. {remedy}", refused=False)


def _position(row: list[str], columns: list[str]) -> tuple[float, float] | str:
    """Return a row's position, of a geometry the one furthest from the origin; or the cells without a position."""
    geometries = geometry_columns(columns)
    for index in geometries:
        if index < len(row) and (position := _outermost(row[index].strip())) is not None:
            return position
    xs, ys = x_columns(columns), y_columns(columns)
    for x in xs:
        for y in ys:
            if max(x, y) < len(row) and (pair := _pair(row[x], row[y])) is not None:
                return pair
    cells = [row[index] for index in (*geometries, *xs[:1], *ys[:1]) if index < len(row)]
    return ", ".join(repr(cell if len(cell) <= 40 else f"{cell[:37]}…") for cell in cells) or "too few cells"


def _pair(x: str, y: str) -> tuple[float, float] | None:
    try:
        pair = float(x), float(y)
    except ValueError:
        return None
    return pair if math.isfinite(pair[0]) and math.isfinite(pair[1]) else None


def _outermost(cell: str) -> tuple[float, float] | None:
    """Return the position furthest from the origin in WKT or GeoJSON, or None."""
    import numpy as np
    import shapely

    if cell.startswith("{"):
        if not _is_geometry(cell):
            return None
        geometry = shapely.from_geojson(cell, on_invalid="ignore")
    else:
        # An overflow needs no warning here: the caller reports the position as beyond the map.
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
