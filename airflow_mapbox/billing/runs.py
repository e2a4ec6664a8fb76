"""
Sets of tiles of one zoom, as runs of neighbouring tiles in a row: never as a grid.

The tile in row ``r`` and column ``c`` of zoom ``z`` has the number ``r << (z + 1) | c``. The spare bit keeps the runs
of two rows apart. A packed run is ``number << z | (tiles - 1)`` in 64 bits, so that sorting packed runs sorts them by
row and column. A set is an array of packed runs that is sorted and in which no two runs touch.

Up to zoom 15, single tiles may also be an array of their numbers in 32 bits, which sorts in half the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Packed runs (64 bits), or the numbers of single tiles (32 bits).
Tiles: TypeAlias = "NDArray[np.uint64] | NDArray[np.uint32]"

_MAX_ZOOM_IN_32_BITS = 15


def pack(
    rows: NDArray[np.int64], columns: NDArray[np.int64], counts: NDArray[np.int64], zoom: int
) -> NDArray[np.uint64]:
    """
    Pack runs.

    :param rows: the row of each run, shape (n,).
    :param columns: its first column.
    :param counts: its number of tiles, from 1.
    :param zoom: the zoom of the tiles, 0 to 17.
    """
    packed: NDArray[np.uint64] = (((rows << (zoom + 1) | columns) << zoom) | (counts - 1)).view(np.uint64)
    return packed


def tile_numbers(columns: NDArray[np.uint32], rows: NDArray[np.uint32], zoom: int) -> NDArray[Any]:
    """
    Return the numbers of tiles.

    :param columns: the column of each tile, shape (n,).
    :param rows: its row.
    :param zoom: the zoom of the tiles. Up to zoom 15 the numbers have 32 bits, otherwise 64.
    """
    if zoom > _MAX_ZOOM_IN_32_BITS:
        rows = rows.astype(np.uint64)
    return (rows << rows.dtype.type(zoom + 1)) | columns


def pack_tiles(numbers: NDArray[Any], zoom: int) -> NDArray[np.uint64]:
    """
    Pack single tiles.

    :param numbers: the number of each tile, shape (n,).
    :param zoom: the zoom of the tiles, 0 to 17.
    """
    packed = numbers.astype(np.uint64)
    packed <<= np.uint64(zoom)
    return packed


def unpack(packed: NDArray[np.uint64], zoom: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the number of each run's first tile, and that of the tile after its last one."""
    starts = packed >> np.uint64(zoom)
    ends = packed & np.uint64((1 << zoom) - 1)
    ends += starts
    ends += np.uint64(1)
    return starts, ends


def union(packed: NDArray[np.uint64], zoom: int) -> NDArray[np.uint64]:
    """
    Return the set of all tiles of runs, which may overlap and have any order.

    :param packed: packed runs, shape (n,). The array is sorted in place.
    :param zoom: the zoom of the tiles.
    """
    if len(packed) < 2:
        return packed
    packed.sort()
    starts, ends = unpack(packed, zoom)
    reached = np.maximum.accumulate(ends, out=ends)
    begins = np.empty(len(starts), np.bool_)
    begins[0] = True
    np.greater(starts[1:], reached[:-1], out=begins[1:])
    starts = starts[begins]
    is_last = np.append(begins[1:], True)
    counts = reached[is_last]
    counts -= starts
    counts -= np.uint64(1)
    starts <<= np.uint64(zoom)
    starts |= counts
    return starts


def rows_and_counts(packed: NDArray[np.uint64], zoom: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row of each run, and its number of tiles."""
    counts = (packed & np.uint64((1 << zoom) - 1)).astype(np.int64) + 1
    return (packed >> np.uint64(2 * zoom + 1)).astype(np.int64), counts


def coarser(packed: NDArray[np.uint64], zoom: int, levels: int) -> NDArray[np.uint64]:
    """
    Return the tiles of a lower zoom that contain the tiles of a set.

    :param packed: a set.
    :param zoom: its zoom.
    :param levels: how much lower the other zoom is.
    """
    rows, counts = rows_and_counts(packed, zoom)
    columns = (packed >> np.uint64(zoom)).astype(np.int64) & ((1 << zoom + 1) - 1)
    last = (columns + counts - 1) >> levels
    columns >>= levels
    return union(pack(rows >> levels, columns, last - columns + 1, zoom - levels), zoom - levels)


def union_of(arrays: Iterable[Tiles], zoom: int) -> NDArray[np.uint64]:
    """
    Return the set of all tiles of arrays.

    :param arrays: tiles, which may overlap and have any order.
    :param zoom: the zoom of the tiles.
    """
    singles: list[Any] = []
    packed: list[Any] = [np.empty(0, np.uint64)]
    for tiles in arrays:
        (singles if tiles.dtype == np.uint32 else packed).append(tiles)
    if singles:
        packed.append(pack_tiles(_distinct(np.concatenate(singles), zoom), zoom))
    return union(np.concatenate(packed), zoom)


def _distinct(numbers: NDArray[np.uint32], zoom: int) -> NDArray[Any]:
    """Return the numbers of tiles, each once."""
    if len(numbers) >> 2 * zoom + 1:
        is_touched = np.zeros(1 << 2 * zoom + 1, np.bool_)
        is_touched[numbers] = True
        return np.flatnonzero(is_touched)
    numbers.sort()
    return numbers[np.concatenate(([True], numbers[1:] != numbers[:-1]))[: len(numbers)]]
