"""
Cuts geometries where they cross ±180 degrees of longitude (RFC 7946, section 3.1.9), also polygons over a pole.

The longitudes of a line or ring are counted on past ±180, and the result cut into turns of 360 degrees. The package
``antimeridian`` does this by cases: it raises for heights and makes slivers of vertices at -180.
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
from airflow_mapbox.export.geometry.lines import middles, parted, with_vertices
from airflow_mapbox.export.geometry.shapes import Shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NOISE = 1e-9  # degrees by which a transformation misses ±180


def crossings(source: Shapes, lonlat: Shapes, transformation: Transformation) -> NDArray[np.int64]:
    """
    Find edges that cross the antimeridian.

    An edge of more than 180 degrees does, where the source is in longitude, latitude. One of 360, between the two signs
    of the same meridian, goes all around the world or along ±180: see :func:`_along_seam`. In any other system the
    middle of the edge tells which way it goes.

    :param source: before the transformation.
    :param lonlat: after it.
    :param transformation: the transformation from one to the other.
    :return: for each coordinate the turn, -1, 0 or 1, from it to the next one; shape (m,).
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
        straight = lonlat.x[wide] + spans[wide] / 2
        off = np.abs((x - straight + 180) % 360 - 180)
        wide = wide[~(off < 90)]
    turns[wide] = -np.sign(spans[wide]).astype(np.int64)
    around = wide[np.abs(spans[wide]) > 360 - _NOISE]
    if len(around) and not transformation.projected:
        seam = turns.copy()
        turns[around] = 0
        for path in np.unique(np.searchsorted(lonlat.paths, around, side="right") - 1):
            chosen = slice(lonlat.paths[path], lonlat.paths[path + 1])
            if _along_seam(lonlat, chosen, turns[chosen], seam[chosen]):
                turns[chosen] = seam[chosen]
    return turns


def _along_seam(lonlat: Shapes, chosen: slice, around: NDArray[np.int64], seam: NDArray[np.int64]) -> bool:
    """
    Say whether the edges of 360 degrees of a path run along ±180 instead of all around the world.

    They do where it lies on both sides of ±180 then, where the ring would go around a pole otherwise, and where the
    path would cross itself otherwise. What makes sense as it is written is left so: a rectangle from -180 to 180.

    :param chosen: the path's coordinates.
    :param around: the turns of its edges, with none for these ones.
    :param seam: the turns, with one for each of these.
    """
    written, along = (lonlat_of(lonlat, chosen, turns)[:, :2] for turns in (around, seam))
    if not lonlat.kind.has_rings or not seam[:-1].sum():
        west, east = (along[:, 0].min() + 180) / 360, (along[:, 0].max() + 180) / 360
        both_sides = np.floor(west + _NOISE) + 1 < east - _NOISE
        if both_sides or (lonlat.kind.has_rings and around[:-1].sum()):
            return True
    return bool(shapely.is_simple(shapely.linestrings(along)) and not shapely.is_simple(shapely.linestrings(written)))


def cut_lines(lonlat: Shapes, turns: NDArray[np.int64]) -> Shapes:
    """
    Cut lines.

    :param lonlat: after the transformation.
    :param turns: what :func:`crossings` gave.
    :return: lines of several parts, in their order, within ±180 degrees.
    """
    x = _counted_on(lonlat, turns)
    nearest = 360 * np.floor(x / 360) + 180
    x = np.where(np.abs(x - nearest) < _NOISE, nearest, x)
    lines = with_vertices(replace(lonlat, x=x), "x", np.arange(nearest.min(), nearest.max() + 1, 360))
    # What runs along ±180 is no part of its own, but goes on where the line comes from.
    along = (lines.x[1:] == lines.x[:-1]) & (lines.x[1:] % 360 == 180)
    parts = parted(lines, np.rint((lines.x[1:] + lines.x[:-1]) / 720), along)
    whole = 360 * np.rint(middles(parts, parts.x) / 360)
    return replace(parts, x=parts.x - np.repeat(whole, np.diff(parts.paths)))


def cut_polygons(
    source: Shapes, lonlat: Shapes, turns: NDArray[np.int64], *, projected: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """
    Cut polygons.

    :param source: before the transformation, which tells what is inside of a ring around a pole.
    :param lonlat: after it.
    :param turns: what :func:`crossings` gave.
    :param projected: whether the source is in a projected system.
    :return: two arrays of shapely geometries, shape (n,): within ±180 degrees, valid; and uncut, with longitudes
        counted on past ±180, which tell whether they were valid.
    """
    lonlat = replace(lonlat, x=_counted_on(lonlat, turns))
    paths, rings = lonlat.paths, lonlat.offsets[-2]
    around = np.add.reduceat(turns, paths[:-1])
    coordinates = lonlat.coordinates()
    indices = np.repeat(np.arange(len(paths) - 1), np.diff(paths))
    areas = shapely.polygons(shapely.linearrings(coordinates, indices=indices))
    for path in np.flatnonzero(around):
        own = slice(paths[path], paths[path + 1])
        north = _is_north(source.x[own], source.y[own], lonlat.y[own], int(around[path]), projected=projected)
        areas[path] = shapely.polygons(_over_pole(coordinates[own], 90.0 if north else -90.0))
    uncut = _together(lonlat, areas, around != 0)
    areas = repaired(areas)
    west, _, east, _ = shapely.bounds(areas).T
    for path in np.flatnonzero((west < -180) | (east > 180)):
        areas[path] = _within(areas[path])
    polygons = areas[rings[:-1]]
    for place in np.flatnonzero(np.diff(rings) > 1):
        # All holes at once: one by one, each would have GEOS look at all that were cut out before.
        holes = shapely.get_parts(areas[rings[place] + 1 : rings[place + 1]])
        polygons[place] = shapely.difference(polygons[place], united(holes[~shapely.is_empty(holes)]))
    members = lonlat.offsets[0] if lonlat.kind.depth == 3 else np.arange(len(lonlat) + 1)
    cut = np.empty(len(lonlat), dtype=object)
    cut[:] = [_joined(polygons[start:end]) for start, end in itertools.pairwise(members)]
    return cut, uncut


def _together(lonlat: Shapes, areas: NDArray[Any], polar: NDArray[np.bool_]) -> NDArray[Any]:
    """
    Put the rings of each geometry next to each other by whole turns: holes into their shells, parts beside the first.

    A polygon over a pole is without its holes, which may lie across the two ends of its ring.

    :param lonlat: with longitudes counted on from each ring's own first one.
    :param areas: of each ring.
    :param polar: rings that go around a pole.
    """
    rings = lonlat.offsets[-2]
    members = lonlat.offsets[0] if lonlat.kind.depth == 3 else np.arange(len(lonlat) + 1)
    middle = middles(lonlat, lonlat.x)
    shells = rings[:-1]
    moved = _turns(np.repeat(middle[shells[members[:-1]]], np.diff(members)) - middle[shells])
    holes = np.repeat(middle[shells] + moved, np.diff(rings)) - middle
    moved = np.where(_shells(lonlat), np.repeat(moved, np.diff(rings)), _turns(holes))
    uncut = replace(lonlat, x=lonlat.x + np.repeat(moved, np.diff(lonlat.paths))).to_shapely()
    for place in np.unique(lonlat.owners(lonlat.paths[:-1][polar])):
        parts, own = shapely.get_parts(uncut[place]), shells[members[place] : members[place + 1]]
        for polygon in np.flatnonzero(polar[own]):
            parts[polygon] = _shifted(areas[own[polygon]], moved[own[polygon]])
        uncut[place] = shapely.multipolygons(parts)
    return uncut


def _turns(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to whole turns of 360 degrees."""
    return 360 * np.round(degrees / 360)


def _counted_on(lonlat: Shapes, turns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give longitudes that go on past ±180 along each path."""
    turned = np.concatenate(([0], np.cumsum(turns[:-1])))
    x: NDArray[np.float64] = lonlat.x + 360.0 * (turned - np.repeat(turned[lonlat.paths[:-1]], np.diff(lonlat.paths)))
    return x


def lonlat_of(lonlat: Shapes, chosen: slice, turns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the coordinates of a path with longitudes counted on past ±180."""
    x = lonlat.x[chosen] + 360.0 * np.concatenate(([0], np.cumsum(turns[:-1])))
    ordinates = [x, lonlat.y[chosen]] + ([] if lonlat.z is None else [lonlat.z[chosen]])
    return np.stack(ordinates, axis=1)


def _shells(lonlat: Shapes) -> NDArray[np.bool_]:
    """Tell which paths are outer rings."""
    shells = np.zeros(len(lonlat.paths) - 1, dtype=bool)
    shells[lonlat.offsets[-2][:-1]] = True
    return shells


def _is_north(x: Any, y: Any, latitudes: Any, turned: int, *, projected: bool) -> bool:
    """
    Say which pole a ring goes around.

    A projected ring has an inside: to the left of a ring that is wound counter-clockwise is the pole that it holds. In
    longitude, latitude a ring around a pole has none, and the nearer pole is meant.
    """
    if not projected:
        return bool(np.mean(latitudes) > 0)
    x, y = x - x[0], y - y[0]
    counter_clockwise = np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0
    return bool(counter_clockwise == (turned > 0))


def _over_pole(coordinates: NDArray[np.float64], pole: float) -> NDArray[np.float64]:
    """Close a ring that goes once around the world along the pole."""
    first, last = coordinates[0].copy(), coordinates[-1].copy()
    first[1] = last[1] = pole
    return np.concatenate((coordinates, [last, first, coordinates[0]]))


def _within(area: Any) -> Any:
    """Cut an area into turns of the world, move each to within ±180 degrees, and give them as one."""
    west, _, east, _ = shapely.bounds(area)
    first, last = int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360))
    pieces = [_shifted(piece, -360 * turn) for turn, piece in _by_turn(area, first, last)]
    parts = shapely.get_parts(np.array(pieces, dtype=object))
    return united(parts[shapely.get_dimensions(parts) == 2])


def _by_turn(area: Any, first: int, last: int) -> Iterator[tuple[int, Any]]:
    """Cut an area into turns, halves first: each turn of the whole would be turns squared."""
    if last - first == 1:
        yield first, area
        return
    middle = (first + last) // 2
    for start, end in ((first, middle), (middle, last)):
        box = shapely.box(360 * start - 180, -90, 360 * end - 180, 90)
        yield from _by_turn(shapely.intersection(area, box), start, end)


def _shifted(geometry: Any, degrees: float) -> Any:
    high = shapely.has_z(geometry)
    return shapely.transform(geometry, lambda c: c + ([degrees, 0, 0] if high else [degrees, 0]), include_z=bool(high))


def _joined(polygons: NDArray[Any]) -> Any:
    parts = shapely.get_parts(polygons)
    wanted = parts[shapely.get_dimensions(parts) == 2]
    return wanted[0] if len(wanted) == 1 else shapely.multipolygons(wanted)
