"""Geometries of one kind as arrays of coordinates and offsets, the layout of GeoArrow."""

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

    :param name: as GeoJSON writes it (RFC 7946, section 1.4).
    :param depth: levels of nesting between a geometry and its coordinates.
    :param min_positions: smallest number of positions in a path; 0 for kinds without paths.
    """

    name: str
    depth: int
    min_positions: int

    @property
    def has_rings(self) -> bool:
        """Whether its paths are closed."""
        return self.min_positions == 4


# By number in WKB and in shapely's ragged arrays, which differ.
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

    :param kind: of all of them.
    :param rows: which geometry of the batch each is, shape (n,).
    :param offsets: one array a level of nesting, from the geometries inwards; entry i to i + 1 of a level are the
        members of its item i. Those of the last level point into the coordinates.
    :param x: shape (m,).
    :param y: shape (m,).
    :param z: shape (m,), or None for geometries in two dimensions.
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
        """Where each line or ring begins in the coordinates, and where the last one ends."""
        return self.offsets[-1]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each geometry begins in the coordinates, and where the last one ends."""
        if not self.offsets:
            return np.arange(len(self.rows) + 1)
        starts = self.offsets[0]
        for level in self.offsets[1:]:
            starts = level[starts]
        return starts

    def edges_inside(self) -> NDArray[np.bool_]:
        """Tell for each pair of neighbouring coordinates, shape (m - 1,), whether they are joined by an edge."""
        inside = np.full(max(len(self.x) - 1, 0), True)
        inside[self.paths[1:-1] - 1] = False
        return inside

    def owners(self, coordinates: NDArray[Any]) -> NDArray[np.int64]:
        """
        Say to which geometry, by its place here, coordinates belong.

        :param coordinates: indices.
        """
        return np.searchsorted(self.starts, coordinates, side="right") - 1

    def at(self, rings: NDArray[np.int64], x: Any, y: Any, z: Any) -> Shapes:
        """Give the same geometries with other coordinates, whose paths begin where it is said."""
        return replace(self, offsets=(*self.offsets[:-1], rings), x=x, y=y, z=z)

    def select(self, chosen: NDArray[np.bool_]) -> Shapes:
        """
        Give some of the geometries.

        :param chosen: shape (n,).
        """
        if chosen.all():
            return self
        return self._keep(np.repeat(chosen, np.diff(self.starts)), drop=~chosen)

    def keep_paths(self, kept: NDArray[np.bool_]) -> Shapes:
        """
        Leave lines or rings out, and with them what has none any more; a hole does not outlive its shell.

        :param kept: one value a path.
        """
        if self.kind.has_rings:
            polygons = self.offsets[-2]
            sizes = np.diff(polygons)
            kept = kept & np.repeat(kept[polygons[:-1][sizes > 0]], sizes[sizes > 0])
        return self._keep(np.repeat(kept, np.diff(self.paths)))

    def keep_longer(self, least: int) -> Shapes:
        """
        Leave out paths that are too short, parts without any, and what has none any more.

        :param least: coordinates in a path.
        """
        short = np.diff(self.paths) < least
        if not short.any() and all((np.diff(level) > 0).all() for level in self.offsets[:-1]):
            return self
        return self.keep_paths(~short)

    def without_empty(self) -> Shapes:
        """Leave out geometries, parts, rings and points of multi-points that have no coordinates: RFC 7946 has none."""
        if self.kind.min_positions:
            return self.keep_longer(1)
        # An empty point is one of NaN, in WKB as well as in GeoArrow.
        there = ~(np.isnan(self.x) & np.isnan(self.y))
        full = all((np.diff(level) > 0).all() for level in self.offsets)
        return self if full and there.all() else self.keep_coordinates(there)

    def keep_coordinates(self, kept: NDArray[np.bool_]) -> Shapes:
        """
        Leave coordinates out, and with them what has none any more.

        :param kept: shape (m,).
        """
        return self._keep(kept)

    def _keep(self, kept: NDArray[np.bool_], drop: NDArray[np.bool_] | None = None) -> Shapes:
        x, y, z = self.x[kept], self.y[kept], None if self.z is None else self.z[kept]
        levels: list[NDArray[np.int64]] = []
        for level in reversed(self.offsets):
            sizes = np.diff(np.concatenate(([0], np.cumsum(kept)))[level])
            kept = sizes > 0
            levels.append(np.concatenate(([0], np.cumsum(sizes[kept]))))
        return Shapes(self.kind, self.rows[kept], tuple(reversed(levels)), x, y, z)

    def coordinates(self) -> NDArray[np.float64]:
        """Give the coordinates as an array of shape (m, 2) or (m, 3)."""
        return np.stack([self.x, self.y] if self.z is None else [self.x, self.y, self.z], axis=1)

    def to_shapely(self) -> NDArray[Any]:
        """Give an array of shapely geometries, shape (n,)."""
        geometries: NDArray[Any] = shapely.from_ragged_array(
            _TO_SHAPELY[self.kind.name], self.coordinates(), tuple(reversed(self.offsets)) or None
        )
        return geometries


def from_shapely(geometries: NDArray[Any], rows: NDArray[np.int64]) -> Iterator[Shapes]:
    """
    Sort geometries by kind.

    :param geometries: an array of shapely geometries, none of them null, empty, or a collection of several kinds.
    :param rows: the row of each.
    """
    geometries = _rings_as_lines(geometries)
    numbers, has_z = shapely.get_type_id(geometries), shapely.has_z(geometries)
    for number in np.unique(numbers):
        kind = _FROM_SHAPELY[shapely.GeometryType(number)]
        for high in (False, True):
            chosen = (numbers == number) & (has_z == high)
            if not chosen.any():
                continue
            # Alone, simple geometries would come back as simple, and beside others as multi-part ones.
            _, coordinates, offsets = shapely.to_ragged_array(geometries[chosen], include_z=high)
            if number == shapely.GeometryType.MULTIPOINT:
                # It counts empty points there, and gives no coordinates for them.
                offsets = (np.append(0, np.cumsum(shapely.get_num_coordinates(geometries[chosen]))),)
            shapes = Shapes(
                kind,
                rows[chosen],
                tuple(np.asarray(level, dtype=np.int64) for level in reversed(offsets or ())),
                np.ascontiguousarray(coordinates[:, 0]),
                np.ascontiguousarray(coordinates[:, 1]),
                np.ascontiguousarray(coordinates[:, 2]) if high else None,
            )
            yield shapes.keep_longer(1) if kind.min_positions else shapes


def _rings_as_lines(geometries: NDArray[Any]) -> NDArray[Any]:
    """Make lines of rings that stand alone: only shapely has those, as the boundary of a polygon (``exterior``)."""
    rings = shapely.get_type_id(geometries) == shapely.GeometryType.LINEARRING
    if not rings.any():
        return geometries
    geometries = geometries.copy()
    # WKB has no rings of their own either.
    geometries[rings] = shapely.from_wkb(shapely.to_wkb(geometries[rings], output_dimension=4))
    return geometries
