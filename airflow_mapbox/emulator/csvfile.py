"""Read CSV as Mapbox does: find the coordinates by column names, drop rows that do not parse."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import shapely

from airflow_mapbox.emulator.errors import DataError, FailureMessage
from airflow_mapbox.emulator.features import Extent, Feature
from airflow_mapbox.emulator.sniff import LATITUDE, LONGITUDE, SEPARATORS

WKT = frozenset({"wkt", "geom", "geometry"})
GEOJSON = frozenset({"geojson"})
INTEGER = re.compile(r"[+-]?\d{1,15}\Z")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
# A polygon in one cell can exceed the csv module's default of 128 kB.
csv.field_size_limit(1 << 26)


def read_csv(path: Path) -> Iterator[Feature]:
    """Yield a feature for every row with a geometry.

    :param path: the file, in UTF-8. The separator is the most frequent of comma, tab, semicolon and pipe in the header.
    :raises DataError: if the file has no columns of coordinates.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        # There may be empty lines before the header.
        first = next((line for line in stream if line.strip("\r\n")), "")
        rows = csv.reader(itertools.chain([first], stream), delimiter=max(SEPARATORS, key=first.count))
        try:
            header = next(rows, [])
            geometry_of, geometry_columns = _find_geometry([name.strip().lower() for name in header])
            for row in rows:
                geometry = _geometry_or_none(geometry_of, row)
                if geometry is not None:
                    cells = itertools.zip_longest(header, row[: len(header)], fillvalue="")
                    yield (
                        geometry,
                        {
                            name: _parse_cell(cell)
                            for index, (name, cell) in enumerate(cells)
                            if index not in geometry_columns
                        },
                    )
        except csv.Error:
            raise DataError(FailureMessage.CSV_COLUMNS) from None


def _find_geometry(names: list[str]) -> tuple[Callable[[list[str]], dict[str, Any]], set[int]]:
    """Return a function that reads a row's geometry, and the indexes of the columns that it uses."""

    def find(aliases: frozenset[str]) -> int | None:
        return next((index for index, name in enumerate(names) if name in aliases), None)

    if (column := find(GEOJSON)) is not None:
        return (lambda row: dict(json.loads(row[column]))), {column}
    if (column := find(WKT)) is not None:
        return (lambda row: dict(json.loads(shapely.to_geojson(shapely.from_wkt(row[column]))))), {column}
    x, y = (
        next((index for index, name in enumerate(names) if name in aliases or substring in name), None)
        for aliases, substring in ((LONGITUDE, "longitude"), (LATITUDE, "latitude"))
    )
    if x is None or y is None:
        raise DataError(FailureMessage.CSV_COLUMNS)
    return (lambda row: {"type": "Point", "coordinates": [_number(row[x]), _number(row[y])]}), {x, y}


def _geometry_or_none(geometry_of: Callable[[list[str]], dict[str, Any]], row: list[str]) -> dict[str, Any] | None:
    try:
        geometry = geometry_of(row)
        Extent().add_geometry(geometry)
    except (ValueError, TypeError, IndexError, RecursionError, shapely.errors.ShapelyError):
        return None
    return geometry


def _number(cell: str) -> float:
    # float() also accepts 1_000 and digits of other scripts.
    if not NUMBER.match(cell.strip()) or not math.isfinite(number := float(cell)):
        raise ValueError("not a coordinate")
    return number


def _parse_cell(cell: str) -> object:
    if not cell:
        return None
    if INTEGER.match(cell):
        return int(cell)
    if NUMBER.match(cell) and math.isfinite(number := float(cell)):
        return number
    return cell
