"""Straight edges of a projected reference system, which are curves in longitude, latitude."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pyproj import Geod

from airflow_mapbox.export.crs84 import Transformation
from airflow_mapbox.export.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXAMINED = 8  # the longest edges: the error grows with the square of the length
_GEOD = Geod(ellps="WGS84")


def densify(shapes: Shapes, longest: float) -> Shapes:
    """
    Put vertices on edges that are too long, at equal distances.

    :param shapes: in a projected system.
    :param longest: in that system's units.
    """
    lengths = _lengths(shapes)
    pieces = np.ones(len(shapes.x), dtype=np.int64)
    with np.errstate(invalid="ignore"):
        long = lengths > longest
    pieces[:-1][long] = np.ceil(lengths[long] / longest).astype(np.int64)
    if (pieces == 1).all():
        return shapes
    ends = np.concatenate(([0], np.cumsum(pieces)))
    source = np.repeat(np.arange(len(shapes.x)), pieces)
    share = (np.arange(ends[-1]) - ends[source]) / pieces[source]

    def between(ordinate: NDArray[np.float64]) -> NDArray[np.float64]:
        following = np.append(ordinate[1:], ordinate[-1:])
        return np.where(share == 0, ordinate[source], ordinate[source] + share * (following - ordinate)[source])

    z = None if shapes.z is None else between(shapes.z)
    return shapes.at(ends[shapes.paths], between(shapes.x), between(shapes.y), z)


def edge_error(shapes: Shapes, lonlat: Shapes, way: Transformation) -> float:
    """
    Say how far the longest edges are from where they would be as straight lines in longitude, latitude.

    :param shapes: in a projected system.
    :param lonlat: the same, transformed.
    :param way: how they were transformed.
    :return: metres between the two middles of the worst edge.
    """
    lengths = _lengths(shapes)
    if not len(lengths):
        return 0.0
    count = min(_EXAMINED, len(lengths))
    first = np.argpartition(lengths, -count)[-count:]
    x, y, _ = way.points((shapes.x[first] + shapes.x[first + 1]) / 2, (shapes.y[first] + shapes.y[first + 1]) / 2)
    turn = lonlat.x[first + 1] - lonlat.x[first]
    middle_x = lonlat.x[first] + (turn - 360 * np.round(turn / 360)) / 2
    middle_y = (lonlat.y[first] + lonlat.y[first + 1]) / 2
    finite = np.isfinite(x) & np.isfinite(y) & np.isfinite(middle_x) & np.isfinite(middle_y)
    if not finite.any():
        return 0.0
    _, _, metres = _GEOD.inv(x[finite], y[finite], middle_x[finite], middle_y[finite])
    return float(np.max(metres))


def _lengths(shapes: Shapes) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.hypot(np.diff(shapes.x), np.diff(shapes.y))
    lengths[shapes.paths[1:-1] - 1] = 0.0
    return lengths
