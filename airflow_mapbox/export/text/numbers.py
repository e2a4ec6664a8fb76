"""Numbers as text, many at a time: orjson writes an array, and its text is cut into pieces without a copy of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPACE, _COMMA = b" ,"


def number_texts(numbers: NDArray[Any]) -> pa.Array:
    """
    Write numbers in the shortest form that reads as the same number.

    :param numbers: of 32 or 64 bits, C-contiguous, at least one.
    :return: one text each, which may begin with a space; ``null`` for NaN and infinities.
    """
    text = np.frombuffer(orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY), np.uint8).copy()
    offsets = np.zeros(len(numbers) + 1, np.int32)
    offsets[1:-1] = np.flatnonzero(text == _COMMA)
    offsets[-1] = len(text) - 1
    # Where a bracket or a comma stood before a piece.
    text[offsets[:-1]] = _SPACE
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, pa.py_buffer(offsets), pa.py_buffer(text)])
