"""
Walk over the protobuf of a vector tile and name what breaks its specification, without decoding coordinates.

The reasons are those of mapbox/vtvalidate, which Mapbox's messages quote. The numbers are in the specification's
vector_tile.proto (Mapbox Vector Tile Specification 2.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LAYER = 3
_NAME, _FEATURE, _KEY, _VALUE, _VERSION = 1, 2, 3, 4, 15
_TAGS, _TYPE, _GEOMETRY = 2, 3, 4
_VERSIONS = (1, 2)
_TYPES = (1, 2, 3)
_MOVE_TO, _LINE_TO, _CLOSE_PATH = 1, 2, 7
_MAX_VARINT_BYTES = 10


class TileError(Exception):
    """The tile breaks the specification. The message is vtvalidate's."""


@dataclass(frozen=True)
class TileLayer:
    """
    A layer of a tile.

    :param name: its name.
    :param features: number of its features.
    """

    name: str
    features: int


def layers_of(tile: bytes) -> list[TileLayer]:
    """
    Return the layers of an uncompressed tile.

    :param tile: the tile.
    :raises TileError: if it breaks the specification.
    """
    layers = []
    for field, kind, value in _fields(tile):
        if field == _LAYER and kind == _BYTES:
            layers.append(_layer(value))
    return layers


def _layer(data: bytes) -> TileLayer:
    name: bytes | None = None
    version, keys, values = 1, 0, 0
    features = []
    for field, kind, value in _fields(data):
        if field == _FEATURE and kind == _BYTES:
            features.append(value)
        elif field == _KEY and kind == _BYTES:
            keys += 1
        elif field == _VALUE and kind == _BYTES:
            values += 1
        elif field == _NAME and kind == _BYTES:
            name = value
        elif field == _VERSION and kind == _VARINT:
            version, _ = _varint(value, 0)
    if version not in _VERSIONS:
        raise TileError(f"unknown vector tile version: {version}")
    if name is None:
        raise TileError("missing name field in layer (spec 4.1)")
    for feature in features:
        _check_feature(feature, keys, values)
    return TileLayer(name.decode("utf-8", "replace"), len(features))


def _check_feature(data: bytes, keys: int, values: int) -> None:
    tags = geometry = b""
    shape = 0
    for field, kind, value in _fields(data):
        if field == _TAGS and kind == _BYTES:
            tags = value
        elif field == _GEOMETRY and kind == _BYTES:
            if geometry:
                raise TileError("Feature has more than one geometry field")
            geometry = value
        elif field == _TYPE and kind == _VARINT:
            shape, _ = _varint(value, 0)
    if shape > max(_TYPES):
        raise TileError("Unknown geometry type (spec 4.3.4)")
    if not geometry:
        raise TileError("Missing geometry field in feature (spec 4.2)")
    if shape not in _TYPES:
        raise TileError("unknown geometry type")
    indexes = _varints(tags)
    if len(indexes) % 2:
        raise TileError("unpaired property key/value indexes (spec 4.4)")
    for used, number in ((indexes[::2], keys), (indexes[1::2], values)):
        if used and max(used) >= number:
            raise TileError(f"index out of range: {max(used)}")
    _check_commands(geometry)


def _check_commands(geometry: bytes) -> None:
    """Check that a geometry is a sequence of commands and their parameters (specification, 4.3)."""
    at, size, expected = 0, len(geometry), _MOVE_TO
    while at < size:
        integer, at = (geometry[at], at + 1) if geometry[at] < 0x80 else _varint(geometry, at)
        command, count = integer & 7, integer >> 3
        if command not in (_MOVE_TO, _LINE_TO, _CLOSE_PATH) or (expected == _MOVE_TO and command != _MOVE_TO):
            raise TileError(f"expected command {expected} but got {command}")
        expected = 0 if command != _CLOSE_PATH else _MOVE_TO
        parameters = 0 if command == _CLOSE_PATH else 2 * count
        if parameters > size - at:
            raise TileError("too few points in geometry")
        at = _skip_varints(geometry, at, parameters)


def _skip_varints(data: bytes, at: int, number: int) -> int:
    """Return the offset after some integers."""
    # A slice of as many bytes has at most as many integers, so the search takes a few steps.
    while number:
        part = data[at : at + number]
        if not part:
            raise TileError("too few points in geometry")
        at += len(part)
        # The last byte of an integer is below 128: those that translate leaves.
        number -= len(part.translate(None, _CONTINUED))
    return at


_CONTINUED = bytes(range(128, 256))


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield number, wire type and bytes of each field of a message."""
    at, size = 0, len(data)
    while at < size:
        key = data[at]
        if key < 0x80:
            at += 1
        else:
            key, at = _varint(data, at)
        kind = key & 7
        start = at
        if at >= size:
            raise TileError("end of buffer exception")
        if kind == _BYTES:
            length, start = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at)
            at = start + length
        elif kind == _VARINT:
            at = at + 1 if data[at] < 0x80 else _varint(data, at)[1]
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            raise TileError("unknown pbf field type exception")
        if at > size:
            raise TileError("end of buffer exception")
        yield key >> 3, kind, data[start:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the integer at an offset, and the offset after it."""
    value = 0
    for shift, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    raise TileError("end of buffer exception" if at + _MAX_VARINT_BYTES > len(data) else "varint too long exception")


def _varints(data: bytes) -> bytes | list[int]:
    if data.isascii():
        return data  # each byte is an integer
    numbers, at = [], 0
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(number)
    return numbers
