"""Read and check the metadata of MBTiles as Mapbox does.

Mapbox reads the table with mapbox/node-mbtiles (``getInfo``), adds defaults and checks the result with mapbox/tilelive
(``verify``), key by key. Both are JavaScript: a number may begin a string, null compares as 0, and the length of a
string counts units of UTF-16.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from airflow_mapbox.emulator.errors import DataError, FailureMessage
from airflow_mapbox.emulator.mbtiles import MBTiles

Info = dict[str, Any]

MAX_METADATA_UNITS = 60 * 1024
DEFAULTS: Info = {
    "name": "",
    "description": "",
    "version": "1.0.0",
    "scheme": "xyz",
    "minzoom": 0,
    "maxzoom": 30,
    "bounds": [-180.0, -85.05112877980659, 180.0, 85.05112877980659],
}
MAX_ZOOM = 30
# Mapbox looks for tiles at zooms below this one.
SEARCHED_ZOOMS = 30
MAX_CENTER_ZOOM = 23
BOUNDS = (("west", 360), ("south", 95), ("east", 360), ("north", 95))
CENTER = (("lon", 180), ("lat", 90))
MAX_LAYER_ID = 255
LEADING_INTEGER = re.compile(r"\s*([+-]?\d+)", re.ASCII)
LEADING_NUMBER = re.compile(r"\s*([+-]?(?:Infinity|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))", re.ASCII)


def read_info(mbtiles: MBTiles, size: int) -> Info:
    """Return the metadata as Mapbox sees it, with zooms, bounds and center from the tiles if they are missing.

    :param mbtiles: the open file.
    :param size: its size in bytes.
    :raises DataError: with Mapbox's message if the metadata is invalid.
    """
    info = _read_rows(mbtiles, size)
    _add_zooms(mbtiles, info)
    _add_bounds(mbtiles, info)
    _add_center(info)
    for key, default in DEFAULTS.items():
        if info.get(key) is None:
            info[key] = default
    if _is_truthy(info.get("prepare")):
        raise DataError(FailureMessage.PREPARE)
    for key, value in info.items():
        if value is not None:
            _check(key, value)
    _check_together(info)
    counted = {key: value for key, value in info.items() if key != "tilestats"}
    if _units(json.dumps(counted, ensure_ascii=False, separators=(",", ":"), default=str)) > MAX_METADATA_UNITS:
        raise DataError(FailureMessage.METADATA_TOO_LARGE)
    if _is_truthy(info.get("formatter")):
        raise DataError(FailureMessage.OLD_TILEMILL)
    return info


def parse_integer(value: object) -> float:
    """Return the integer at the start of a value, as JavaScript's parseInt does; NaN if there is none."""
    match = LEADING_INTEGER.match(_text(value))
    return math.nan if match is None else float(match[1])


def as_text(number: float) -> str:
    """Return a number as JavaScript writes it."""
    return str(int(number)) if number.is_integer() else repr(number)


# --- Reading ---


def _read_rows(mbtiles: MBTiles, size: int) -> Info:
    info: Info = {"scheme": "tms", "basename": "data.mbtiles", "id": "data", "filesize": size}
    try:
        rows = list(mbtiles.metadata_rows())
    except sqlite3.OperationalError:
        # Mapbox continues without metadata if the table has other columns.
        rows = []
    for name, value in rows:
        if name == "json":
            _merge(info, value)
        elif name in ("minzoom", "maxzoom"):
            info[name] = parse_integer(value)
        elif name in ("center", "bounds"):
            info[name] = list(map(_leading_number, value.split(","))) if isinstance(value, str) else value
        else:
            info[str(name)] = value
    return info


def _merge(info: Info, text: Any) -> None:
    """Add the members of the row ``json``. They replace only values that JavaScript counts as false."""
    try:
        members = json.loads(_text(text), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc.rstrip()):
            raise DataError(FailureMessage.METADATA_JSON_ENDS) from None
        raise DataError(FailureMessage.METADATA_JSON.format(error.doc[error.pos], error.pos)) from None
    except (ValueError, RecursionError):
        raise DataError(FailureMessage.METADATA_JSON.format("N", 0)) from None
    if members is None:
        raise DataError(FailureMessage.METADATA_JSON_NULL)
    for key, member in members.items() if isinstance(members, dict) else ():
        if not _is_truthy(info.get(key)):
            info[key] = member


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(constant)


def _add_zooms(mbtiles: MBTiles, info: Info) -> None:
    if "minzoom" in info and "maxzoom" in info:
        return
    try:
        row = mbtiles.row(
            "SELECT min(zoom_level), max(zoom_level) FROM tiles WHERE zoom_level BETWEEN 0 AND ?", (SEARCHED_ZOOMS - 1,)
        )
    except sqlite3.OperationalError:
        return
    if row is not None and all(isinstance(zoom, int) for zoom in row):
        info["minzoom"], info["maxzoom"] = map(float, row)


def _add_bounds(mbtiles: MBTiles, info: Info) -> None:
    zoom = info.get("minzoom")
    if "bounds" in info or not isinstance(zoom, int | float) or zoom not in range(MAX_ZOOM + 1):
        return
    row = mbtiles.row(
        "SELECT min(tile_column), min(tile_row), max(tile_column), max(tile_row) FROM tiles WHERE zoom_level = ?",
        (int(zoom),),
    )
    if row is None or not all(isinstance(number, int) for number in row):
        return
    tiles = 2.0**zoom
    west, east = (360 * column / tiles - 180 for column in (row[0], row[2] + 1))
    south, north = (_latitude(2 * line / tiles - 1) for line in (row[1], row[3] + 1))
    info["bounds"] = [max(west, -180.0), max(south, -90.0), min(east, 180.0), min(north, 90.0)]


def _add_center(info: Info) -> None:
    bounds, zooms = _numbers(info.get("bounds"), 4), _numbers([info.get("minzoom"), info.get("maxzoom")], 2)
    if "center" in info or bounds is None or zooms is None:
        return
    west, south, east, north = bounds
    low, high = zooms
    zoom = high if high - low <= 1 else math.floor((high - low) / 2) + low
    info["center"] = [(east - west) / 2 + west, (north - south) / 2 + south, zoom]


# --- Checking ---


def _check(key: str, value: Any) -> None:
    if key in CHECKS:
        CHECKS[key](key, value)


def _check_scheme(_key: str, value: Any) -> None:
    if value not in ("tms", "xyz"):
        raise DataError(FailureMessage.SCHEME)


def _check_zoom(key: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MAX_ZOOM or value != int(value):
        raise DataError(FailureMessage.METADATA_ZOOM.format(key))


def _check_text(limit: int) -> Callable[[str, Any], None]:
    def check(key: str, value: Any) -> None:
        if not isinstance(value, str) or _units(value) > limit:
            raise DataError(FailureMessage.METADATA_TEXT.format(key, limit))

    return check


def _check_urls(key: str, value: Any) -> None:
    if not isinstance(value, list) or not value or not all(isinstance(url, str) for url in value):
        raise DataError(FailureMessage.METADATA_URLS.format(key))


def _check_center(_key: str, value: Any) -> None:
    center = _numbers(value, 3)
    if center is None:
        raise DataError(FailureMessage.CENTER_FORM)
    for (part, limit), number in zip(CENTER, center, strict=False):
        if not -limit <= number <= limit:
            raise DataError(FailureMessage.CENTER.format(part, -limit, limit))
    # A zoom as a string is never equal to its own floor.
    if not 0 <= center[2] <= MAX_CENTER_ZOOM or not center[2].is_integer() or isinstance(value[2], str):
        raise DataError(FailureMessage.CENTER_ZOOM)


def _check_bounds(_key: str, value: Any) -> None:
    bounds = _numbers(value, 4)
    if bounds is None:
        raise DataError(FailureMessage.BOUNDS_FORM)
    for (side, limit), number in zip(BOUNDS, bounds, strict=True):
        if not -limit <= number <= limit:
            raise DataError(FailureMessage.BOUNDS.format(side, -limit, limit))
    for lower, upper, first in (("west", "east", 0), ("south", "north", 1)):
        if bounds[first] > bounds[first + 2]:
            raise DataError(FailureMessage.BOUNDS_ORDER.format(lower, upper))


def _check_layers(_key: str, value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise DataError(FailureMessage.VECTOR_LAYERS_NO_ARRAY)
    for index, layer in enumerate(value):
        # For JavaScript an array is an object, too.
        if not isinstance(layer, dict | list):
            raise DataError(FailureMessage.VECTOR_LAYER.format(index))
        identifier = layer.get("id") if isinstance(layer, dict) else None
        if not isinstance(identifier, str) or _units(identifier) > MAX_LAYER_ID:
            raise DataError(FailureMessage.VECTOR_LAYER_ID.format(index))


def _check_together(info: Info) -> None:
    low, high = info["minzoom"], info["maxzoom"]
    if low > high:
        raise DataError(FailureMessage.METADATA_ZOOM_ORDER)
    center, bounds = _numbers(info.get("center"), 3), _numbers(info["bounds"], 4)
    if center is None or bounds is None:
        return
    for part, axis in (("lon", 0), ("lat", 1)):
        if not bounds[axis] <= center[axis] <= bounds[axis + 2]:
            edges = as_text(bounds[axis]), as_text(bounds[axis + 2])
            raise DataError(FailureMessage.CENTER_BOUNDS.format(part, *edges))
    if center[2] < low:
        raise DataError(FailureMessage.CENTER_ZOOMS.format("greater", "minzoom", as_text(float(low))))
    if center[2] > high:
        raise DataError(FailureMessage.CENTER_ZOOMS.format("less", "maxzoom", as_text(float(high))))


CHECKS: dict[str, Callable[[str, Any], None]] = {
    "scheme": _check_scheme,
    "minzoom": _check_zoom,
    "maxzoom": _check_zoom,
    **dict.fromkeys(("name", "version", "format"), _check_text(255)),
    **dict.fromkeys(("attribution", "description", "source"), _check_text(2000)),
    **dict.fromkeys(("legend", "template"), _check_text(8000)),
    "tiles": _check_urls,
    "grids": _check_urls,
    "center": _check_center,
    "bounds": _check_bounds,
    "vector_layers": _check_layers,
}


# --- JavaScript ---


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else "" if value is None else str(value)


def _leading_number(text: str) -> float:
    match = LEADING_NUMBER.match(text)
    return math.nan if match is None else float(match[1].replace("Infinity", "inf"))


def _numbers(value: Any, length: int) -> list[float] | None:
    """Return a list of finite numbers of this length, or None. Some of the values may be strings."""
    if not isinstance(value, list) or len(value) != length:
        return None
    numbers = list(_parsed(value))
    return numbers if all(map(math.isfinite, numbers)) else None


def _parsed(values: list[Any]) -> Iterator[float]:
    for value in values:
        try:
            yield math.nan if isinstance(value, bool) or value is None else float(value)
        except (TypeError, ValueError, OverflowError):
            yield math.nan


def _is_truthy(value: object) -> bool:
    """Return whether JavaScript counts a value as true: also an empty array or object, but not NaN."""
    is_nan = isinstance(value, float) and math.isnan(value)
    return isinstance(value, list | dict | bytes) or (bool(value) and not is_nan)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


def _latitude(y: float) -> float:
    """Return the latitude of a place on the square map, whose edges are at -1 and 1."""
    return math.degrees(math.atan(math.sinh(math.pi * min(max(y, -10.0), 10.0))))
