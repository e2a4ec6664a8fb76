"""
Cut geometries that cross ±180 degrees of longitude (RFC 7946, section 3.1.9), also polygons over a pole.

First the longitudes of each line or ring are unrolled: they continue beyond ±180. Then the result is cut into turns of
360 degrees. The package ``antimeridian`` distinguishes cases instead: it fails for heights, and makes slivers at -180.

    170, -170  ─unroll─►  170, 190  ─cut at 180─►  170, 180 | 180, 190  ─shift─►  170, 180 | -180, -170
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from airflow_mapbox.export.geometry.areas import repaired, united
from airflow_mapbox.export.geometry.crs import Transformation
from airflow_mapbox.export.geometry.lines import add_vertices, middles, split_lines
from airflow_mapbox.export.geometry.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NOISE_DEGREES = 1e-9  # how far a transformation misses ±180


def crossings(source: Shapes, lonlat: Shapes, transformation: Transformation) -> NDArray[np.int64]:
    """
    Find edges that cross the antimeridian.

    If the source is in longitude, latitude, edges of more than 180 degrees do. An edge of 360 degrees, from 180 to
    -180, runs around the world or along the antimeridian: see :func:`_along_antimeridian`. In a projected system the
    middle of the edge decides.

    :param source: geometries before the transformation.
    :param lonlat: the same geometries after it.
    :param transformation: the transformation from one to the other.
    :return: turns from each coordinate to the next one: -1, 0 or 1; shape (m,).
    """
    turns = np.zeros(len(lonlat.x), dtype=np.int64)
    if lonlat.kind.min_positions == 0 or not len(lonlat) or np.ptp(lonlat.x) <= 180:
        return turns
    spans = np.diff(lonlat.x)
    wide = np.flatnonzero((np.abs(spans) > 180) & lonlat.edges_inside())
    if transformation.projected and len(wide):
        x, _, _ = transformation.points(
            (source.x[wide] + source.x[wide + 1]) / 2, (source.y[wide] + source.y[wide + 1]) / 2
        )
        middle = lonlat.x[wide] + spans[wide] / 2
        distance = np.abs((x - middle + 180) % 360 - 180)
        wide = wide[~(distance < 90)]  # also if it is NaN
    turns[wide] = -np.sign(spans[wide]).astype(np.int64)
    around = wide[np.abs(spans[wide]) > 360 - _NOISE_DEGREES]
    if len(around) and not transformation.projected:
        turns_along = turns.copy()
        turns[around] = 0
        for path in np.unique(np.searchsorted(lonlat.paths, around, side="right") - 1):
            positions = slice(lonlat.paths[path], lonlat.paths[path + 1])
            if _along_antimeridian(lonlat, positions, turns[positions], turns_along[positions]):
                turns[positions] = turns_along[positions]
    return turns


def _along_antimeridian(
    lonlat: Shapes, positions: slice, turns_around: NDArray[np.int64], turns_along: NDArray[np.int64]
) -> bool:
    """
    Return whether the edges of 360 degrees of a path run along ±180 instead of around the world.

    They run along it if the path then lies on both sides of ±180. They also do if the path would otherwise go around a
    pole or cross itself. A path that is valid around the world stays: a rectangle from -180 to 180.

    :param positions: the path's positions.
    :param turns_around: turns of its edges, if those of 360 degrees run around the world and so do not cross.
    :param turns_along: turns of its edges, if those of 360 degrees run along ±180 and so cross.
    """
    written, along = (unrolled_path(lonlat, positions, turns)[:, :2] for turns in (turns_around, turns_along))
    if not lonlat.kind.has_rings or not turns_along[:-1].sum():
        west, east = (along[:, 0].min() + 180) / 360, (along[:, 0].max() + 180) / 360
        both_sides = np.floor(west + _NOISE_DEGREES) + 1 < east - _NOISE_DEGREES
        if both_sides or (lonlat.kind.has_rings and turns_around[:-1].sum()):
            return True
    return bool(shapely.is_simple(shapely.linestrings(along)) and not shapely.is_simple(shapely.linestrings(written)))


def cut_lines(lonlat: Shapes, turns: NDArray[np.int64]) -> Shapes:
    """
    Cut lines.

    :param lonlat: lines after the transformation.
    :param turns: the result of :func:`crossings`.
    :return: multi-part lines in the same order, within ±180 degrees.
    """
    x = _unrolled(lonlat, turns)
    nearest = 360 * np.floor(x / 360) + 180
    x = np.where(np.abs(x - nearest) < _NOISE_DEGREES, nearest, x)
    lines = add_vertices(replace(lonlat, x=x), "x", np.arange(nearest.min(), nearest.max() + 1, 360))
    # An edge along ±180 is not a part by itself: it belongs to the side that the line comes from.
    along = (lines.x[1:] == lines.x[:-1]) & (lines.x[1:] % 360 == 180)
    parts = split_lines(lines, np.rint((lines.x[1:] + lines.x[:-1]) / 720), along)
    return replace(parts, x=parts.x - np.repeat(_to_whole_turns(middles(parts, parts.x)), np.diff(parts.paths)))


def cut_polygons(
    source: Shapes, lonlat: Shapes, turns: NDArray[np.int64], *, projected: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """
    Cut polygons.

    :param source: polygons before the transformation. They tell which side of a ring around a pole is inside.
    :param lonlat: the same polygons after it.
    :param turns: the result of :func:`crossings`.
    :param projected: whether the source is in a projected system.
    :return: two arrays of shapely geometries, shape (n,): valid ones within ±180 degrees, and the uncut ones with
        unrolled longitudes. The second ones tell whether the data is valid.
    """
    lonlat = replace(lonlat, x=_unrolled(lonlat, turns))
    paths, rings = lonlat.paths, lonlat.offsets[-2]
    around = np.add.reduceat(turns, paths[:-1])
    coordinates = lonlat.coordinates()
    indices = np.repeat(np.arange(len(paths) - 1), np.diff(paths))
    areas = shapely.polygons(shapely.linearrings(coordinates, indices=indices))
    for path in np.flatnonzero(around):
        ring = slice(paths[path], paths[path + 1])
        north = _is_north(source.x[ring], source.y[ring], lonlat.y[ring], int(around[path]), projected=projected)
        areas[path] = shapely.polygons(_close_over_pole(coordinates[ring], 90.0 if north else -90.0))
    uncut = _assemble(lonlat, areas, around != 0)
    areas = repaired(areas)
    west, _, east, _ = shapely.bounds(areas).T
    for path in np.flatnonzero((west < -180) | (east > 180)):
        areas[path] = _within_180(areas[path])
    polygons = areas[rings[:-1]]
    for polygon in np.flatnonzero(np.diff(rings) > 1):
        # Subtract all holes at once: one by one, GEOS would process all earlier holes again.
        holes = shapely.get_parts(areas[rings[polygon] + 1 : rings[polygon + 1]])
        polygons[polygon] = shapely.difference(polygons[polygon], united(holes[~shapely.is_empty(holes)]))
    members = lonlat.offsets[0] if lonlat.kind.depth == 3 else np.arange(len(lonlat) + 1)
    cut = np.empty(len(lonlat), dtype=object)
    cut[:] = [_as_one(polygons[start:end]) for start, end in itertools.pairwise(members)]
    return cut, uncut


def _assemble(lonlat: Shapes, areas: NDArray[Any], polar: NDArray[np.bool_]) -> NDArray[Any]:
    """
    Assemble uncut geometries: shift their rings by whole turns, holes into their shells and parts near the first one.

    A polygon over a pole gets no holes, because they may lie across the two ends of its ring.

    :param lonlat: geometries with longitudes that are unrolled ring by ring.
    :param areas: a polygon of each ring.
    :param polar: whether each ring goes around a pole.
    """
    rings = lonlat.offsets[-2]
    members = lonlat.offsets[0] if lonlat.kind.depth == 3 else np.arange(len(lonlat) + 1)
    middle = middles(lonlat, lonlat.x)
    shells = rings[:-1]
    shift = _to_whole_turns(np.repeat(middle[shells[members[:-1]]], np.diff(members)) - middle[shells])
    holes = np.repeat(middle[shells] + shift, np.diff(rings)) - middle
    shift = np.where(_is_shell(lonlat), np.repeat(shift, np.diff(rings)), _to_whole_turns(holes))
    uncut = replace(lonlat, x=lonlat.x + np.repeat(shift, np.diff(lonlat.paths))).to_shapely()
    for row in np.unique(lonlat.owners(lonlat.paths[:-1][polar])):
        parts, row_shells = shapely.get_parts(uncut[row]), shells[members[row] : members[row + 1]]
        for polygon in np.flatnonzero(polar[row_shells]):
            parts[polygon] = _shifted(areas[row_shells[polygon]], shift[row_shells[polygon]])
        uncut[row] = shapely.multipolygons(parts)
    return uncut


def _to_whole_turns(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to multiples of 360 degrees."""
    return 360 * np.round(degrees / 360)


def _unrolled(lonlat: Shapes, turns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return longitudes that continue beyond ±180 along each path."""
    turned = np.concatenate(([0], np.cumsum(turns[:-1])))
    x: NDArray[np.float64] = lonlat.x + 360.0 * (turned - np.repeat(turned[lonlat.paths[:-1]], np.diff(lonlat.paths)))
    return x


def unrolled_path(lonlat: Shapes, positions: slice, turns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the coordinates of a path with unrolled longitudes, shape (m, 2) or (m, 3)."""
    x = lonlat.x[positions] + 360.0 * np.concatenate(([0], np.cumsum(turns[:-1])))
    ordinates = [x, lonlat.y[positions]] + ([] if lonlat.z is None else [lonlat.z[positions]])
    return np.stack(ordinates, axis=1)


def _is_shell(lonlat: Shapes) -> NDArray[np.bool_]:
    """Return whether each path is an outer ring."""
    shells = np.zeros(len(lonlat.paths) - 1, dtype=bool)
    shells[lonlat.offsets[-2][:-1]] = True
    return shells


def _is_north(x: Any, y: Any, latitudes: Any, turned: int, *, projected: bool) -> bool:
    """
    Return whether a ring goes around the north pole, or around the south pole.

    A projected ring has an inside: the pole lies to the left of a counter-clockwise ring. In longitude, latitude both
    sides are possible, and the nearer pole is used.
    """
    if not projected:
        return bool(np.mean(latitudes) > 0)
    x, y = x - x[0], y - y[0]
    counter_clockwise = np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0
    return bool(counter_clockwise == (turned > 0))


def _close_over_pole(coordinates: NDArray[np.float64], pole: float) -> NDArray[np.float64]:
    """Close a ring that goes once around the world, along the pole."""
    first, last = coordinates[0].copy(), coordinates[-1].copy()
    first[1] = last[1] = pole
    return np.concatenate((coordinates, [last, first, coordinates[0]]))


def _within_180(area: Any) -> Any:
    """Cut an area into turns of the world, shift each to within ±180 degrees, and unite them."""
    west, _, east, _ = shapely.bounds(area)
    first, last = int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360))
    shifted = [_shifted(part, -360 * turn) for turn, part in _by_turn(area, first, last)]
    parts = shapely.get_parts(np.array(shifted, dtype=object))
    return united(parts[shapely.get_dimensions(parts) == 2])


def _by_turn(area: Any, first: int, last: int) -> Iterator[tuple[int, Any]]:
    """Cut an area into turns by halving it. Cutting each turn from the whole area would take quadratic time."""
    if last - first == 1:
        yield first, area
        return
    middle = (first + last) // 2
    for start, end in ((first, middle), (middle, last)):
        box = shapely.box(360 * start - 180, -90, 360 * end - 180, 90)
        yield from _by_turn(shapely.intersection(area, box), start, end)


def _shifted(geometry: Any, degrees: float) -> Any:
    has_z = bool(shapely.has_z(geometry))
    shift = [degrees, 0, 0] if has_z else [degrees, 0]
    return shapely.transform(geometry, lambda coordinates: coordinates + shift, include_z=has_z)


def _as_one(polygons: NDArray[Any]) -> Any:
    """Return a polygon or multipolygon of all parts that have an area."""
    parts = shapely.get_parts(polygons)
    parts = parts[shapely.get_dimensions(parts) == 2]
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
