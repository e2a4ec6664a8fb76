"""Geometries of one kind as arrays of coordinates and offsets, in the layout of GeoArrow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Kind:
    """
    A type of geometry.

    :param name: its name in GeoJSON (RFC 7946, section 1.4).
    :param depth: levels of nesting between a geometry and its positions.
    :param min_positions: smallest number of positions in a path; 0 for kinds without paths.
    """

    name: str
    depth: int
    min_positions: int

    @property
    def has_rings(self) -> bool:
        """Whether its paths are rings, which are closed."""
        return self.min_positions == 4


# By the type's number in WKB. The numbers of shapely differ.
KINDS = {
    1: Kind("Point", 0, 0),
    2: Kind("LineString", 1, 2),
    3: Kind("Polygon", 2, 4),
    4: Kind("MultiPoint", 1, 0),
    5: Kind("MultiLineString", 2, 2),
    6: Kind("MultiPolygon", 3, 4),
}
_FROM_SHAPELY = {
    shapely.GeometryType.POINT: KINDS[1],
    shapely.GeometryType.LINESTRING: KINDS[2],
    shapely.GeometryType.POLYGON: KINDS[3],
    shapely.GeometryType.MULTIPOINT: KINDS[4],
    shapely.GeometryType.MULTILINESTRING: KINDS[5],
    shapely.GeometryType.MULTIPOLYGON: KINDS[6],
}
_TO_SHAPELY = {kind.name: number for number, kind in _FROM_SHAPELY.items()}


@dataclass(frozen=True)
class Shapes:
    """
    Geometries of one kind.

    :param kind: the kind of all geometries.
    :param rows: the row of each geometry in its batch, shape (n,).
    :param offsets: one array for each level of nesting, from the geometries inwards. Item i of a level has the members
        from entry i up to entry i + 1 of its array. The entries of the last level are indices of positions.
    :param x: eastings or longitudes, shape (m,).
    :param y: northings or latitudes, shape (m,).
    :param z: heights, shape (m,), or None for geometries in two dimensions.
    """

    kind: Kind
    rows: NDArray[np.int64]
    offsets: tuple[NDArray[np.int64], ...]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def paths(self) -> NDArray[np.int64]:
        """The first position of each line or ring, and the end of the last one."""
        return self.offsets[-1]

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first position of each geometry, and the end of the last one."""
        if not self.offsets:
            return np.arange(len(self.rows) + 1)
        starts = self.offsets[0]
        for level in self.offsets[1:]:
            starts = level[starts]
        return starts

    def edges_inside(self) -> NDArray[np.bool_]:
        """Return whether an edge joins each position to the next one, shape (m - 1,)."""
        inside = np.full(max(len(self.x) - 1, 0), True)
        inside[self.paths[1:-1] - 1] = False
        return inside

    def owners(self, positions: NDArray[Any]) -> NDArray[np.int64]:
        """
        Return the index of the geometry that each position belongs to.

        :param positions: indices of positions.
        """
        return np.searchsorted(self.starts, positions, side="right") - 1

    def with_paths(self, paths: NDArray[np.int64], x: Any, y: Any, z: Any) -> Shapes:
        """Return the same geometries with other positions and starts of paths."""
        return replace(self, offsets=(*self.offsets[:-1], paths), x=x, y=y, z=z)

    def select(self, chosen: NDArray[np.bool_]) -> Shapes:
        """
        Return some of the geometries.

        :param chosen: whether to keep each geometry, shape (n,).
        """
        if chosen.all():
            return self
        return self.keep_positions(np.repeat(chosen, np.diff(self.starts)))

    def keep_paths(self, kept: NDArray[np.bool_]) -> Shapes:
        """
        Drop lines or rings, then parts and geometries without any left. Holes are dropped with their shell.

        :param kept: whether to keep each path.
        """
        if self.kind.has_rings:
            polygons = self.offsets[-2]
            sizes = np.diff(polygons)
            kept = kept & np.repeat(kept[polygons[:-1][sizes > 0]], sizes[sizes > 0])
        return self.keep_positions(np.repeat(kept, np.diff(self.paths)))

    def drop_short_paths(self, min_positions: int) -> Shapes:
        """
        Drop paths that are too short, then parts and geometries without any left.

        :param min_positions: smallest number of positions in a path.
        """
        short = np.diff(self.paths) < min_positions
        if not short.any() and all((np.diff(level) > 0).all() for level in self.offsets[:-1]):
            return self
        return self.keep_paths(~short)

    def drop_empty(self) -> Shapes:
        """Drop geometries, parts, rings and points of multi-points without positions: RFC 7946 has no empty ones."""
        if self.kind.min_positions:
            return self.drop_short_paths(1)
        # In WKB and in GeoArrow, the coordinates of an empty point are NaN.
        not_empty = ~(np.isnan(self.x) & np.isnan(self.y))
        all_have_points = all((np.diff(level) > 0).all() for level in self.offsets)
        return self if all_have_points and not_empty.all() else self.keep_positions(not_empty)

    def keep_positions(self, kept: NDArray[np.bool_]) -> Shapes:
        """
        Drop positions, then paths, parts and geometries without any left.

        :param kept: whether to keep each position, shape (m,).
        """
        x, y, z = self.x[kept], self.y[kept], None if self.z is None else self.z[kept]
        levels: list[NDArray[np.int64]] = []
        for level in reversed(self.offsets):
            sizes = np.diff(np.concatenate(([0], np.cumsum(kept)))[level])
            kept = sizes > 0
            levels.append(np.concatenate(([0], np.cumsum(sizes[kept]))))
        return Shapes(self.kind, self.rows[kept], tuple(reversed(levels)), x, y, z)

    def coordinates(self) -> NDArray[np.float64]:
        """Return the coordinates as an array of shape (m, 2) or (m, 3)."""
        return np.stack([self.x, self.y] if self.z is None else [self.x, self.y, self.z], axis=1)

    def to_shapely(self) -> NDArray[Any]:
        """Return an array of shapely geometries, shape (n,)."""
        geometries: NDArray[Any] = shapely.from_ragged_array(
            _TO_SHAPELY[self.kind.name], self.coordinates(), tuple(reversed(self.offsets)) or None
        )
        return geometries


def from_shapely(geometries: NDArray[Any], rows: NDArray[np.int64]) -> Iterator[Shapes]:
    """
    Group geometries by kind.

    :param geometries: shapely geometries, shape (n,). They must not be null, empty, or a collection of several kinds.
    :param rows: the row of each geometry, shape (n,).
    """
    geometries = _rings_to_lines(geometries)
    numbers, has_z = shapely.get_type_id(geometries), shapely.has_z(geometries)
    for number in np.unique(numbers):
        kind = _FROM_SHAPELY[shapely.GeometryType(number)]
        for with_z in (False, True):
            chosen = (numbers == number) & (has_z == with_z)
            if not chosen.any():
                continue
            # One kind at a time: together with multi-part geometries, shapely returns single ones as multi-part.
            _, coordinates, offsets = shapely.to_ragged_array(geometries[chosen], include_z=with_z)
            if number == shapely.GeometryType.MULTIPOINT:
                # shapely's offsets count empty points of multi-points, but it returns no coordinates for them.
                offsets = (np.append(0, np.cumsum(shapely.get_num_coordinates(geometries[chosen]))),)
            shapes = Shapes(
                kind,
                rows[chosen],
                tuple(np.asarray(level, dtype=np.int64) for level in reversed(offsets or ())),
                np.ascontiguousarray(coordinates[:, 0]),
                np.ascontiguousarray(coordinates[:, 1]),
                np.ascontiguousarray(coordinates[:, 2]) if with_z else None,
            )
            yield shapes.drop_short_paths(1) if kind.min_positions else shapes


def _rings_to_lines(geometries: NDArray[Any]) -> NDArray[Any]:
    """Convert linear rings to lines. Only shapely has them as geometries, as the ``exterior`` of a polygon."""
    rings = shapely.get_type_id(geometries) == shapely.GeometryType.LINEARRING
    if not rings.any():
        return geometries
    geometries = geometries.copy()
    # WKB has no type for a ring either, so this converts them.
    geometries[rings] = shapely.from_wkb(shapely.to_wkb(geometries[rings], output_dimension=4))
    return geometries
