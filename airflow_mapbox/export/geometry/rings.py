"""Paths of coordinates as RFC 7946 (section 3.1.6) and Mapbox want them: closed, no position twice, wound."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from airflow_mapbox.export.geometry.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXACT = 2.0**26  # the products of two smaller whole numbers, and their differences, are exact in 64-bit floats


def close_rings(shapes: Shapes) -> Shapes:
    """Repeat the first coordinate of rings that do not end where they begin; one that does ends at the same height."""
    if not shapes.kind.has_rings:
        return shapes
    shapes = _level_ends(shapes)
    first, last = shapes.paths[:-1], shapes.paths[1:] - 1
    open_ = (shapes.x[first] != shapes.x[last]) | (shapes.y[first] != shapes.y[last])
    open_ &= last > first
    if not open_.any():
        return shapes
    at, again = shapes.paths[1:][open_], first[open_]
    paths = shapes.paths + np.concatenate(([0], np.cumsum(open_)))
    z = None if shapes.z is None else np.insert(shapes.z, at, shapes.z[again])
    return shapes.at(paths, np.insert(shapes.x, at, shapes.x[again]), np.insert(shapes.y, at, shapes.y[again]), z)


def _level_ends(shapes: Shapes) -> Shapes:
    """Give each closed ring the same height at its end as at its beginning (RFC 7946, section 3.1.6: identical)."""
    if shapes.z is None or not shapes.kind.has_rings:
        return shapes
    first, last = shapes.paths[:-1], shapes.paths[1:] - 1
    uneven = shapes.z[first] != shapes.z[last]
    uneven &= (shapes.x[first] == shapes.x[last]) & (shapes.y[first] == shapes.y[last])
    if not uneven.any():
        return shapes
    z = shapes.z.copy()
    z[last[uneven]] = z[first[uneven]]
    return replace(shapes, z=z)


def drop_repeated_positions(shapes: Shapes) -> Shapes:
    """
    Leave out positions that rounding put on the position before them, and paths that have too few left.

    Of two that differ in height alone both stay: the leg of a borehole, or of a track, is vertical.
    """
    least = shapes.kind.min_positions
    if not least:
        return shapes
    repeated = ~_moved(shapes)
    repeated[shapes.paths[1:-1] - 1] = False
    if repeated.any():
        shapes = shapes.keep_coordinates(np.concatenate(([True], ~repeated)))
    return drop_short_paths(shapes)


def _moved(shapes: Shapes) -> NDArray[np.bool_]:
    """Tell which positions differ from the one before them; shape (m - 1,)."""
    moved = (shapes.x[1:] != shapes.x[:-1]) | (shapes.y[1:] != shapes.y[:-1])
    if shapes.z is not None:
        moved |= shapes.z[1:] != shapes.z[:-1]
    result: NDArray[np.bool_] = moved
    return result


def has_enough_positions(shapes: Shapes) -> NDArray[np.bool_]:
    """Tell which paths have enough positions without those on the position before them."""
    moved = np.zeros(len(shapes.x), dtype=bool)
    moved[1:] = _moved(shapes)
    moved[shapes.paths[:-1]] = True
    enough: NDArray[np.bool_] = np.add.reduceat(moved, shapes.paths[:-1], dtype=np.int64) >= shapes.kind.min_positions
    return enough


def drop_short_paths(shapes: Shapes) -> Shapes:
    """Leave out lines of less than two vertices and rings of less than four, and what has none left."""
    return shapes.keep_longer(shapes.kind.min_positions) if shapes.kind.min_positions else shapes


def wind_rings(shapes: Shapes) -> tuple[Shapes, NDArray[np.bool_]]:
    """
    Wind outer rings counter-clockwise and holes clockwise (RFC 7946, section 3.1.6, the right-hand rule).

    :param shapes: with coordinates in whole numbers, of which small products are exact.
    :return: the same geometries, and which of them are valid for certain; of others it is not known.
    """
    certain = np.full(len(shapes), not shapes.kind.has_rings)
    shapes = _level_ends(shapes)  # repair and cuts interpolate heights
    if not shapes.kind.has_rings or not len(shapes):
        return shapes, certain
    rings = shapes.offsets[-2]
    outer = np.zeros(len(shapes.paths) - 1, dtype=bool)
    outer[rings[:-1]] = True
    areas, simple = _areas(shapes)
    if shapes.kind.depth == 2:
        certain = simple[rings[:-1]] & (np.diff(rings) == 1)
    wrong = (areas > 0) != outer
    if not wrong.any():
        return shapes, certain
    lengths = np.diff(shapes.paths)
    places = np.arange(len(shapes.x))
    mirrored = np.repeat(shapes.paths[:-1] + shapes.paths[1:] - 1, lengths) - places
    places = np.where(np.repeat(wrong, lengths), mirrored, places)
    z = None if shapes.z is None else shapes.z[places]
    return shapes.at(shapes.paths, shapes.x[places], shapes.y[places], z), certain


def _areas(shapes: Shapes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """
    Give twice the area of each ring, positive where it is counter-clockwise; and which rings are simple for certain.

    A ring whose every edge turns the same way around its middle, and that goes around it once, does not cross itself.
    """
    first, lengths = shapes.paths[:-1], np.diff(shapes.paths)
    x = shapes.x - np.repeat(np.rint(np.add.reduceat(shapes.x, first) / lengths), lengths)
    y = shapes.y - np.repeat(np.rint(np.add.reduceat(shapes.y, first) / lengths), lengths)
    turned = np.empty(len(x))
    np.multiply(x[:-1], y[1:], out=turned[:-1])
    turned[:-1] -= x[1:] * y[:-1]
    # No edge leads from one ring to the next: its place is taken by the first edge, which is there twice then.
    last = shapes.paths[1:] - 1
    turned[last] = turned[first]
    one_way = (np.minimum.reduceat(turned, first) > 0) | (np.maximum.reduceat(turned, first) < 0)
    turned[last] = 0.0
    below = y < 0
    upwards = np.zeros(len(x), dtype=np.int64)
    upwards[:-1] = below[:-1] & ~below[1:]
    upwards[last] = 0
    once = np.add.reduceat(upwards, first) == 1
    exact = np.maximum(np.abs(x), np.abs(y)) < _EXACT
    simple = one_way & once & (np.logical_and.reduceat(exact, first) if not exact.all() else True)
    areas: NDArray[np.float64] = np.add.reduceat(turned, first)
    return areas, simple
