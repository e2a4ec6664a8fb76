"""The zooms that decide the bill: the maxzoom that Mapbox is expected to choose, and the price tier of a maxzoom."""

from __future__ import annotations

import math
from collections.abc import Sequence

from airflow_mapbox.errors import OptionError
from airflow_mapbox.limits import TIER_MAXZOOM, WEB_MERCATOR_LATITUDE

# The zoom of the tiles whose area is billed, by tier; None if nothing is. From 10m on it is the lowest zoom of the tier
# (`estimate-area` of mapbox/tilesets-cli).
TIER_AREA_ZOOM = {"free": None, "10m": 6, "1m": 11, "30cm": 14, "1cm": 17}
# The highest area zoom. Mapbox has no more precise tier.
MAX_AREA_ZOOM = 17

_MAX_VECTOR_ZOOM = 16
_BYTES_PER_TILE = 1000
_TILE_PIXELS = 256


def expected_maxzoom(size: int, bounds: Sequence[float]) -> int:
    """
    Return the maxzoom that Mapbox is expected to choose for a vector file that is not MBTiles.

    It is the lowest zoom, at most 16, at which the file has less than 1,000 bytes for each tile of its bounding box.
    The rule is ``zoomsBySize`` of mapbox/mapnik-omnivore; Mapbox's servers may differ.

    :param size: the file's size in bytes.
    :param bounds: west, south, east, north in degrees.
    :raises OptionError: if the size is not positive, or the bounds are not those of a place on Earth.

    Example::

        expected_maxzoom(5_000_000, (5.9, 45.8, 10.5, 47.8))
    """
    if isinstance(size, bool) or not size > 0:
        raise OptionError(f"size={size!r} is not a number of bytes from 1.")
    box = _box(bounds)
    return next(
        (zoom for zoom in range(_MAX_VECTOR_ZOOM) if size / _tiles_in(box, zoom) < _BYTES_PER_TILE), _MAX_VECTOR_ZOOM
    )


def tier_of(maxzoom: int, *, raster: bool = False) -> str:
    """
    Return the price tier of a tileset by its maxzoom.

    :param maxzoom: the highest zoom, from 0.
    :param raster: whether the tileset is made of a TIFF. Its tiers end one zoom higher.
    :return: ``"free"``, ``"10m"``, ``"1m"``, ``"30cm"`` or ``"1cm"``.
    :raises OptionError: for a negative zoom.
    """
    if maxzoom < 0:
        raise OptionError(f"maxzoom={maxzoom} is negative.")
    *bounded, (most_precise, _) = TIER_MAXZOOM.items()
    return next((tier for tier, highest in bounded if maxzoom <= highest + raster), most_precise)


def area_zoom(tier: str) -> int | None:
    """
    Return the zoom of the tiles whose area is billed for a tier, or None for the tier that costs nothing.

    :param tier: a price tier.
    :raises OptionError: for an unknown tier.
    """
    if tier not in TIER_AREA_ZOOM:
        raise OptionError(f"tier={tier!r} is not {' or '.join(map(repr, TIER_AREA_ZOOM))}.")
    return TIER_AREA_ZOOM[tier]


def _box(bounds: Sequence[float]) -> tuple[float, float, float, float]:
    sides = tuple(map(float, bounds))
    if len(sides) != 4 or not all(map(math.isfinite, sides)) or sides[0] > sides[2] or sides[1] > sides[3]:
        raise OptionError(f"bounds={tuple(bounds)!r} are not west, south, east, north in degrees.")
    west, south, east, north = sides
    return west, south, east, north


def _tiles_in(bounds: tuple[float, float, float, float], zoom: int) -> int:
    """
    Return how many tiles a bounding box touches, as ``xyz`` of @mapbox/sphericalmercator counts them.

    It rounds to pixels, and a side on the border of two tiles belongs to the inner one.
    """
    west, south, east, north = bounds
    columns = _tiles_between((west + 180) / 360, (east + 180) / 360, zoom)
    return columns * _tiles_between(_mercator(north), _mercator(south), zoom)


def _tiles_between(low: float, high: float, zoom: int) -> int:
    """Return how many tiles lie between two positions, which are shares of the map's width from its western edge."""
    pixels = _TILE_PIXELS << zoom
    first, last = (min(max(math.floor(share * pixels + 0.5), 0), pixels) for share in (low, high))
    ends = (first // _TILE_PIXELS, (last - 1) // _TILE_PIXELS)
    return max(ends) - max(min(ends), 0) + 1


def _mercator(latitude: float) -> float:
    """Return the position of a latitude as a share of the map's height from its northern edge."""
    sine = math.sin(math.radians(min(max(latitude, -WEB_MERCATOR_LATITUDE), WEB_MERCATOR_LATITUDE)))
    return 0.5 - math.atanh(sine) / (2 * math.pi)
