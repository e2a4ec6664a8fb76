"""
Positions as text, many at a time and outside of Python's lock.

Rounded coordinates are whole numbers of their last decimal, whose digits are known: the search for the shortest form
that reads as the same float, which writers of JSON spend their time on, is left out. numpy puts the digits of each
number into a cell of a fixed width, four at a time from tables, and Arrow takes away what the cell has too much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mapbox.export.text.memory import KEPT_MEMORY

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GROUP = 4  # decimals from one table
_GROUPED = 10**_GROUP
# Whole numbers below are in tables, with their separator, sign and point in eight bytes: degrees, and heights.
_DEGREES, _HEIGHTS = 1000, 100_000
_BLOCK = 1 << 16  # positions; the cells of more fall out of the processor's cache


def position_strings(
    ordinates: Sequence[NDArray[np.float64]], decimals: int, paths: NDArray[np.int64] | None
) -> pa.Array:
    """
    Write positions (RFC 7946, section 3.1.1), each number without zeros at its end.

    :param ordinates: longitudes, latitudes and maybe heights as whole numbers of the last decimal, all finite; shape
        (m,) each, at least one.
    :param decimals: that they have.
    :param paths: where each path begins, and where the last one ends; or None for one text a position.
    :return: one text a path, of its positions with ``],[`` between, and no brackets around them.
    """
    count = len(ordinates[0])
    begins = np.full(count, paths is None)
    if paths is not None:
        begins[paths[:-1]] = True
    numbers = pa.concat_arrays(
        [
            _number_texts([ordinate[at : at + _BLOCK] for ordinate in ordinates], decimals, begins[at : at + _BLOCK])
            for at in range(0, count, _BLOCK)
        ],
        memory_pool=KEPT_MEMORY,
    )
    _, offsets, text = numbers.buffers()
    places = np.frombuffer(offsets, np.int32)[: len(numbers) + 1 : len(ordinates)]
    places = np.ascontiguousarray(places) if paths is None else places[paths]
    return pa.Array.from_buffers(pa.string(), len(places) - 1, [None, pa.py_buffer(places), text])


def _number_texts(ordinates: list[NDArray[np.float64]], decimals: int, begins: NDArray[np.bool_]) -> pa.Array:
    """
    Write the numbers of positions, each with what is between it and the number before.

    :param begins: whether nothing is before a position.
    """
    groups = max(1, -(-decimals // _GROUP))
    columns: list[NDArray[Any]] = []
    ends: list[int] = []
    for ordinate in ordinates:
        whole, fraction, negative = _parted(ordinate, decimals, groups)
        columns += _leads(whole, negative, None if columns else begins)
        columns += _fractions(fraction, groups)
        ends.append(sum(column.itemsize for column in columns))
    cells = np.empty(len(begins), [(f"{place}", column.dtype) for place, column in enumerate(columns)])
    for place, column in enumerate(columns):
        cells[f"{place}"] = column
    offsets = np.zeros(len(cells) * len(ends) + 1, np.int32)
    starts = np.arange(len(cells), dtype=np.int32) * np.int32(cells.itemsize)
    for place, end in enumerate(ends):
        offsets[1 + place :: len(ends)] = starts + np.int32(end)
    wide = pa.Array.from_buffers(pa.string(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(cells)])
    return pc.ascii_trim(wide, characters=" ", memory_pool=KEPT_MEMORY)


def _parted(
    ordinate: NDArray[np.float64], decimals: int, groups: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Give whole numbers, fractions with as many decimals as fill the groups, and what is below zero."""
    size = np.abs(ordinate)
    largest = float(size.max())
    scale, filled = 10**decimals, 10 ** (groups * _GROUP - decimals)
    if largest < 2**63:
        # In 32 bits numpy divides many at once.
        kind = np.uint32 if largest < 2**32 and groups * _GROUP < 10 else np.uint64
        size = size.astype(kind)
        whole = size // kind(scale)
        fraction = size - whole * kind(scale)
    else:  # heights, if they are any
        whole, rest = np.divmod(size, float(scale))
        fraction = rest.astype(np.uint64)
    return whole, fraction * fraction.dtype.type(filled), ordinate < 0


def _leads(whole: NDArray[Any], negative: NDArray[np.bool_], begins: NDArray[np.bool_] | None) -> list[NDArray[Any]]:
    """
    Give what is before the decimals: separator, sign, whole number, point.

    :param begins: where nothing separates a first number; None for others.
    """
    if begins is not None:
        table = _table(_DEGREES, b"],[", b"")
        places = whole * 2 + negative + begins * whole.dtype.type(2 * _DEGREES)
    elif (largest := whole.max()) < _HEIGHTS:
        table = _table(_DEGREES if largest < _DEGREES else _HEIGHTS, b",")
        places = whole.astype(np.uint32, copy=False) * 2 + negative
    else:  # farther away than planes fly
        distinct, which = np.unique(whole, return_inverse=True)
        table, places = _words(_before_point(b",", map(int, distinct.tolist()))), which * 2 + negative
    return [column.take(places, mode="clip") for column in table]


@cache
def _table(count: int, *separators: bytes) -> list[NDArray[np.uint64]]:
    return _words([text for separator in separators for text in _before_point(separator, range(count))])


def _before_point(separator: bytes, numbers: Iterable[int]) -> list[bytes]:
    return [separator + sign + b"%d." % number for number in numbers for sign in (b"", b"-")]


def _words(texts: list[bytes]) -> list[NDArray[np.uint64]]:
    """Give texts, aligned to the right, as columns of eight bytes, which numpy copies faster than texts."""
    widest = -(-max(map(len, texts)) // 8) * 8
    words = np.array([text.rjust(widest) for text in texts]).view(np.uint64).reshape(len(texts), -1)
    return list(np.ascontiguousarray(words.T))


def _fractions(fraction: NDArray[Any], groups: int) -> list[NDArray[np.uint32]]:
    """Give decimals by groups, without zeros at the end; of a whole number one is left, which JSON wants."""
    columns: list[NDArray[np.uint32]] = []
    kind = fraction.dtype.type
    last = np.ones(1, dtype=bool)  # whether all groups after this one are zero
    for place in reversed(range(groups)):
        before = fraction // kind(_GROUPED)
        group = fraction - before * kind(_GROUPED)
        columns.append(_decimals(place == 0).take(group + last * kind(_GROUPED), mode="clip"))
        last = last & (group == 0)
        fraction = before
    return columns[::-1]


@cache
def _decimals(after_point: bool) -> NDArray[np.uint32]:
    """Give all groups, and then all of them without zeros at the end."""
    whole = [b"%04d" % group for group in range(_GROUPED)]
    short = [group.rstrip(b"0").ljust(_GROUP) for group in whole]
    if after_point:
        short[0] = b"0".ljust(_GROUP)
    return np.array(whole + short).view(np.uint32)
