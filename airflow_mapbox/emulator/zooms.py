"""The maxzoom Uploads picks for vector data, after mapbox/mapnik-omnivore."""

from __future__ import annotations

import math

HIGHEST = 16
TILE_BYTES = 1000


def pick_maxzoom(size: int, bounds: tuple[float, float, float, float]) -> int:
    """Return the lowest zoom at which a tile's share of the file is under 1,000 bytes, at most 16.

    :param size: of the file, in bytes.
    :param bounds: west, south, east, north in degrees.
    """
    for zoom in range(HIGHEST + 1):
        if size / tiles_in(bounds, zoom) < TILE_BYTES:
            return zoom
    return HIGHEST


def tiles_in(bounds: tuple[float, float, float, float], zoom: int) -> int:
    """Return the number of tiles that a bounding box touches."""
    west, south, east, north = bounds
    columns = _column(east, zoom) - _column(west, zoom) + 1
    rows = _row(south, zoom) - _row(north, zoom) + 1
    return columns * rows


def _column(longitude: float, zoom: int) -> int:
    return _clamped((longitude + 180) / 360, zoom)


def _row(latitude: float, zoom: int) -> int:
    return _clamped((1 - math.asinh(math.tan(math.radians(latitude))) / math.pi) / 2, zoom)


def _clamped(share: float, zoom: int) -> int:
    count = 1 << zoom
    return min(max(math.floor(share * count), 0), count - 1)
