"""Check vector tiles as Mapbox's validator does: protobuf, layers, and the commands of geometries.

The rules for geometries are from section 4.3 of the Mapbox Vector Tile specification. Only rules that mapbox/vtvalidate
enforces are checked.
"""

from __future__ import annotations

from collections.abc import Iterator

# Field numbers and values of the protobuf messages tile, layer and feature.
LAYER = 3
NAME, FEATURE, VERSION = 1, 2, 15
TYPE, GEOMETRY = 3, 4
POLYGON = 3
MOVE_TO, LINE_TO, CLOSE_PATH = 1, 2, 7


class SpecError(Exception):
    """A geometry that the specification does not allow."""


def check_vector_tile(data: bytes) -> None:
    """Check a tile's layers and the commands of its geometries.

    Each layer needs a unique name and a version. Mapbox refuses a tileset for only two errors of geometries.

    :raises ValueError: if the data is not a vector tile.
    :raises SpecError: with the message of Mapbox's validator if a geometry is invalid.
    """
    names: set[bytes] = set()
    for number, value in _fields(data):
        if number != LAYER:
            continue
        if not isinstance(value, bytes):
            raise ValueError("a layer must be a message")  # noqa: TRY004 - callers catch one exception
        layer: dict[int, int | bytes] = {}
        for inner, content in _fields(value):
            if inner == FEATURE and isinstance(content, bytes):
                _check_feature(content)
            layer[inner] = content
        name = layer.get(NAME)
        if not isinstance(name, bytes) or name in names or layer.get(VERSION) not in (1, 2):
            raise ValueError("a layer needs a unique name and a version")
        names.add(name)
    if not names:
        raise ValueError("a tile needs a layer")


def _check_feature(data: bytes) -> None:
    feature = dict(_fields(data))
    geometry = feature.get(GEOMETRY)
    if isinstance(geometry, bytes):
        _check_commands(geometry, polygon=feature.get(TYPE) == POLYGON)


def _check_commands(geometry: bytes, *, polygon: bool) -> None:
    """Check each command's number of repetitions. The values of its parameters are skipped."""
    # The highest bit of a varint's last byte is 0.
    ends = [end for end, byte in enumerate(geometry, 1) if byte < 128]
    max_count = len(ends) // 2
    index = 0
    while index < len(ends):
        value, _ = _varint(geometry, ends[index - 1] if index else 0)
        command, count = value & 7, value >> 3
        index += 1
        if command == CLOSE_PATH:
            if polygon and count != 1:
                raise SpecError("ClosePath command count is not 1")
        elif command in (MOVE_TO, LINE_TO):
            if count > max_count:
                raise SpecError("Max count too large")
            index += 2 * count
        else:
            return


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message."""
    offset = 0
    while offset < len(data):
        key, offset = _varint(data, offset)
        wire_type = key & 7
        if wire_type == 0:
            value, offset = _varint(data, offset)
            yield key >> 3, value
            continue
        if wire_type == 2:
            size, offset = _varint(data, offset)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError("not a wire type of protobuf")
        if offset + size > len(data):
            raise ValueError("the message is cut off")
        yield key >> 3, data[offset : offset + size]
        offset += size


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return the varint at an offset, and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(data):
            break
        byte = data[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
    raise ValueError("not a varint of protobuf")
