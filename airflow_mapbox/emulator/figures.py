"""The figures of a tileset in Mapbox's list: type, center and size, and costs that the emulator makes up."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from airflow_mapbox.emulator.mbtiles import MetadataTooLargeError, QueryTimeoutError, read_facts

# A tileset's file was valid when it was published, but a view in it can return something else each time.
READ_ERRORS = (sqlite3.Error, QueryTimeoutError, MetadataTooLargeError, ValueError, TypeError)
# The line items of Mapbox's pricing by a vector tileset's maxzoom (Uploads API, "Tileset processing"). The items of a
# TIFF begin one zoom higher.
PRECISIONS = ((5, "free"), (10, "10m"), (13, "1m"), (16, "30cm"))
EARTH_RADIUS_KM = 6371.0088


@dataclass(frozen=True)
class Figures:
    """The figures of one tileset.

    :param type: ``vector`` or ``raster``.
    :param center: longitude, latitude and zoom.
    :param filesize: bytes of the tileset.
    :param precisions: square kilometres by precision. Made up: the area of the bounding box.
    :param cu: compute units. Made up: they grow with the size.
    """

    type: str
    center: tuple[float, float, float]
    filesize: int
    precisions: dict[str, float]
    cu: float


def read_figures(mbtiles: Path) -> Figures:
    """Return the figures of a tileset's MBTiles file. A file that cannot be read has only a size."""
    size = mbtiles.stat().st_size
    try:
        facts = read_facts(mbtiles)
    except READ_ERRORS:
        return Figures("vector", (0.0, 0.0, 0.0), size, {}, made_up_compute_units(size))
    name = precision(facts.maxzoom, is_tiff=facts.is_tiff)
    area = 0.0 if name == "free" else round(_area(facts.bounds), 3)
    return Figures(
        type="vector" if facts.format == "pbf" else "raster",
        center=facts.center,
        filesize=size,
        precisions={name: area},
        cu=made_up_compute_units(size),
    )


def precision(maxzoom: int, *, is_tiff: bool) -> str:
    """Return the precision that Mapbox bills for a tileset, as its list names it.

    :param is_tiff: whether the tileset was made from a TIFF.
    """
    return next((name for highest, name in PRECISIONS if maxzoom - is_tiff <= highest), "1cm")


def made_up_compute_units(size: int) -> float:
    """Return compute units for a tileset of some bytes: 0.1, and 0.1 more for each megabyte."""
    return round(0.1 + size / 10_000_000, 1)


def _area(bounds: tuple[float, float, float, float]) -> float:
    west, south, east, north = (math.radians(number) for number in bounds)
    return EARTH_RADIUS_KM**2 * abs(math.sin(north) - math.sin(south)) * abs(east - west)
