"""The tiles that features touch, collected batch after batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from airflow_mapbox.billing.area import area_km2
from airflow_mapbox.billing.burn import burn_paths, burn_points
from airflow_mapbox.billing.runs import coarser, union

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Runs that wait until they are merged.
_MAX_PENDING = 1 << 19


class Cover:
    """
    The tiles of one zoom that features touch.

    Features may be added in any order and more than once. Memory grows with the runs of tiles only: eight bytes for each.

    :param zoom: the zoom of the tiles, 0 to 17.

    Example::

        cover = Cover(14)
        cover.add_points(np.array([7.1, 7.2]), np.array([50.7, 50.7]))
        print(cover.area_km2())
    """

    def __init__(self, zoom: int) -> None:
        self.zoom = zoom
        self._runs = np.empty(0, np.uint64)
        self._pending: list[NDArray[np.uint64]] = []
        self._pending_count = 0

    def add_points(self, x: NDArray[np.float64], y: NDArray[np.float64], *, unit: float = 1.0) -> None:
        """
        Add points.

        :param x: longitudes, shape (m,).
        :param y: latitudes, shape (m,).
        :param unit: the unit of the coordinates in degrees.
        """
        self._add(burn_points(x, y, self.zoom, unit))

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
        self._add(runs for _, runs in burn_paths(x, y, paths, (self.zoom,), unit))

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
        self._add(runs for _, runs in burn_paths(x, y, paths, (self.zoom,), unit, polygons))

    def add(self, other: Cover) -> None:
        """Add the tiles of another cover of the same zoom, which must not be used afterwards."""
        self._add((other._runs, *other._pending))

    def runs(self) -> NDArray[np.uint64]:
        """Return the tiles as a set, in the form of :mod:`airflow_mapbox.billing.runs`."""
        if self._pending:
            runs = np.concatenate([self._runs, *self._pending])
            self._pending, self._pending_count = [], 0
            self._runs = union(runs, self.zoom)
        return self._runs

    def area_km2(self, zoom: int | None = None) -> float:
        """
        Return the area of the tiles in km².

        :param zoom: a lower zoom whose tiles count, or None for the cover's own.
        """
        if zoom is None or zoom == self.zoom:
            return area_km2(self.runs(), self.zoom)
        return area_km2(coarser(self.runs(), self.zoom, self.zoom - zoom), zoom)

    def _add(self, batches: Iterable[NDArray[np.uint64]]) -> None:
        for runs in batches:
            self._pending.append(runs)
            self._pending_count += len(runs)
            if self._pending_count > max(_MAX_PENDING, len(self._runs) // 4):
                self.runs()
