"""
Positions on the map as 32-bit integers: the world is 2³² units wide and high, from its north-western corner.

A tile of zoom ``z`` is then a shift by ``32 - z`` bits. A unit is 9 mm at the equator, 1/32,768 of a tile of zoom 17.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITS = 32
# The rows of positions on the edges of the map, and beyond.
NORTH_EDGE, SOUTH_EDGE = 1, 2**BITS - 1
_HALF_WORLD = 2.0**31
# Of the table of Mercator's projection. Between two entries it is interpolated; the error is at most 24 units, at the
# edge of the map, and below one unit up to 60 degrees. 2**16 entries stay in the processor's cache.
# A position on the border of two tiles belongs to the southern one, as for GDAL. One unit more makes up for the error.
_TABLE_STEPS = 1 << 16
# Convert so many positions at once. The arrays of more fall out of the processor's cache.
_SLICE = 1 << 14


def columns_of(longitudes: NDArray[np.float64], unit: float) -> NDArray[np.uint32]:
    """
    Return the positions of longitudes, from the map's western edge.

    :param longitudes: shape (m,). Those beyond ±180 degrees count as on the edge.
    :param unit: their unit in degrees.
    """
    columns = np.empty(len(longitudes), np.uint32)
    for start in range(0, len(longitudes), _SLICE):
        x = longitudes[start : start + _SLICE] * (unit * _HALF_WORLD / 180)
        np.minimum(x, _HALF_WORLD - 1, out=x)
        np.maximum(x, -_HALF_WORLD, out=x)
        columns[start : start + _SLICE] = _from_centre(np.rint(x, out=x))
    return columns


def rows_of(latitudes: NDArray[np.float64], unit: float) -> NDArray[np.uint32]:
    """
    Return the positions of latitudes, from the map's northern edge.

    :param latitudes: shape (m,). Those beyond the map count as on its edge.
    :param unit: their unit in degrees.
    """
    values, slopes = _mercator_table()
    rows = np.empty(len(latitudes), np.uint32)
    for start in range(0, len(latitudes), _SLICE):
        at = latitudes[start : start + _SLICE] * (unit * (_TABLE_STEPS / 2) / WEB_MERCATOR_LATITUDE)
        at += _TABLE_STEPS / 2 + 1
        step = at.astype(np.intp)
        at -= step
        y = slopes.take(step, mode="clip")
        y *= at
        y += values.take(step, mode="clip")
        rows[start : start + _SLICE] = _from_centre(np.floor(y, out=y))
    return rows


def reaches_edge(rows: NDArray[np.uint32]) -> bool:
    """
    Return whether any position lies on the northern or southern edge of the map, or beyond.

    :param rows: positions from the northern edge.
    """
    return bool(len(rows)) and (int(rows.min()) <= NORTH_EDGE or int(rows.max()) >= SOUTH_EDGE)


def _from_centre(position: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Convert positions from the map's centre. Processors convert floats to signed integers only, many at a time."""
    signed = position.astype(np.int32).view(np.uint32)
    signed += np.uint32(1 << 31)
    return signed


@cache
def _mercator_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the position from the equator at each step of latitude, from the south, and how far the next one is."""
    latitudes = np.linspace(-WEB_MERCATOR_LATITUDE, WEB_MERCATOR_LATITUDE, _TABLE_STEPS + 1)
    values = np.arctanh(np.sin(np.radians(latitudes))) * (-_HALF_WORLD / np.pi)
    np.clip(values, -_HALF_WORLD, _HALF_WORLD - 2, out=values)
    values += 1
    # The entries at both ends are for latitudes beyond the map.
    return np.append(values[:1], values), np.concatenate(([0.0], np.diff(values), [0.0]))
