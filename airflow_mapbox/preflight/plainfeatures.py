"""
Check many plain features at once, in C.

A feature is plain if it is valid, has two or three ordinates in every position, and lies inside the map. Whatever is
not plain is left to :mod:`airflow_mapbox.preflight.features`, which explains what is wrong, if anything is.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, defstruct

from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE
from airflow_mapbox.preflight.memory import without_garbage_collection

Box = tuple[float, float, float, float]

_MAP: Box = (-180.0, -WEB_MERCATOR_LATITUDE, 180.0, WEB_MERCATOR_LATITUDE)
# The nesting depth of the positions.
_DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_AREAS = ("Polygon", "MultiPolygon")
_PACK = msgspec.msgpack.Encoder().encode


class _Properties(Struct, gc=False):
    """Any object; nothing of it is kept."""


class PlainFeatures(NamedTuple):
    """
    Features that are plain.

    :param features: their number.
    :param positions: the number of their positions.
    :param box: their bounds; None if they lie inside the bounds of the arrays before.
    """

    features: int
    positions: int
    box: Box | None


class PlainReader:
    """
    Reads arrays of plain features one after the other.

    Computing bounds takes nearly as long as decoding. So an array is first decoded with the bounds of the arrays before
    as a constraint, and its own bounds are computed only if that fails.
    """

    def __init__(self) -> None:
        self._ordinates = 2
        self._box: Box | None = None
        self._inside: _Decoder | None = None

    def read(self, array: bytes) -> PlainFeatures | None:
        """
        Return what is in an array; None if one of its features is not plain, or if it is not JSON.

        :param array: a JSON array of features in UTF-8.
        """
        try:
            with without_garbage_collection():
                return self._read(array)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _read(self, array: bytes) -> PlainFeatures | None:
        if self._inside is not None and (plain := self._inside.decode(array, with_bounds=False)) is not None:
            return plain
        self._inside = None
        for ordinates in (self._ordinates, 5 - self._ordinates):
            plain = _map_decoder(ordinates).decode(array, with_bounds=True)
            if plain is not None:
                self._ordinates = ordinates
                self._grow(plain.box)
                return plain
        return None

    def _grow(self, box: Box | None) -> None:
        """Extend the bounds. If that changes nothing, the next array is probably inside them, too."""
        if box is None:
            return
        known = self._box or box
        grown = min(known[0], box[0]), min(known[1], box[1]), max(known[2], box[2]), max(known[3], box[3])
        if grown == self._box:
            self._inside = _Decoder(grown, self._ordinates)
        self._box = grown


class _Decoder:
    """
    Decodes features whose positions lie in a box.

    :param box: west, south, east, north.
    :param ordinates: the length of each position, 2 or 3.
    """

    def __init__(self, box: Box, ordinates: int) -> None:
        self._ordinates = ordinates
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_features_type(box, ordinates))

    def decode(self, array: bytes, *, with_bounds: bool) -> PlainFeatures | None:
        """Return what is in an array; None if a feature is not plain, or has a position outside the box."""
        try:
            features = self._decoder.decode(array)
        except msgspec.ValidationError:
            return None
        lines: list[Any] = []
        points = []
        for feature in features:
            geometry = feature.geometry
            if geometry is None:
                continue
            kind, coordinates = type(geometry).__name__, geometry.coordinates
            depth = _DEPTHS[kind]
            if depth == 0:
                points.append(coordinates)
                continue
            group = [coordinates] if depth == 1 else coordinates if depth == 2 else [*chain.from_iterable(coordinates)]
            if kind in _AREAS:
                for ring in group:  # any() with a generator takes twice as long
                    if ring[0] != ring[-1]:
                        return None
            lines += group
        positions = len(points) + sum(map(len, lines))
        box = self._bounds([*points, *chain.from_iterable(lines)]) if with_bounds and positions else None
        return PlainFeatures(len(features), positions, box)

    def _bounds(self, positions: list[tuple[float, ...]]) -> Box:
        import numpy as np

        # As MessagePack, a position is a byte, and each number another byte and eight of its own: numpy reads this
        # twice as fast as it iterates over the tuples.
        number = [("code", "u1"), ("value", ">f8")]
        layout = np.dtype([("length", "u1"), ("numbers", number, self._ordinates)])
        packed = _PACK(positions)
        numbers = np.frombuffer(packed, layout, offset=len(packed) - len(positions) * layout.itemsize)["numbers"][
            "value"
        ]
        xs, ys = numbers[:, 0].astype(float), numbers[:, 1].astype(float)
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def _features_type(box: Box, ordinates: int) -> Any:
    """Return the type of an array of features, whose constraints msgspec checks while it decodes."""
    west, south, east, north = box
    x, y = Annotated[float, Meta(ge=west, le=east)], Annotated[float, Meta(ge=south, le=north)]
    position: Any = tuple[x, y] if ordinates == 2 else tuple[x, y, float]  # type: ignore[valid-type]
    line: Any = Annotated[list[position], Meta(min_length=2)]
    ring: Any = Annotated[list[position], Meta(min_length=4)]
    shapes = {
        "Point": position,
        "MultiPoint": list[position],
        "LineString": line,
        "MultiLineString": list[line],
        "Polygon": list[ring],
        "MultiPolygon": list[list[ring]],
    }
    geometries: list[Any] = [
        defstruct(name, [("coordinates", shape)], tag_field="type", tag=name, gc=False)
        for name, shape in shapes.items()
    ]
    geometry: Any = None
    for kind in geometries:
        geometry = kind if geometry is None else geometry | kind
    members: list[Any] = [
        ("type", Literal["Feature"]),
        ("geometry", geometry | None, None),
        ("properties", _Properties | None, None),
    ]
    return list[defstruct("Feature", members, gc=False)]  # type: ignore[misc]


@lru_cache(maxsize=2)
def _map_decoder(ordinates: int) -> _Decoder:
    return _Decoder(_MAP, ordinates)
