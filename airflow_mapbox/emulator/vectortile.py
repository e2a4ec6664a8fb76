"""Vector tiles checked as Mapbox's validator checks them: protobuf, layers, and the commands of geometries.

The rules of a geometry are those of section 4.3 of the Mapbox Vector Tile specification, as far as mapbox/vtvalidate
has a tileset refused for them.
"""

from __future__ import annotations

from collections.abc import Iterator

# Of the protobuf messages tile, layer and feature.
LAYER = 3
NAME, FEATURE, VERSION = 1, 2, 15
TYPE, GEOMETRY = 3, 4
POLYGON = 3
MOVE_TO, LINE_TO, CLOSE_PATH = 1, 2, 7


class SpecError(Exception):
    """A geometry that the specification does not allow."""


def check_vector_tile(data: bytes) -> None:
    """Walk a tile's layers and the commands of its geometries.

    Each layer needs a name of its own and a version. Of a geometry's faults two are Mapbox's to refuse a tileset for.

    :raises ValueError: where it is no vector tile.
    :raises SpecError: where a geometry is none, in the words of Mapbox's validator.
    """
    names: set[bytes] = set()
    for number, value in _fields(data):
        if number != LAYER:
            continue
        if not isinstance(value, bytes):
            raise ValueError("a layer must be a message")  # noqa: TRY004 - one kind of fault, one exception
        layer: dict[int, int | bytes] = {}
        for inner, content in _fields(value):
            if inner == FEATURE and isinstance(content, bytes):
                _check_feature(content)
            layer[inner] = content
        name = layer.get(NAME)
        if not isinstance(name, bytes) or name in names or layer.get(VERSION) not in (1, 2):
            raise ValueError("a layer needs a name of its own and a version")
        names.add(name)
    if not names:
        raise ValueError("a tile needs a layer")


def _check_feature(data: bytes) -> None:
    feature = dict(_fields(data))
    geometry = feature.get(GEOMETRY)
    if isinstance(geometry, bytes):
        _check_commands(geometry, polygon=feature.get(TYPE) == POLYGON)


def _check_commands(geometry: bytes, *, polygon: bool) -> None:
    """Step from command to command over their parameters, of which only the number matters."""
    # A number ends at a byte without its highest bit.
    ends = [at for at, byte in enumerate(geometry, 1) if byte < 128]
    most = len(ends) // 2
    at = 0
    while at < len(ends):
        value, _ = _varint(geometry, ends[at - 1] if at else 0)
        command, count = value & 7, value >> 3
        at += 1
        if command == CLOSE_PATH:
            if polygon and count != 1:
                raise SpecError("ClosePath command count is not 1")
        elif command in (MOVE_TO, LINE_TO):
            if count > most:
                raise SpecError("Max count too large")
            at += 2 * count
        else:
            return


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("not a wire type of protobuf")
        if at + size > len(data):
            raise ValueError("cut off")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("not a number of protobuf")
