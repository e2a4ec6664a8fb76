"""The zooms Uploads picks for vector data and for images, after mapbox/mapnik-omnivore."""

from __future__ import annotations

import math

HIGHEST = 16
TILE_BYTES = 1000
LOWEST_TILE_BYTES = 500 * 1024
# Metres of a pixel at the equator, by zoom, in tiles of 256.
RESOLUTIONS = tuple(40_075_000 / 2 ** (zoom + 8) for zoom in range(22))
# How far from one zoom's resolution to the next an image's may lie and still be drawn larger, not smaller.
THRESHOLD = 0.25


def pick_maxzoom(size: int, bounds: tuple[float, float, float, float]) -> int:
    """Return the lowest zoom at which a tile's share of the file is under 1,000 bytes, at most 16.

    :param size: of the file, in bytes.
    :param bounds: west, south, east, north in degrees.
    """
    for zoom in range(HIGHEST + 1):
        if size / tiles_in(bounds, zoom) < TILE_BYTES:
            return zoom
    return HIGHEST


def pick_minzoom(size: int, bounds: tuple[float, float, float, float]) -> int:
    """Return the highest zoom at which a tile's share of the file is over 500 kB, or 0.

    :param size: of the file, in bytes.
    :param bounds: west, south, east, north in degrees.
    """
    zooms = range(pick_maxzoom(size, bounds), 0, -1)
    return next((zoom for zoom in zooms if size / tiles_in(bounds, zoom) > LOWEST_TILE_BYTES), 0)


def raster_maxzoom(pixel: float) -> int:
    """Return the zoom whose pixels are nearly as fine as an image's, or finer.

    :param pixel: width of the image's pixels in metres of web mercator.
    """
    finer = (*RESOLUTIONS[1:], RESOLUTIONS[-1])
    return sum(
        resolution - THRESHOLD * next_one > pixel for resolution, next_one in zip(RESOLUTIONS, finer, strict=True)
    )


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
