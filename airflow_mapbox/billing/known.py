"""Skip shapes that lie in tiles that were found before. A layer usually touches each tile of a low zoom often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_mapbox.billing.grid import BITS, columns_of, rows_of
from airflow_mapbox.billing.runs import tile_numbers, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The tiles of a higher zoom do not fit into a table, and few shapes lie in known ones. This zoom's table has 1 MiB: a
# bit for each tile. A byte would make the first visit of thousands of pages of memory the largest cost.
_MAX_ZOOM = 11
# Look at this share of the positions first, unless many shapes of the batch before were skipped. If fewer shapes of it
# are skipped, looking at all costs more than it saves.
_SAMPLE, _LEAST_SKIPPED = 1 / 16, 0.25
# Longer runs of tiles are marked one by one, by whole bytes. A tile that is not marked is only burnt again.
_LONG_RUN = 64
_BITS = (1 << np.arange(8)).astype(np.uint8)


class KnownTiles:
    """
    The tiles of a layer that were found so far. Threads share it.

    :param zooms: the zooms of the tiles. Above zoom 11 nothing is skipped.
    """

    def __init__(self, zooms: Sequence[int]) -> None:
        self._touched = {zoom: np.zeros((1 << 2 * zoom + 1) + 7 >> 3, np.uint8) for zoom in zooms if zoom <= _MAX_ZOOM}
        self._skipped_many = False

    def has_all(self, zooms: Sequence[int]) -> bool:
        """Return whether the tiles of all zooms are kept here."""
        return self._touched.keys() >= set(zooms)

    def add(self, runs: NDArray[np.uint64], zoom: int) -> None:
        """
        Add tiles.

        :param runs: packed runs, shape (n,).
        :param zoom: their zoom, one of those that are kept here.
        """
        touched = self._touched[zoom]
        starts, ends = (numbers.astype(np.int64) for numbers in unpack(runs, zoom))
        counts = ends - starts
        is_long = counts > _LONG_RUN
        for start, end in zip(starts[is_long].tolist(), ends[is_long].tolist(), strict=True):
            touched[-(-start // 8) : end // 8] = 0xFF
        starts, counts = starts[~is_long], counts[~is_long]
        tiles = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts - starts, counts)
        # Another thread may undo a bit. That tile is then burnt again.
        np.bitwise_or.at(touched, tiles >> 3, _BITS[tiles & 7])

    def without_known(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        paths: NDArray[np.int64],
        polygons: NDArray[np.int64] | None,
        zooms: Sequence[int],
        unit: float,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64] | None]:
        """
        Leave out lines or polygons that add no tile, because all tiles of their bounds are known at all zooms.

        The parameters are those of :func:`airflow_mapbox.billing.burn.burn_paths`.

        :return: what is left of ``x``, ``y``, ``paths`` and ``polygons``.
        """
        starts = paths if polygons is None else paths[polygons]
        if not self.has_all(zooms) or len(starts) < 2 or (starts[1:] == starts[:-1]).any():
            return x, y, paths, polygons
        share = 1.0 if self._skipped_many else _SAMPLE
        sample = max(int(np.searchsorted(starts, len(x) * share)), 1)
        is_known = self._are_known(x, y, starts[: sample + 1], zooms, unit)
        self._skipped_many = bool(is_known.mean() >= _LEAST_SKIPPED)
        if not self._skipped_many:
            return x, y, paths, polygons
        is_known = np.append(is_known, self._are_known(x, y, starts[sample:], zooms, unit))
        left = np.flatnonzero(~is_known)
        positions, paths_left = _expand(starts, left)
        if polygons is None:
            return x[positions], y[positions], paths_left, None
        rings, rings_of_polygons = _expand(polygons, left)
        _, rings_left = _expand(paths, rings)
        return x[positions], y[positions], rings_left, rings_of_polygons

    def _are_known(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        starts: NDArray[np.int64],
        zooms: Sequence[int],
        unit: float,
    ) -> NDArray[np.bool_]:
        """
        Return whether the bounds of shapes lie in at most four tiles of each zoom, and these are known.

        :param starts: the first position of each shape, and the end of the last one.
        """
        if len(starts) < 2:
            return np.empty(0, np.bool_)
        span, starts = slice(starts[0], starts[-1]), starts[:-1] - starts[0]
        (west, east), (south, north) = (
            (np.minimum.reduceat(side[span], starts), np.maximum.reduceat(side[span], starts)) for side in (x, y)
        )
        columns = columns_of(np.concatenate((west, east)), unit).reshape(2, -1)
        rows = rows_of(np.concatenate((north, south)), unit).reshape(2, -1)
        known = np.ones(len(west), np.bool_)
        for zoom in zooms:
            shift = np.uint32(BITS - zoom)
            for low, high in (rows, columns):
                known &= (high >> shift) - (low >> shift) <= np.uint32(1)
            for row in rows:
                for column in columns:
                    tiles = tile_numbers(column >> shift, row >> shift, zoom)
                    known &= self._touched[zoom][tiles >> np.uint32(3)] & _BITS[tiles & np.uint32(7)] != 0
        return known


def _expand(starts: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """
    Return the members of chosen groups, and where each group starts among them.

    :param starts: the first member of each group, and the end of the last one.
    """
    counts = (starts[1:] - starts[:-1])[chosen]
    new: NDArray[np.int64] = np.concatenate(([0], np.cumsum(counts)))
    members: NDArray[Any] = np.arange(new[-1]) + np.repeat(starts[:-1][chosen] - new[:-1], counts)
    return members, new
