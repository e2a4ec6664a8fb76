"""
Lines parted at a meridian or a parallel, edge by edge.

The overlay of GEOS would part them where they cross themselves, and make one of two legs that lie on one another.
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


def with_vertices(lines: Shapes, axis: Literal["x", "y"], marks: NDArray[np.float64]) -> Shapes:
    """
    Put a vertex wherever an edge passes a mark; one that only reaches it has its own there.

    :param lines: all of them.
    :param axis: along which the marks are.
    :param marks: ascending.
    :return: the same lines, with heights interpolated.
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
    return lines.at(lines.paths + before[lines.paths], between(lines.x), between(lines.y), z)


def parted(lines: Shapes, sides: NDArray[np.float64 | np.bool_], along: NDArray[np.bool_] | None = None) -> Shapes:
    """
    Part lines where they change sides.

    :param lines: all of them.
    :param sides: on which each edge is, shape (m - 1,).
    :param along: edges that are on no side, and stay with those before them.
    :return: the parts of each, in order, as a line of several parts.
    """
    moving = lines.edges_inside() & ((lines.x[1:] != lines.x[:-1]) | (lines.y[1:] != lines.y[:-1]))
    edges = np.flatnonzero(moving if along is None else moving & ~along)
    paths = np.searchsorted(lines.paths, edges, side="right")
    # The first vertex of an edge ends one part, and begins the next.
    breaks = edges[1:][(sides[edges[1:]] != sides[edges[:-1]]) & (paths[1:] == paths[:-1])]
    starts = np.sort(np.concatenate((lines.paths, breaks)))
    places = np.sort(np.concatenate((np.arange(len(lines.x)), breaks)))
    return Shapes(
        _LINES,
        lines.rows,
        (np.searchsorted(starts, lines.starts), starts + np.searchsorted(breaks, starts, side="right")),
        lines.x[places],
        lines.y[places],
        None if lines.z is None else lines.z[places],
    )


def middles(lines: Shapes, ordinate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the middle between the least and the greatest of each path."""
    first = lines.paths[:-1]
    middle: NDArray[np.float64] = (np.minimum.reduceat(ordinate, first) + np.maximum.reduceat(ordinate, first)) / 2
    return middle


def single_parts_as_lines(lines: Shapes) -> Iterator[Shapes]:
    """Give lines of one part as simple ones, and the others as they are."""
    alone = np.diff(lines.offsets[0]) == 1
    single = lines.select(alone)
    yield replace(single, kind=_LINE, offsets=single.offsets[1:])
    yield lines.select(~alone)
