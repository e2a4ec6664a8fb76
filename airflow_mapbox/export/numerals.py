"""Numbers as text, many at a time: orjson writes an array, and its text is cut into pieces without a copy of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPACE, _COMMA, _BRACKET = b" ,]"


def number_texts(numbers: NDArray[Any]) -> pa.Array:
    """
    Write numbers in the shortest form that reads as the same number.

    :param numbers: of 32 or 64 bits, C-contiguous, at least one.
    :return: one text each, which may begin with a space; ``null`` for NaN and infinities.
    """
    text = _written(numbers)
    return _cut(text, np.append(np.flatnonzero(text == _COMMA), len(text) - 1))


def position_texts(positions: NDArray[np.float64], paths: NDArray[np.int64] | None) -> pa.Array:
    """
    Write positions.

    :param positions: shape (m, 2) or (m, 3), C-contiguous, at least one, all finite.
    :param paths: where each path begins, and where the last one ends; or None for one text a position.
    :return: one text a path, of its positions with commas between; each begins with a space.
    """
    text = _written(positions)
    # One bracket closes each position, and a last one the array.
    ends = np.flatnonzero(text == _BRACKET)[:-1] + 1
    return _cut(text, ends if paths is None else ends[paths[1:] - 1])


def _written(numbers: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY), np.uint8).copy()


def _cut(text: NDArray[np.uint8], ends: NDArray[np.int64]) -> pa.Array:
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends
    # Where a bracket or a comma stood before a piece.
    text[offsets[:-1]] = _SPACE
    return pa.Array.from_buffers(pa.string(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(text)])
