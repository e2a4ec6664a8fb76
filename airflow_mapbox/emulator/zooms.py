"""Compute the zooms of a tileset as Mapbox does, for vector data and for images (source: mapbox/mapnik-omnivore)."""

from __future__ import annotations

import math

MAX_ZOOM = 16
MAXZOOM_TILE_BYTES = 1000
MINZOOM_TILE_BYTES = 500 * 1024
# By zoom: metres per pixel at the equator, in tiles of 256 pixels.
RESOLUTIONS = tuple(40_075_000 / 2 ** (zoom + 8) for zoom in range(22))
# A zoom is fine enough for an image if its pixels are wider than the image's by at most this share of the next zoom's.
THRESHOLD = 0.25


def pick_maxzoom(size: int, bounds: tuple[float, float, float, float]) -> int:
    """Return the lowest zoom at which a tile's share of the file is under 1,000 bytes, at most 16.

    :param size: the file's size in bytes.
    :param bounds: west, south, east, north in degrees.
    """
    for zoom in range(MAX_ZOOM + 1):
        if size / tiles_in(bounds, zoom) < MAXZOOM_TILE_BYTES:
            return zoom
    return MAX_ZOOM


def pick_minzoom(size: int, bounds: tuple[float, float, float, float]) -> int:
    """Return the highest zoom at which a tile's share of the file is over 500 kB, or 0.

    :param size: the file's size in bytes.
    :param bounds: west, south, east, north in degrees.
    """
    zooms = range(pick_maxzoom(size, bounds), 0, -1)
    return next((zoom for zoom in zooms if size / tiles_in(bounds, zoom) > MINZOOM_TILE_BYTES), 0)


def raster_maxzoom(pixel: float) -> int:
    """Return the lowest zoom with pixels that are finer than an image's, or nearly as fine.

    :param pixel: width of the image's pixels in metres of web mercator.
    """
    finer = (*RESOLUTIONS[1:], RESOLUTIONS[-1])
    return sum(
        resolution - THRESHOLD * next_resolution > pixel
        for resolution, next_resolution in zip(RESOLUTIONS, finer, strict=True)
    )


def tiles_in(bounds: tuple[float, float, float, float], zoom: int) -> int:
    """Return the number of tiles that a bounding box touches."""
    west, south, east, north = bounds
    columns = _column(east, zoom) - _column(west, zoom) + 1
    rows = _row(south, zoom) - _row(north, zoom) + 1
    return columns * rows


def _column(longitude: float, zoom: int) -> int:
    return _clamp((longitude + 180) / 360, zoom)


def _row(latitude: float, zoom: int) -> int:
    # Beyond the poles the tangent changes its sign.
    within = min(max(latitude, -89.9), 89.9)
    return _clamp((1 - math.asinh(math.tan(math.radians(within))) / math.pi) / 2, zoom)


def _clamp(share: float, zoom: int) -> int:
    count = 1 << zoom
    return min(max(math.floor(share * count), 0), count - 1)
