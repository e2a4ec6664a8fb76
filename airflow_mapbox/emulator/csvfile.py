"""CSV as Mapbox reads it: a header row, coordinates by the columns' names, rows that don't parse left out."""

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

from airflow_mapbox.emulator.errors import DataError, Failed
from airflow_mapbox.emulator.features import Extent, Feature
from airflow_mapbox.emulator.sniff import SEPARATORS

LONGITUDE = frozenset({"longitude", "lon", "lng", "long", "x"})
LATITUDE = frozenset({"latitude", "lat", "y"})
WKT = frozenset({"wkt", "geom", "geometry"})
GEOJSON = frozenset({"geojson"})
INTEGER = re.compile(r"[+-]?\d{1,15}\Z")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
# A polygon in a cell may well be larger than the module's 128 kB.
csv.field_size_limit(1 << 26)


def read_csv(path: Path) -> Iterator[Feature]:
    """Yield a feature for every row with a geometry.

    :param path: the file, in UTF-8, separated by whichever of comma, tab, semicolon and pipe the header has most of.
    :raises DataError: where no column is one of coordinates.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        # Empty lines may stand before the header.
        first = next((line for line in stream if line.strip("\r\n")), "")
        rows = csv.reader(itertools.chain([first], stream), delimiter=max(SEPARATORS, key=first.count))
        try:
            header = next(rows, [])
            geometry_of, used = _geometry_columns([name.strip().lower() for name in header])
            for row in rows:
                geometry = _checked(geometry_of, row)
                if geometry is not None:
                    cells = itertools.zip_longest(header, row[: len(header)], fillvalue="")
                    yield geometry, {name: _typed(cell) for at, (name, cell) in enumerate(cells) if at not in used}
        except csv.Error:
            raise DataError(Failed.CSV_COLUMNS) from None


def _geometry_columns(names: list[str]) -> tuple[Callable[[list[str]], dict[str, Any]], set[int]]:
    def find(wanted: frozenset[str]) -> int | None:
        return next((at for at, name in enumerate(names) if name in wanted), None)

    if (at := find(GEOJSON)) is not None:
        return (lambda row: dict(json.loads(row[at]))), {at}
    if (at := find(WKT)) is not None:
        return (lambda row: dict(json.loads(shapely.to_geojson(shapely.from_wkt(row[at]))))), {at}
    x, y = (
        next((at for at, name in enumerate(names) if name in wanted or part in name), None)
        for wanted, part in ((LONGITUDE, "longitude"), (LATITUDE, "latitude"))
    )
    if x is None or y is None:
        raise DataError(Failed.CSV_COLUMNS)
    return (lambda row: {"type": "Point", "coordinates": [_number(row[x]), _number(row[y])]}), {x, y}


def _checked(geometry_of: Callable[[list[str]], dict[str, Any]], row: list[str]) -> dict[str, Any] | None:
    try:
        geometry = geometry_of(row)
        Extent().add_geometry(geometry)
    except (ValueError, TypeError, IndexError, RecursionError, shapely.errors.ShapelyError):
        return None
    return geometry


def _number(text: str) -> float:
    number = float(text.strip())
    if not math.isfinite(number):
        raise ValueError("not a coordinate")
    return number


def _typed(text: str) -> object:
    if not text:
        return None
    if INTEGER.match(text):
        return int(text)
    if NUMBER.match(text) and math.isfinite(number := float(text)):
        return number
    return text
