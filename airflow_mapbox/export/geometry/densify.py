"""Straight edges of a projected reference system, which are curves in longitude, latitude."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pyproj import Geod

from airflow_mapbox.errors import ExportError
from airflow_mapbox.export.geometry.crs import Transformation
from airflow_mapbox.export.geometry.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

# In a slice; with what comes of them they take about half a gigabyte.
_MOST_VERTICES = 1 << 23

_GEOD = Geod(ellps="WGS84")


def densify(shapes: Shapes, longest: float) -> Shapes:
    """
    Put vertices on edges that are too long, at equal distances.

    :param shapes: in a projected system.
    :param longest: in that system's units.
    :raises ExportError: where there would be more than memory should have to hold.
    """
    lengths = np.sqrt(_squares(shapes))
    pieces = np.ones(len(shapes.x), dtype=np.int64)
    long = lengths > longest
    pieces[:-1][long] = np.ceil(lengths[long] / longest).astype(np.int64)
    if (pieces == 1).all():
        return shapes
    ends = np.concatenate(([0], np.cumsum(pieces)))
    if ends[-1] > _MOST_VERTICES:
        raise ExportError(
            f"max_segment= would make {ends[-1]:,} vertices of one slice of features, where {_MOST_VERTICES:,} are the "
            "most.\nGive longer segments, or have fewer features in a slice with batch_rows=."
        )
    source = np.repeat(np.arange(len(shapes.x)), pieces)
    share = (np.arange(ends[-1]) - ends[source]) / pieces[source]

    def between(ordinate: NDArray[np.float64]) -> NDArray[np.float64]:
        following = np.append(ordinate[1:], ordinate[-1:])
        return np.where(share == 0, ordinate[source], ordinate[source] + share * (following - ordinate)[source])

    z = None if shapes.z is None else between(shapes.z)
    return shapes.at(ends[shapes.paths], between(shapes.x), between(shapes.y), z)


def edge_error(shapes: Shapes, lonlat: Shapes, transformation: Transformation) -> float:
    """
    Say how far the longest edge is from where it would be as a straight line in longitude, latitude.

    The error grows with the square of the length, so the longest edge tells.

    :param shapes: in a projected system.
    :param lonlat: the same, transformed.
    :param transformation: the transformation from one to the other.
    :return: metres between the two middles of the edge.
    """
    squares = _squares(shapes)
    if not len(squares):
        return 0.0
    edge = int(np.argmax(squares))
    ends = slice(edge, edge + 2)
    x, y, _ = transformation.points(np.mean(shapes.x[ends], keepdims=True), np.mean(shapes.y[ends], keepdims=True))
    turn = lonlat.x[edge + 1] - lonlat.x[edge]
    middle = lonlat.x[edge] + (turn - 360 * np.round(turn / 360)) / 2, np.mean(lonlat.y[ends])
    if not np.isfinite([x[0], y[0], *middle]).all():
        return 0.0
    _, _, metres = _GEOD.inv(x[0], y[0], *middle)
    return float(metres)


def _squares(shapes: Shapes) -> NDArray[np.float64]:
    """Give the squared lengths of edges; 0 between two paths."""
    with np.errstate(invalid="ignore", over="ignore"):
        across, up = np.diff(shapes.x), np.diff(shapes.y)
        across *= across
        up *= up
        across += up
    across[shapes.paths[1:-1] - 1] = 0.0
    return across
