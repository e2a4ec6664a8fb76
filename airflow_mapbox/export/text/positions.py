"""
Format positions, many at a time, without the GIL.

Rounded coordinates are integers in units of their last decimal, so their digits are known. Other writers of JSON spend
their time on the search for the shortest form that reads as the same float. Here numpy copies the digits of each number
into a cell of a fixed width, four at a time from tables. Arrow then removes the spaces of the cells.
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

_GROUP_DIGITS = 4  # decimals that a table has
_GROUP_VALUES = 10**_GROUP_DIGITS
# Tables have the integer parts below these, each with separator, sign and point in eight bytes.
_DEGREES_IN_TABLE, _HEIGHTS_IN_TABLE = 1000, 100_000
_POSITIONS_IN_BLOCK = 1 << 16  # the cells of more positions fall out of the CPU cache


def position_strings(
    ordinates: Sequence[NDArray[np.float64]], decimals: int, paths: NDArray[np.int64] | None
) -> pa.Array:
    """
    Format positions (RFC 7946, section 3.1.1), each number without trailing zeros.

    :param ordinates: longitudes, latitudes and optionally heights in units of the last decimal; finite integers as
        floats, shape (m,) each, not empty.
    :param decimals: number of decimals of the result.
    :param paths: the first position of each path, and the end of the last one; None for one string a position.
    :return: one string a path: its positions with ``],[`` between them, without the outer brackets.
    """
    count = len(ordinates[0])
    starts_path = np.full(count, paths is None)
    if paths is not None:
        starts_path[paths[:-1]] = True
    blocks = [slice(start, start + _POSITIONS_IN_BLOCK) for start in range(0, count, _POSITIONS_IN_BLOCK)]
    numbers = pa.concat_arrays(
        [
            _number_strings([ordinate[block] for ordinate in ordinates], decimals, starts_path[block])
            for block in blocks
        ],
        memory_pool=KEPT_MEMORY,
    )
    _, offsets, data = numbers.buffers()
    starts = np.frombuffer(offsets, np.int32)[: len(numbers) + 1 : len(ordinates)]
    starts = np.ascontiguousarray(starts) if paths is None else starts[paths]
    return pa.Array.from_buffers(pa.string(), len(starts) - 1, [None, pa.py_buffer(starts), data])


def _number_strings(ordinates: list[NDArray[np.float64]], decimals: int, starts_path: NDArray[np.bool_]) -> pa.Array:
    """
    Format the numbers of positions, each with the separator before it.

    :param starts_path: whether a position is the first of its path, and so has no separator before it.
    """
    groups = max(1, -(-decimals // _GROUP_DIGITS))
    columns: list[NDArray[Any]] = []
    ends: list[int] = []
    for ordinate in ordinates:
        integer, fraction, negative = _split(ordinate, decimals, groups)
        columns += _integer_columns(integer, negative, None if columns else starts_path)
        columns += _fraction_columns(fraction, groups)
        ends.append(sum(column.itemsize for column in columns))
    cells = np.empty(len(starts_path), [(f"{index}", column.dtype) for index, column in enumerate(columns)])
    for index, column in enumerate(columns):
        cells[f"{index}"] = column
    offsets = np.zeros(len(cells) * len(ends) + 1, np.int32)
    starts = np.arange(len(cells), dtype=np.int32) * np.int32(cells.itemsize)
    for index, end in enumerate(ends):
        offsets[1 + index :: len(ends)] = starts + np.int32(end)
    padded = pa.Array.from_buffers(pa.string(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(cells)])
    return pc.ascii_trim(padded, characters=" ", memory_pool=KEPT_MEMORY)


def _split(
    ordinate: NDArray[np.float64], decimals: int, groups: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Return the integer parts, the decimals padded to full groups, and whether each number is negative."""
    size = np.abs(ordinate)
    largest = float(size.max())
    scale, filled = 10**decimals, 10 ** (groups * _GROUP_DIGITS - decimals)
    if largest < 2**63:
        # numpy vectorises the division of 32-bit integers.
        kind = np.uint32 if largest < 2**32 and groups * _GROUP_DIGITS < 10 else np.uint64
        size = size.astype(kind)
        integer = size // kind(scale)
        fraction = size - integer * kind(scale)
    else:  # only heights can be so large
        integer, rest = np.divmod(size, float(scale))
        fraction = rest.astype(np.uint64)
    return integer, fraction * fraction.dtype.type(filled), ordinate < 0


def _integer_columns(
    integer: NDArray[Any], negative: NDArray[np.bool_], starts_path: NDArray[np.bool_] | None
) -> list[NDArray[Any]]:
    """
    Return the characters before the decimals: separator, sign, integer part, point.

    :param starts_path: for the first number of each position, whether it has no separator; None for other numbers.
    """
    if starts_path is not None:
        table = _table(_DEGREES_IN_TABLE, b"],[", b"")
        indices = integer * 2 + negative + starts_path * integer.dtype.type(2 * _DEGREES_IN_TABLE)
    elif (largest := integer.max()) < _HEIGHTS_IN_TABLE:
        table = _table(_DEGREES_IN_TABLE if largest < _DEGREES_IN_TABLE else _HEIGHTS_IN_TABLE, b",")
        indices = integer.astype(np.uint32, copy=False) * 2 + negative
    else:  # heights above 100 km are rare: make a table of them
        distinct, which = np.unique(integer, return_inverse=True)
        table, indices = _words(_before_point(b",", map(int, distinct.tolist()))), which * 2 + negative
    return [column.take(indices, mode="clip") for column in table]


@cache
def _table(count: int, *separators: bytes) -> list[NDArray[np.uint64]]:
    return _words([string for separator in separators for string in _before_point(separator, range(count))])


def _before_point(separator: bytes, numbers: Iterable[int]) -> list[bytes]:
    return [separator + sign + b"%d." % number for number in numbers for sign in (b"", b"-")]


def _words(strings: list[bytes]) -> list[NDArray[np.uint64]]:
    """Return strings, aligned to the right, as columns of eight bytes. numpy copies those faster than strings."""
    width = -(-max(map(len, strings)) // 8) * 8
    words = np.array([string.rjust(width) for string in strings]).view(np.uint64).reshape(len(strings), -1)
    return list(np.ascontiguousarray(words.T))


def _fraction_columns(fraction: NDArray[Any], groups: int) -> list[NDArray[np.uint32]]:
    """Return decimals by groups, without trailing zeros. An integer keeps one zero, because JSON requires a digit."""
    columns: list[NDArray[np.uint32]] = []
    kind = fraction.dtype.type
    is_last = np.ones(1, dtype=bool)  # whether all groups after this one are zero
    for index in reversed(range(groups)):
        before = fraction // kind(_GROUP_VALUES)
        group = fraction - before * kind(_GROUP_VALUES)
        columns.append(_decimals(index == 0).take(group + is_last * kind(_GROUP_VALUES), mode="clip"))
        is_last = is_last & (group == 0)
        fraction = before
    return columns[::-1]


@cache
def _decimals(after_point: bool) -> NDArray[np.uint32]:
    """Return the digits of all groups, and then of all groups without trailing zeros."""
    full = [b"%04d" % group for group in range(_GROUP_VALUES)]
    short = [group.rstrip(b"0").ljust(_GROUP_DIGITS) for group in full]
    if after_point:
        short[0] = b"0".ljust(_GROUP_DIGITS)
    return np.array(full + short).view(np.uint32)
