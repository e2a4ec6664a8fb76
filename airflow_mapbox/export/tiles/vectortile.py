"""
Count the features in vector tiles by their ids, and merge tiles.

The format is that of https://github.com/mapbox/vector-tile-spec/tree/master/2.1.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator

import numpy as np

from airflow_mapbox.export.errors import TilerError

# Field numbers of vector_tile.proto with their wire types, as they stand in front of each field.
_LAYER, _FEATURE, _ID = 3 << 3 | 2, 2 << 3 | 2, 1 << 3
_NAME, _KEY, _VALUE, _EXTENT, _VERSION = 1 << 3 | 2, 3 << 3 | 2, 4 << 3 | 2, 5 << 3, 15 << 3
_TAGS = 2 << 3 | 2
_DEFAULT_EXTENT, _DEFAULT_VERSION = 4096, 1
_COMPRESSION = 6  # 9 takes twice as long in all, for files that are 0.3 % smaller
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


def merge_tiles(tiles: Iterable[bytes]) -> bytes:
    """
    Merge vector tiles of the same place: a layer that is in several of them has the features of all, in their order.

    Geometries, ids and attributes stay as they are. A feature takes about five microseconds.

    :param tiles: vector tiles, compressed with gzip.
    :return: a vector tile, compressed with gzip.
    :raises TilerError: if a layer has several extents or versions.
    :raises OSError: if a tile is not compressed with gzip.
    """
    layers: dict[bytes, _MergedLayer] = {}
    for tile in tiles:
        data = gzip.decompress(tile)
        for start, stop in _messages(data, 0, len(data), _LAYER):
            layer = _Layer(data, start, stop)
            layers.setdefault(layer.name, _MergedLayer(layer)).add(layer)
    content = b"".join(_field(_LAYER, layer.encode()) for layer in layers.values())
    return gzip.compress(content, _COMPRESSION, mtime=0)


class _Layer:
    """A layer of one tile, whose features are not decoded."""

    def __init__(self, data: bytes, start: int, stop: int) -> None:
        self.data = data
        self.name = b""
        self.extent, self.version = _DEFAULT_EXTENT, _DEFAULT_VERSION
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.features: list[tuple[int, int]] = []
        for tag, begin, end in _fields(data, start, stop):
            if tag == _FEATURE:
                self.features.append((begin, end))
            elif tag == _VALUE:
                self.values.append(data[begin:end])
            elif tag == _KEY:
                self.keys.append(data[begin:end])
            elif tag == _NAME:
                self.name = data[begin:end]
            elif tag == _EXTENT:
                self.extent = _varint(data, begin)[0]
            elif tag == _VERSION:
                self.version = _varint(data, begin)[0]


class _MergedLayer:
    """
    A layer with the features of several tiles.

    :param like: the first of the layers to add.
    """

    def __init__(self, like: _Layer) -> None:
        self._name, self._extent, self._version = like.name, like.extent, like.version
        self._keys: dict[bytes, int] = {}
        self._values: dict[bytes, int] = {}
        self._features: list[bytes] = []

    def add(self, layer: _Layer) -> None:
        """Add the features of a layer."""
        if (layer.extent, layer.version) != (self._extent, self._version):
            raise TilerError(
                f"Layer {self._name.decode(errors='replace')!r} has extent {self._extent} and version {self._version} "
                f"in one part, {layer.extent} and {layer.version} in another.\nMake all parts with the same program."
            )
        keys = [self._keys.setdefault(key, len(self._keys)) for key in layer.keys]
        values = [self._values.setdefault(value, len(self._values)) for value in layer.values]
        if keys == list(range(len(keys))) and values == list(range(len(values))):
            self._features += [layer.data[start:stop] for start, stop in layer.features]
            return
        encoded = [_encode(key) for key in keys], [_encode(value) for value in values]
        self._features += [_with_tags(layer.data, start, stop, *encoded) for start, stop in layer.features]

    def encode(self) -> bytes:
        """Return the layer's message."""
        parts = [_field(_NAME, self._name)]
        parts += [_field(_FEATURE, feature) for feature in self._features]
        parts += [_field(_KEY, key) for key in self._keys]
        parts += [_field(_VALUE, value) for value in self._values]
        parts += [_encode(_EXTENT), _encode(self._extent), _encode(_VERSION), _encode(self._version)]
        return b"".join(parts)


def _with_tags(data: bytes, start: int, stop: int, keys: list[bytes], values: list[bytes]) -> bytes:
    """
    Return a feature's message with other numbers of keys and values.

    :param keys: the new number of each key, encoded.
    :param values: the new number of each value, encoded.
    """
    parts = []
    offset = start
    while offset < stop:
        begin = offset
        tag, offset = _varint(data, offset)
        if tag != _TAGS:
            offset = _skip(data, offset, tag & 7)
            parts.append(data[begin:offset])
            continue
        size, offset = _varint(data, offset)
        end = offset + size
        tags = []
        while offset < end:
            key, offset = _varint(data, offset)
            value, offset = _varint(data, offset)
            tags += [keys[key], values[value]]
        parts.append(_field(_TAGS, b"".join(tags)))
    return b"".join(parts)


def _fields(data: bytes, offset: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield tag, start and end of the content of each field."""
    while offset < stop:
        tag, offset = _varint(data, offset)
        if tag & 7 == _BYTES:
            size, offset = _varint(data, offset)
            end = offset + size
        else:
            end = _skip(data, offset, tag & 7)
        yield tag, offset, end
        offset = end


def _field(tag: int, content: bytes) -> bytes:
    return b"".join((_encode(tag), _encode(len(content)), content))


def _encode(number: int) -> bytes:
    """Return a number as a variable-width integer."""
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    octets.append(number)
    return bytes(octets)
