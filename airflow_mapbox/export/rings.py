"""Paths of coordinates as RFC 7946 (section 3.1.6) and Mapbox want them: closed, no vertex twice, wound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from airflow_mapbox.export.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def close_rings(shapes: Shapes) -> Shapes:
    """Repeat the first coordinate of rings that do not end where they begin."""
    if not shapes.kind.has_rings:
        return shapes
    first, last = shapes.paths[:-1], shapes.paths[1:] - 1
    open_ = (shapes.x[first] != shapes.x[last]) | (shapes.y[first] != shapes.y[last])
    open_ &= last > first
    if not open_.any():
        return shapes
    at, again = shapes.paths[1:][open_], first[open_]
    paths = shapes.paths + np.concatenate(([0], np.cumsum(open_)))
    z = None if shapes.z is None else np.insert(shapes.z, at, shapes.z[again])
    return shapes.at(paths, np.insert(shapes.x, at, shapes.x[again]), np.insert(shapes.y, at, shapes.y[again]), z)


def without_repeats(shapes: Shapes) -> Shapes:
    """Leave out vertices that rounding put on the vertex before them, and paths that have too few left."""
    least = shapes.kind.least
    if not least:
        return shapes
    repeated = (shapes.x[1:] == shapes.x[:-1]) & (shapes.y[1:] == shapes.y[:-1])
    repeated[shapes.paths[1:-1] - 1] = False
    if repeated.any():
        shapes = shapes.keep_coordinates(np.concatenate(([True], ~repeated)))
    return without_short(shapes)


def without_short(shapes: Shapes) -> Shapes:
    """Leave out lines of less than two vertices and rings of less than four, and what has none left."""
    least = shapes.kind.least
    if not least:
        return shapes
    lengths = np.diff(shapes.paths)
    if not len(lengths) or lengths.min() >= least:
        return shapes
    kept = lengths >= least
    if shapes.kind.has_rings:
        # A hole does not outlive its shell.
        polygons = shapes.offsets[-2]
        sizes = np.diff(polygons)
        kept &= np.repeat(kept[polygons[:-1][sizes > 0]], sizes[sizes > 0])
    return shapes.keep_paths(kept)


def wind_rings(shapes: Shapes) -> Shapes:
    """Wind outer rings counter-clockwise and holes clockwise (RFC 7946, section 3.1.6, the right-hand rule)."""
    if not shapes.kind.has_rings or not len(shapes):
        return shapes
    outer = np.zeros(len(shapes.paths) - 1, dtype=bool)
    outer[shapes.offsets[-2][:-1]] = True
    wrong = (_doubled_areas(shapes) > 0) != outer
    if not wrong.any():
        return shapes
    lengths = np.diff(shapes.paths)
    places = np.arange(len(shapes.x))
    mirrored = np.repeat(shapes.paths[:-1] + shapes.paths[1:] - 1, lengths) - places
    places = np.where(np.repeat(wrong, lengths), mirrored, places)
    z = None if shapes.z is None else shapes.z[places]
    return shapes.at(shapes.paths, shapes.x[places], shapes.y[places], z)


def _doubled_areas(shapes: Shapes) -> NDArray[np.float64]:
    """Give twice the area of each ring, positive where it is counter-clockwise; exact for small rings of integers."""
    first, lengths = shapes.paths[:-1], np.diff(shapes.paths)
    x = shapes.x - np.repeat(shapes.x[first], lengths)
    y = shapes.y - np.repeat(shapes.y[first], lengths)
    across = x[:-1] * y[1:]
    across -= x[1:] * y[:-1]
    across[shapes.paths[1:-1] - 1] = 0.0
    areas: NDArray[np.float64] = np.add.reduceat(across, first)
    return areas
