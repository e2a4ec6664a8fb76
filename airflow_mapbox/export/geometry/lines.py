"""
Split lines at meridians or parallels, edge by edge.

GEOS's overlay would also split lines where they cross themselves, and merge two legs that lie on each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from airflow_mapbox.export.geometry.shapes import KINDS, Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINE, _LINES = KINDS[2], KINDS[5]


def add_vertices(lines: Shapes, axis: Literal["x", "y"], marks: NDArray[np.float64]) -> Shapes:
    """
    Add a vertex wherever an edge passes a mark. An edge that only reaches a mark has a vertex there already.

    :param lines: the lines.
    :param axis: the axis of the marks.
    :param marks: coordinates on that axis, ascending.
    :return: the same lines with more vertices, their heights interpolated.
    """
    along = lines.x if axis == "x" else lines.y
    first, last = along[:-1], along[1:]
    low = np.searchsorted(marks, np.minimum(first, last), side="right")
    high = np.searchsorted(marks, np.maximum(first, last), side="left")
    counts = np.where(lines.edges_inside(), np.maximum(high - low, 0), 0)
    ends = np.cumsum(counts)
    edges = np.repeat(np.arange(len(counts)), counts)
    nth = np.arange(len(edges)) - (ends - counts)[edges]
    passed = marks[np.where((first < last)[edges], low[edges] + nth, high[edges] - 1 - nth)]
    share = (passed - first[edges]) / (last - first)[edges]

    def between(ordinate: NDArray[np.float64]) -> NDArray[np.float64]:
        new = passed if ordinate is along else ordinate[edges] + share * np.diff(ordinate)[edges]
        return np.insert(ordinate, edges + 1, new)

    before = np.concatenate(([0], ends, ends[-1:]))
    z = None if lines.z is None else between(lines.z)
    return lines.with_paths(lines.paths + before[lines.paths], between(lines.x), between(lines.y), z)


def split_lines(lines: Shapes, sides: NDArray[np.float64 | np.bool_], along: NDArray[np.bool_] | None = None) -> Shapes:
    """
    Split lines where they change sides.

    :param lines: the lines.
    :param sides: the side of each edge, shape (m - 1,).
    :param along: whether each edge lies between the sides. It then stays with the edge before it.
    :return: multi-part lines, whose parts are in order.
    """
    moving = lines.edges_inside() & ((lines.x[1:] != lines.x[:-1]) | (lines.y[1:] != lines.y[:-1]))
    edges = np.flatnonzero(moving if along is None else moving & ~along)
    paths = np.searchsorted(lines.paths, edges, side="right")
    # The first vertex of an edge ends one part and begins the next.
    breaks = edges[1:][(sides[edges[1:]] != sides[edges[:-1]]) & (paths[1:] == paths[:-1])]
    starts = np.sort(np.concatenate((lines.paths, breaks)))
    vertices = np.sort(np.concatenate((np.arange(len(lines.x)), breaks)))
    return Shapes(
        _LINES,
        lines.rows,
        (np.searchsorted(starts, lines.starts), starts + np.searchsorted(breaks, starts, side="right")),
        lines.x[vertices],
        lines.y[vertices],
        None if lines.z is None else lines.z[vertices],
    )


def middles(lines: Shapes, ordinate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the middle between the smallest and the largest ordinate of each path."""
    first = lines.paths[:-1]
    middle: NDArray[np.float64] = (np.minimum.reduceat(ordinate, first) + np.maximum.reduceat(ordinate, first)) / 2
    return middle


def single_parts_as_lines(lines: Shapes) -> Iterator[Shapes]:
    """Yield multi-part lines with one part as lines, and the others unchanged."""
    has_one_part = np.diff(lines.offsets[0]) == 1
    single = lines.select(has_one_part)
    yield replace(single, kind=_LINE, offsets=single.offsets[1:])
    yield lines.select(~has_one_part)
