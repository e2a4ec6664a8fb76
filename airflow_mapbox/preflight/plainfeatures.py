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
# The margin has room for as many arrays as this, if the bounds keep growing as they did.
_MARGIN_ARRAYS = 24
_MAX_HELD_BYTES = 24 * 2**20
# In data of any order, each side is extended once in a while. If so many arrays in a row do it, the data is sorted.
_IN_A_ROW = 3
_PACK = msgspec.msgpack.Encoder().encode


class _Properties(Struct, gc=False):
    """Any object; nothing of it is kept."""


class PlainFeatures(NamedTuple):
    """
    Features that are plain.

    :param features: their number.
    :param positions: the number of their positions.
    """

    features: int
    positions: int


class PlainReader:
    """
    Reads arrays of plain features one after the other.

    Computing bounds takes nearly as long as decoding. So most arrays are only decoded, with the constraint that all
    positions lie in the bounds of the arrays before.

    In sorted data, each array extends the bounds on the same side, so the constraint leaves a margin there. An array
    that may reach into the margin is held. If a later one extends the bounds beyond the margin, its own bounds are not
    needed. If what is held becomes too large, the bounds are computed after all.
    """

    def __init__(self) -> None:
        self._ordinates = 2
        self._box: Box | None = None  # the bounds, without the arrays that are held
        self._decoder: _Decoder | None = None
        self._held: list[tuple[bytes, _Decoder]] = []
        self._sides = tuple(_Side() for _ in range(4))  # west, south, east, north
        self._arrays = 0  # since the constraint was chosen

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

    @property
    def bounds(self) -> Box | None:
        """West, south, east, north of all positions; None without a position."""
        with without_garbage_collection():
            self._release()
        return self._box

    def _read(self, array: bytes) -> PlainFeatures | None:
        self._arrays += 1
        if self._decoder is not None and (decoded := self._decoder.decode(array)) is not None:
            if self._decoder.box != self._box:
                self._hold(array, self._decoder)
            return decoded.plain()
        for ordinates in (self._ordinates, 5 - self._ordinates):
            if (decoded := _map_decoder(ordinates).decode(array)) is not None:
                self._ordinates = ordinates
                self._extend(decoded.bounds())
                return decoded.plain()
        return None

    def _extend(self, box: Box | None) -> None:
        before, self._box = self._box, _union(self._box, box)
        self._held = [(array, decoder) for array, decoder in self._held if _union(self._box, decoder.box) != self._box]
        self._constrain(before)

    def _hold(self, array: bytes, decoder: _Decoder) -> None:
        self._held.append((array, decoder))
        if sum(len(held) for held, _ in self._held) > _MAX_HELD_BYTES:
            before = self._box
            self._release()
            self._sides = tuple(_Side() for _ in range(4))
            self._constrain(before)

    def _release(self) -> None:
        for array, decoder in self._held:
            if (decoded := decoder.decode(array)) is not None:
                self._box = _union(self._box, decoded.bounds())
        self._held.clear()

    def _constrain(self, before: Box | None) -> None:
        """Choose the constraint for the next arrays by how the last ones extended the bounds."""
        arrays, self._arrays, self._decoder = self._arrays, 0, None
        if before is None or self._box is None:
            return
        for side, old, new in zip(self._sides, before, self._box, strict=True):
            side.add(new - old, arrays)
        margins = [side.margin for side in self._sides]
        # Without a margin, the next array of sorted data lies outside again, and would be decoded in vain.
        if any(margins) or self._box == before:
            box = (value + margin for value, margin in zip(self._box, margins, strict=True))
            self._decoder = _Decoder(_on_map(*box), self._ordinates)


class _Side:
    """How arrays extend the bounds on one side."""

    def __init__(self) -> None:
        self._in_a_row = 0  # arrays one after the other, each of which extended it
        self._growth = 0.0
        self._arrays = 0

    def add(self, growth: float, arrays: int) -> None:
        """
        Count growth.

        :param growth: how far the side was extended in all, in degrees; negative to the west and south.
        :param arrays: by how many arrays.
        """
        if self._in_a_row < _IN_A_ROW:
            self._in_a_row = 0 if not growth else self._in_a_row + 1 if arrays == 1 else 1
        else:
            self._growth += growth
            self._arrays += arrays

    @property
    def margin(self) -> float:
        """How far the next arrays will extend it, in degrees; 0 if no trend is known."""
        return _MARGIN_ARRAYS * self._growth / self._arrays if self._arrays else 0.0


class _Decoder:
    """
    Decodes features whose positions lie in a box.

    :param box: west, south, east, north.
    :param ordinates: the length of each position, 2 or 3.
    """

    def __init__(self, box: Box, ordinates: int) -> None:
        self.box = box
        self._ordinates = ordinates
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_features_type(box, ordinates))

    def decode(self, array: bytes) -> _Decoded | None:
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
        return _Decoded(len(features), points, lines, self._ordinates)


class _Decoded(NamedTuple):
    features: int
    points: list[Any]
    lines: list[Any]
    ordinates: int

    def plain(self) -> PlainFeatures:
        return PlainFeatures(self.features, len(self.points) + sum(map(len, self.lines)))

    def bounds(self) -> Box | None:
        """Return the bounds of all positions; None without a position."""
        import numpy as np

        positions = [*self.points, *chain.from_iterable(self.lines)]
        if not positions:
            return None
        # As MessagePack, a position is a byte, and each number another byte and eight of its own: numpy reads this
        # twice as fast as it iterates over the tuples.
        number = [("code", "u1"), ("value", ">f8")]
        layout = np.dtype([("length", "u1"), ("numbers", number, self.ordinates)])
        packed = _PACK(positions)
        head = len(packed) - len(positions) * layout.itemsize
        numbers = np.frombuffer(packed, layout, offset=head)["numbers"]["value"]
        xs, ys = numbers[:, 0].astype(float), numbers[:, 1].astype(float)
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def _union(one: Box | None, other: Box | None) -> Box | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def _on_map(west: float, south: float, east: float, north: float) -> Box:
    return max(west, _MAP[0]), max(south, _MAP[1]), min(east, _MAP[2]), min(north, _MAP[3])


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
