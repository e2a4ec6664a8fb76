"""Close and wind rings, and drop repeated positions, for RFC 7946 (section 3.1.6) and Mapbox."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from airflow_mapbox.export.geometry.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Products of two smaller integers, and differences of such products, are exact in 64-bit floats.
_MAX_EXACT_FACTOR = 2.0**26


def close_rings(shapes: Shapes) -> Shapes:
    """Close rings: they end where they begin, at the same height."""
    if not shapes.kind.has_rings:
        return shapes
    shapes = _equal_end_heights(shapes)
    first, last = shapes.paths[:-1], shapes.paths[1:] - 1
    open_ = (shapes.x[first] != shapes.x[last]) | (shapes.y[first] != shapes.y[last])
    open_ &= last > first
    if not open_.any():
        return shapes
    at, starts = shapes.paths[1:][open_], first[open_]
    paths = shapes.paths + np.concatenate(([0], np.cumsum(open_)))
    z = None if shapes.z is None else np.insert(shapes.z, at, shapes.z[starts])
    return shapes.with_paths(
        paths, np.insert(shapes.x, at, shapes.x[starts]), np.insert(shapes.y, at, shapes.y[starts]), z
    )


def _equal_end_heights(shapes: Shapes) -> Shapes:
    """Set the height at the end of closed rings to that at their start (RFC 7946, section 3.1.6: "identical")."""
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
    Drop positions that are equal to the one before them, and then paths with too few positions.

    Positions that differ only in height stay: the leg of a borehole is vertical.
    """
    if not shapes.kind.min_positions:
        return shapes
    repeated = ~_moved(shapes)
    repeated[shapes.paths[1:-1] - 1] = False
    if repeated.any():
        shapes = shapes.keep_positions(np.concatenate(([True], ~repeated)))
    return drop_short_paths(shapes)


def _moved(shapes: Shapes) -> NDArray[np.bool_]:
    """Return whether each position differs from the one before it, shape (m - 1,)."""
    moved = (shapes.x[1:] != shapes.x[:-1]) | (shapes.y[1:] != shapes.y[:-1])
    if shapes.z is not None:
        moved |= shapes.z[1:] != shapes.z[:-1]
    result: NDArray[np.bool_] = moved
    return result


def has_enough_positions(shapes: Shapes) -> NDArray[np.bool_]:
    """Return whether each path has enough positions without repeated ones."""
    moved = np.zeros(len(shapes.x), dtype=bool)
    moved[1:] = _moved(shapes)
    moved[shapes.paths[:-1]] = True
    enough: NDArray[np.bool_] = np.add.reduceat(moved, shapes.paths[:-1], dtype=np.int64) >= shapes.kind.min_positions
    return enough


def drop_short_paths(shapes: Shapes) -> Shapes:
    """Drop lines of less than two positions and rings of less than four, and geometries without any left."""
    return shapes.drop_short_paths(shapes.kind.min_positions) if shapes.kind.min_positions else shapes


def wind_rings(shapes: Shapes) -> tuple[Shapes, NDArray[np.bool_], NDArray[np.bool_]]:
    """
    Wind outer rings counter-clockwise and holes clockwise (RFC 7946, section 3.1.6, the right-hand rule).

    :param shapes: geometries whose coordinates are integers, so that small products are exact.
    :return: the same geometries; whether each is certainly valid, shape (n,); and whether each ring has no area, shape
        (number of rings,). A geometry that is not certainly valid may still be valid.
    """
    certain = np.full(len(shapes), not shapes.kind.has_rings)
    flat = np.zeros(len(shapes.paths) - 1 if shapes.kind.has_rings else 0, dtype=bool)
    shapes = _equal_end_heights(shapes)  # repair and cuts interpolate heights
    if not shapes.kind.has_rings or not len(shapes):
        return shapes, certain, flat
    rings = shapes.offsets[-2]
    outer = np.zeros(len(shapes.paths) - 1, dtype=bool)
    outer[rings[:-1]] = True
    areas, simple, flat = _areas(shapes)
    if shapes.kind.depth == 2:
        certain = simple[rings[:-1]] & (np.diff(rings) == 1)
    wrong = (areas > 0) != outer
    if not wrong.any():
        return shapes, certain, flat
    lengths = np.diff(shapes.paths)
    order = np.arange(len(shapes.x))
    reversed_order = np.repeat(shapes.paths[:-1] + shapes.paths[1:] - 1, lengths) - order
    order = np.where(np.repeat(wrong, lengths), reversed_order, order)
    z = None if shapes.z is None else shapes.z[order]
    return shapes.with_paths(shapes.paths, shapes.x[order], shapes.y[order], z), certain, flat


def _areas(shapes: Shapes) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """
    Return twice the area of each ring, positive if it is counter-clockwise; whether the ring is certainly simple; and
    whether it certainly has no area.

    A ring does not cross itself if all its edges turn in the same direction around its middle, once in total.
    """
    first, lengths = shapes.paths[:-1], np.diff(shapes.paths)
    x = shapes.x - np.repeat(np.rint(np.add.reduceat(shapes.x, first) / lengths), lengths)
    y = shapes.y - np.repeat(np.rint(np.add.reduceat(shapes.y, first) / lengths), lengths)
    turned = np.empty(len(x))
    np.multiply(x[:-1], y[1:], out=turned[:-1])
    turned[:-1] -= x[1:] * y[:-1]
    # There is no edge from one ring to the next: put the ring's first edge there a second time.
    last = shapes.paths[1:] - 1
    turned[last] = turned[first]
    one_direction = (np.minimum.reduceat(turned, first) > 0) | (np.maximum.reduceat(turned, first) < 0)
    turned[last] = 0.0
    below = y < 0
    upwards = np.zeros(len(x), dtype=np.int64)
    upwards[:-1] = below[:-1] & ~below[1:]
    upwards[last] = 0
    once = np.add.reduceat(upwards, first) == 1
    exact = np.maximum(np.abs(x), np.abs(y)) < _MAX_EXACT_FACTOR
    exact_rings = np.logical_and.reduceat(exact, first) if not exact.all() else np.ones(len(first), dtype=bool)
    areas: NDArray[np.float64] = np.add.reduceat(turned, first)
    return areas, one_direction & once & exact_rings, (areas == 0) & exact_rings
