"""Format many numbers at a time: orjson formats an array, and its output is split into strings without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPACE, _COMMA = b" ,"


def number_strings(numbers: NDArray[Any]) -> pa.Array:
    """
    Format numbers in the shortest form that reads as the same number.

    :param numbers: 32 or 64 bits, C-contiguous, shape (n,); not empty.
    :return: one string each, which may begin with a space; ``null`` for NaN and infinities.
    """
    text = np.frombuffer(orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY), np.uint8).copy()
    offsets = np.zeros(len(numbers) + 1, np.int32)
    offsets[1:-1] = np.flatnonzero(text == _COMMA)
    offsets[-1] = len(text) - 1
    # Each string begins with the array's bracket or with a comma.
    text[offsets[:-1]] = _SPACE
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, pa.py_buffer(offsets), pa.py_buffer(text)])
