"""The tiles that features touch, collected batch after batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from airflow_mapbox.billing.burn import burn_paths, burn_points
from airflow_mapbox.billing.known import KnownTiles
from airflow_mapbox.billing.runs import Tiles, union_of
from airflow_mapbox.billing.runset import RunSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Arrays of a zoom that are collected before they are merged: the tiles of a batch, or of a part of a huge geometry.
_MAX_ARRAYS = 16
# Burning few positions costs little less than burning many, so they wait for those of other batches.
_FEW_POSITIONS, _MAX_WAITING = 1 << 14, 1 << 16


class _Paths(NamedTuple):
    """Lines or polygons as :func:`airflow_mapbox.billing.burn.burn_paths` takes them."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    paths: NDArray[np.int64]
    polygons: NDArray[np.int64] | None

    @classmethod
    def joined(cls, parts: Sequence[_Paths]) -> _Paths:
        """Join parts that are all lines, or all polygons."""
        x, y, paths, polygons = zip(*parts, strict=True)
        are_lines = polygons[0] is None
        return cls(np.concatenate(x), np.concatenate(y), _chained(paths), None if are_lines else _chained(polygons))


def _chained(offsets: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Join arrays of starts, each with the end of its last item, so that each begins where the one before ends."""
    chained = [np.zeros(1, np.int64)]
    for part in offsets:
        chained.append(part[1:] + chained[-1][-1])
    return np.concatenate(chained)


class Cover:
    """
    The tiles that features touch at some zooms.

    Features may be added in any order and more than once. Memory grows with the runs of neighbouring tiles only: eight
    bytes for each of the first million, two to four bytes for further ones.

    :param zooms: the zooms of the tiles, 0 to 17, from the highest to the lowest.
    :param known: the tiles of covers that are added to the same total. Lines and polygons that lie in them are skipped,
        and the tiles of this cover are added to them.

    Example::

        cover = Cover((14, 11))
        cover.add_points(np.array([7.1, 7.2]), np.array([50.7, 50.7]))
        print(cover.area_km2(14))
    """

    def __init__(self, zooms: Sequence[int], known: KnownTiles | None = None) -> None:
        self.zooms = tuple(zooms)
        self._known = known
        # Points are burnt at the highest zoom only: the tiles of the lower ones follow from it exactly.
        self._points = RunSet(self.zooms[0])
        # GDAL's tolerances depend on the zoom, so those of lines and polygons do not follow from each other.
        self._paths = {zoom: RunSet(zoom) for zoom in self.zooms}
        # Not burnt yet: by their unit, and whether they are polygons.
        self._waiting: dict[tuple[float, bool], list[_Paths]] = defaultdict(list)
        self._waiting_positions = 0

    def add_points(self, x: NDArray[np.float64], y: NDArray[np.float64], *, unit: float = 1.0) -> None:
        """
        Add points.

        :param x: longitudes, shape (m,).
        :param y: latitudes, shape (m,). Points beyond the map have no tile.
        :param unit: the unit of the coordinates in degrees.
        """
        self._points.add(burn_points(x, y, self.zooms[0], unit))

    def add_lines(
        self, x: NDArray[np.float64], y: NDArray[np.float64], paths: NDArray[np.int64], *, unit: float = 1.0
    ) -> None:
        """
        Add lines.

        :param x: longitudes, shape (m,).
        :param y: latitudes, shape (m,).
        :param paths: the first position of each line, and the end of the last one.
        :param unit: the unit of the coordinates in degrees.
        """
        self._add_paths(x, y, paths, unit, None)

    def add_polygons(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        paths: NDArray[np.int64],
        polygons: NDArray[np.int64],
        *,
        unit: float = 1.0,
    ) -> None:
        """
        Add polygons. The tiles inside their holes do not count.

        :param x: longitudes, shape (m,).
        :param y: latitudes, shape (m,).
        :param paths: the first position of each ring, and the end of the last one. Rings are closed.
        :param polygons: the first ring of each polygon, and the end of the last one. Parts of multi-part polygons are
            polygons of their own.
        :param unit: the unit of the coordinates in degrees.
        """
        self._add_paths(x, y, paths, unit, polygons)

    def update(self, other: Cover) -> None:
        """
        Add the tiles of another cover. Zooms that only one of them has are lost.

        :param other: the other cover.
        """
        self._keep(other.zooms)
        self._points.update(other._points if other.zooms[0] == self.zooms[0] else other._points.coarser(self.zooms[0]))
        for zoom, runs in self._paths.items():
            runs.update(other._paths[zoom])
        for form, parts in other._waiting.items():
            self._waiting[form] += parts
        self._waiting_positions += other._waiting_positions
        if self._waiting_positions > _MAX_WAITING:
            self._burn_waiting()

    def _keep(self, zooms: Sequence[int]) -> None:
        kept = tuple(zoom for zoom in self.zooms if zoom in zooms)
        if kept == self.zooms:
            return
        if kept[0] != self.zooms[0]:
            self._points = self._points.coarser(kept[0])
        self.zooms, self._paths = kept, {zoom: self._paths[zoom] for zoom in kept}

    def tiles(self, zoom: int) -> RunSet:
        """
        Return the tiles of a zoom.

        :param zoom: one of the cover's zooms.
        """
        self._burn_waiting()
        paths = self._paths[zoom]
        if not self._points:
            return paths
        points = self._points if zoom == self.zooms[0] else self._points.coarser(zoom)
        if not paths:
            return points
        tiles = RunSet(zoom)
        tiles.update(paths)
        tiles.update(points)
        return tiles

    def area_km2(self, zoom: int) -> float:
        """
        Return the area of the tiles of a zoom in km².

        :param zoom: one of the cover's zooms.
        """
        return self.tiles(zoom).area_km2()

    def _add_paths(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        paths: NDArray[np.int64],
        unit: float,
        polygons: NDArray[np.int64] | None,
    ) -> None:
        shapes = _Paths(x, y, paths, polygons)
        if self._known is not None:
            shapes = _Paths(*self._known.without_known(*shapes, self.zooms, unit))
        if not len(shapes.x):
            return
        if len(shapes.x) > _FEW_POSITIONS:
            self._burn(shapes, unit)
            return
        self._waiting[unit, polygons is not None].append(shapes)
        self._waiting_positions += len(shapes.x)
        if self._waiting_positions > _MAX_WAITING:
            self._burn_waiting()

    def _burn_waiting(self) -> None:
        waiting, self._waiting, self._waiting_positions = self._waiting, defaultdict(list), 0
        for (unit, _), parts in waiting.items():
            self._burn(_Paths.joined(parts), unit)

    def _burn(self, shapes: _Paths, unit: float) -> None:
        tiles: dict[int, list[Tiles]] = {zoom: [] for zoom in self.zooms}
        for zoom, burnt in burn_paths(shapes.x, shapes.y, shapes.paths, self.zooms, unit, shapes.polygons):
            tiles[zoom].append(burnt)
            if len(tiles[zoom]) >= _MAX_ARRAYS:
                self._add_tiles(tiles[zoom], zoom)
                tiles[zoom] = []
        for zoom, arrays in tiles.items():
            self._add_tiles(arrays, zoom)

    def _add_tiles(self, arrays: list[Tiles], zoom: int) -> None:
        if self._known is not None and self._known.has_all([zoom]):
            runs = union_of(arrays, zoom)
            self._known.add(runs, zoom)
            arrays = [runs]
        self._paths[zoom].add(arrays)
