"""A growing set of tiles of one zoom, kept compactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from airflow_mapbox.billing.area import area_km2
from airflow_mapbox.billing.runs import Tiles, coarser, union, union_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Runs that wait until they are merged. Merging more of them at once costs less time and more memory.
_MAX_PENDING = 1 << 18
# A set of more runs is kept in bands, with two to four bytes for each run instead of eight.
_MAX_FLAT = 1 << 20
_BAND_BITS = 9
_GROUP_BITS = 16
_LONGEST_RUN = 1 << 16


class _Band(NamedTuple):
    """
    The runs of some rows.

    :param low: the last 16 bits of the number of each run's first tile.
    :param groups: the index of the first run of each value of the bits before them.
    :param more: the number of tiles of each run after its first one; None if there are none.
    """

    low: NDArray[np.uint16]
    groups: NDArray[np.int32]
    more: NDArray[np.uint16] | None


class RunSet:
    """
    A set of tiles that grows.

    :param zoom: the zoom of the tiles, 0 to 17.
    """

    def __init__(self, zoom: int) -> None:
        self.zoom = zoom
        self._flat = np.empty(0, np.uint64)
        self._bands: dict[int, _Band] = {}
        self._count = 0
        self._pending: list[NDArray[np.uint64]] = []
        self._pending_count = 0

    def add(self, tiles: Iterable[Tiles]) -> None:
        """
        Add tiles.

        :param tiles: as :func:`airflow_mapbox.billing.runs.union_of` takes them.
        """
        waiting, size = [], 0
        for array in tiles:
            waiting.append(array)
            size += len(array)
            if size > _MAX_PENDING:
                self._wait(union_of(waiting, self.zoom))
                waiting, size = [], 0
        if size:
            self._wait(union_of(waiting, self.zoom))

    def update(self, other: RunSet) -> None:
        """Add the tiles of another set of the same zoom."""
        for runs in (other._flat, *other._pending, *map(other._decoded, other._bands)):
            if len(runs):
                self._wait(runs)

    def __bool__(self) -> bool:
        return bool(self._count or self._pending_count)

    def parts(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the set in parts, from north to south. No row is in two parts."""
        self._merge()
        if len(self._flat):
            yield self._flat
        for band in sorted(self._bands):
            yield self._decoded(band)

    def coarser(self, zoom: int) -> RunSet:
        """
        Return the tiles of a lower zoom that contain these.

        :param zoom: the lower zoom.
        """
        lower = RunSet(zoom)
        lower.add(coarser(runs, self.zoom, self.zoom - zoom) for runs in self.parts())
        return lower

    def area_km2(self) -> float:
        """Return the area of the tiles in km²."""
        return sum((area_km2(runs, self.zoom) for runs in self.parts()), 0.0)

    def _wait(self, runs: NDArray[np.uint64]) -> None:
        self._pending.append(runs)
        self._pending_count += len(runs)
        if self._pending_count > max(_MAX_PENDING, self._count // 4):
            self._merge()

    def _merge(self) -> None:
        if not self._pending:
            return
        pending, self._pending, self._pending_count = self._pending, [], 0
        if not self._bands:
            self._flat = union(np.concatenate([self._flat, *pending]), self.zoom)
            self._count = len(self._flat)
            if self._count <= _MAX_FLAT:
                return
            runs, self._flat = self._flat, np.empty(0, np.uint64)
        else:
            runs = union(np.concatenate(pending), self.zoom)
        del pending
        numbers = runs >> np.uint64(max(3 * self.zoom + 1 - _BAND_BITS, 0))
        starts = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1])))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(runs)], strict=True):
            band, part = int(numbers[start]), runs[start:stop]
            if band in self._bands:
                part = union(np.concatenate([self._decoded(band), part]), self.zoom)
            self._bands[band] = self._encoded(part)
        self._count = sum(len(band.low) for band in self._bands.values())

    def _encoded(self, runs: NDArray[np.uint64]) -> _Band:
        starts, more = runs >> np.uint64(self.zoom), runs & np.uint64((1 << self.zoom) - 1)
        if len(more) and more.max() >= _LONGEST_RUN:  # zoom 17 only: a run of the whole row
            long = more >= _LONGEST_RUN
            rest_starts, rest_more = starts[long] + np.uint64(_LONGEST_RUN), more[long] - np.uint64(_LONGEST_RUN)
            more[long] = _LONGEST_RUN - 1
            starts, more = np.concatenate([starts, rest_starts]), np.concatenate([more, rest_more])
            order = np.argsort(starts)
            starts, more = starts[order], more[order]
        in_band = starts & np.uint64((1 << self._number_bits) - 1)
        borders = np.arange((1 << max(self._number_bits - _GROUP_BITS, 0)) + 1, dtype=np.uint64) << np.uint64(
            _GROUP_BITS
        )
        groups = np.searchsorted(in_band, borders).astype(np.int32)
        return _Band(in_band.astype(np.uint16), groups, more.astype(np.uint16) if more.any() else None)

    def _decoded(self, number: int) -> NDArray[np.uint64]:
        band = self._bands[number]
        high = np.arange(len(band.groups) - 1, dtype=np.uint64) << np.uint64(_GROUP_BITS)
        starts = np.repeat(high + np.uint64(number << self._number_bits), np.diff(band.groups))
        starts += band.low
        starts <<= np.uint64(self.zoom)
        if band.more is not None:
            starts += band.more
        return union(starts, self.zoom)

    @property
    def _number_bits(self) -> int:
        """Bits of a tile's number within a band."""
        return max(2 * self.zoom + 1 - _BAND_BITS, 0)
