"""Add vertices to straight edges of a projected system, which are curves in longitude, latitude."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pyproj import Geod

from airflow_mapbox.errors import ExportError
from airflow_mapbox.export.geometry.crs import Transformation
from airflow_mapbox.export.geometry.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_VERTICES = 1 << 23  # of a batch; they take about half a gigabyte with everything made from them

_GEOD = Geod(ellps="WGS84")


def densify(shapes: Shapes, longest: float) -> Shapes:
    """
    Add vertices to long edges, at equal distances.

    :param shapes: geometries in a projected system.
    :param longest: maximum length of an edge, in units of that system.
    :raises ExportError: if there would be more vertices than memory should hold.
    """
    lengths = np.sqrt(_squares(shapes))
    segments = np.ones(len(shapes.x), dtype=np.int64)
    long = lengths > longest
    segments[:-1][long] = np.ceil(lengths[long] / longest).astype(np.int64)
    if (segments == 1).all():
        return shapes
    ends = np.concatenate(([0], np.cumsum(segments)))
    if ends[-1] > _MAX_VERTICES:
        raise ExportError(
            f"max_segment= would make {ends[-1]:,} vertices of one batch of features; at most {_MAX_VERTICES:,} are "
            "allowed.\nUse longer segments, or fewer features in a batch with batch_rows=."
        )
    source = np.repeat(np.arange(len(shapes.x)), segments)
    share = (np.arange(ends[-1]) - ends[source]) / segments[source]

    def between(ordinate: NDArray[np.float64]) -> NDArray[np.float64]:
        following = np.append(ordinate[1:], ordinate[-1:])
        return np.where(share == 0, ordinate[source], ordinate[source] + share * (following - ordinate)[source])

    z = None if shapes.z is None else between(shapes.z)
    return shapes.with_paths(ends[shapes.paths], between(shapes.x), between(shapes.y), z)


def edge_error(shapes: Shapes, lonlat: Shapes, transformation: Transformation) -> float:
    """
    Return how far the longest edge is from the same edge as a straight line in longitude, latitude.

    The error grows with the square of the length, so the longest edge has the largest.

    :param shapes: geometries in a projected system.
    :param lonlat: the same geometries, transformed.
    :param transformation: the transformation from one to the other.
    :return: metres between the middles of the two lines.
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
    """Return the squared lengths of edges, shape (m - 1,); 0 between two paths."""
    with np.errstate(invalid="ignore", over="ignore"):
        dx, dy = np.diff(shapes.x), np.diff(shapes.y)
        dx *= dx
        dy *= dy
        dx += dy
    dx[shapes.paths[1:-1] - 1] = 0.0
    return dx
