"""Which features are in vector tiles, by their ids: https://github.com/mapbox/vector-tile-spec/tree/master/2.1."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator

import numpy as np

# Fields of the messages (vector_tile.proto), with their wire types.
_LAYER, _FEATURE, _ID = 3 << 3 | 2, 2 << 3 | 2, 1 << 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def distinct_features(tiles: Iterable[bytes], most: int) -> int:
    """
    Count features by their ids, which several tiles may have.

    Nothing but ids is decoded: two to three microseconds a feature.

    :param tiles: packed with gzip.
    :param most: the highest id, which are from 1 on.
    """
    there = np.zeros(most + 1, dtype=bool)
    for tile in tiles:
        data = gzip.decompress(tile)
        for start, stop in _messages(data, 0, len(data), _LAYER):
            there[[_id(data, *feature) for feature in _messages(data, start, stop, _FEATURE)]] = True
    return int(there[1:].sum())


def _id(data: bytes, at: int, stop: int) -> int:
    while at < stop:
        tag, at = _varint(data, at)
        if tag == _ID:
            return _varint(data, at)[0]
        at = _after(data, at, tag & 7)
    return 0


def _messages(data: bytes, at: int, stop: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Give where the messages of one field begin and end."""
    while at < stop:
        tag, at = _varint(data, at)
        if tag == wanted:
            size, at = _varint(data, at)
            yield at, at + size
            at += size
        else:
            at = _after(data, at, tag & 7)


def _after(data: bytes, at: int, kind: int) -> int:
    if kind == _BYTES:
        size, at = _varint(data, at)
        return at + size
    return _varint(data, at)[1] if kind == _VARINT else at + {_FIXED64: 8, _FIXED32: 4}[kind]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Give a number, and where it ends (https://protobuf.dev/programming-guides/encoding/#varints)."""
    octet = data[at]
    if octet < 128:
        return octet, at + 1
    number, shift = octet & 127, 7
    while True:
        at += 1
        octet = data[at]
        number |= (octet & 127) << shift
        if octet < 128:
            return number, at + 1
        shift += 7
