"""
Count the features in vector tiles by their ids.

The format is that of https://github.com/mapbox/vector-tile-spec/tree/master/2.1.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator

import numpy as np

# Field numbers of vector_tile.proto with their wire types, as they stand in front of each field.
_LAYER, _FEATURE, _ID = 3 << 3 | 2, 2 << 3 | 2, 1 << 3
# Wire types (https://protobuf.dev/programming-guides/encoding/).
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def distinct_features(tiles: Iterable[bytes], max_id: int) -> int:
    """
    Count features by their ids. A feature may be in several tiles.

    Only ids are decoded, which takes two to three microseconds a feature.

    :param tiles: vector tiles, compressed with gzip.
    :param max_id: the highest id. Ids start at 1.
    """
    present = np.zeros(max_id + 1, dtype=bool)
    for tile in tiles:
        data = gzip.decompress(tile)
        for start, stop in _messages(data, 0, len(data), _LAYER):
            present[[_id(data, *feature) for feature in _messages(data, start, stop, _FEATURE)]] = True
    return int(present[1:].sum())


def _id(data: bytes, offset: int, stop: int) -> int:
    while offset < stop:
        tag, offset = _varint(data, offset)
        if tag == _ID:
            return _varint(data, offset)[0]
        offset = _skip(data, offset, tag & 7)
    return 0


def _messages(data: bytes, offset: int, stop: int, wanted_tag: int) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each message of one field."""
    while offset < stop:
        tag, offset = _varint(data, offset)
        if tag == wanted_tag:
            size, offset = _varint(data, offset)
            yield offset, offset + size
            offset += size
        else:
            offset = _skip(data, offset, tag & 7)


def _skip(data: bytes, offset: int, wire_type: int) -> int:
    """Return the offset after a field."""
    if wire_type == _BYTES:
        size, offset = _varint(data, offset)
        return offset + size
    return _varint(data, offset)[1] if wire_type == _VARINT else offset + {_FIXED64: 8, _FIXED32: 4}[wire_type]


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """Read a variable-width integer (same page, "Base 128 Varints"), and return it with the offset after it."""
    octet = data[offset]
    if octet < 128:
        return octet, offset + 1
    number, shift = octet & 127, 7
    while True:
        offset += 1
        octet = data[offset]
        number |= (octet & 127) << shift
        if octet < 128:
            return number, offset + 1
        shift += 7
