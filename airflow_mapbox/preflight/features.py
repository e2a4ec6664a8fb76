"""Check GeoJSON features down to each position."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE
from airflow_mapbox.preflight.findings import Finding, finding
from airflow_mapbox.rules import geojson as rules
from airflow_mapbox.rules.remedies import REPROJECT, REPROJECT_CSV
from airflow_mapbox.rules.rule import Rule

_CLIP = (
    'Upload it with format="auto" and export={"beyond_mercator": "clip"}, which cuts off the polar areas '
    "(airflow_mapbox.export.write_geojson has the same option); or leave them out."
)
_CUT = (
    'Upload it with format="auto", which cuts at the antimeridian. Convert longitudes from 0 to 360 to -180 to 180 '
    "first."
)

# For each type: the nesting depth of its positions, the minimum number of positions in a line, and a description.
_SHAPES: dict[str, tuple[int, int, str]] = {
    "Point": (0, 0, "one position, [longitude, latitude]"),
    "MultiPoint": (1, 0, "an array of positions"),
    "LineString": (1, 2, "an array of at least two positions"),
    "MultiLineString": (2, 2, "an array of lines of at least two positions"),
    "Polygon": (2, 4, "an array of rings of at least four positions"),
    "MultiPolygon": (3, 4, "an array of polygons, each an array of rings of at least four positions"),
}
_RING_POSITIONS = 4
_MAX_NESTED_COLLECTIONS = 100


class _UnsoundError(Exception):
    """A feature is invalid. The message stands between "has" and "in feature 7"."""


class Features:
    """The checks of a file's features: of each by itself, and of all together."""

    def __init__(self) -> None:
        self.count = 0
        self.positions = 0
        self._feature = 0
        self._box = [math.inf, math.inf, -math.inf, -math.inf]
        # For each cause, the first position beyond the map: the feature, x, y.
        self._beyond: dict[str, tuple[int, float, float]] = {}
        self._unclosed: int | None = None
        self._null_height: int | None = None

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north of all positions; None without a position."""
        west, south, east, north = self._box
        return (west, south, east, north) if self.positions else None

    @property
    def is_beyond_map(self) -> bool:
        """Whether a position lies outside the map."""
        return bool(self._beyond)

    def add_plain(self, features: int, positions: int) -> None:
        """
        Count features that need no further check.

        :param features: their number.
        :param positions: the number of their positions, which lie inside the map.
        """
        self.count += features
        self.positions += positions

    def extend(self, box: tuple[float, float, float, float] | None) -> None:
        """
        Extend the bounds by those of features that were only counted.

        :param box: west, south, east, north; None if there is no position among them.
        """
        if box is not None:
            self._grow(*box)

    def _grow(self, west: float, south: float, east: float, north: float) -> None:
        box = self._box
        self._box = [min(box[0], west), min(box[1], south), max(box[2], east), max(box[3], north)]

    def add(self, feature: object) -> Finding | None:
        """
        Check a feature by itself, and record its positions.

        :param feature: a parsed element of ``features``.
        :return: what makes it invalid, or None.
        """
        self._feature = self.count
        self.count += 1
        try:
            self._add(feature)
        except _UnsoundError as error:
            where = f"feature {self._feature}"
            return finding(rules.FEATURE, f"has {error} in {where}.", where=where)
        return None

    def findings(self, *, is_whole: bool) -> Iterator[Finding]:
        """
        Yield the findings of all features together.

        :param is_whole: whether :meth:`add` got all features of the file.
        """
        if is_whole and not self.count:
            yield finding(rules.EMPTY, "has no features.")
        elif is_whole and not self.positions:
            remedy = "Check the data's geometry column."
            yield finding(rules.EMPTY, "has features, but no geometry in any of them.", remedy=remedy)
        # The worst cause explains the others: coordinates in metres also look swapped or polar near the origin.
        for cause in ("elsewhere", "swapped", "longitude", "polar"):
            if cause in self._beyond:
                yield beyond_map(rules.RANGE, cause, self._beyond[cause])
                break
        if self._unclosed is not None:
            where = f"feature {self._unclosed}"
            yield finding(rules.UNCLOSED_RING, f"has a ring that does not end where it begins in {where}.", where=where)
        if self._null_height is not None:
            where = f"feature {self._null_height}"
            yield finding(rules.NULL_HEIGHT, f"has a position whose height is null in {where}.", where=where)

    def _add(self, feature: object) -> None:
        if not isinstance(feature, dict):
            raise _UnsoundError(f"{_shown(feature)} instead of an object")
        if "type" not in feature:
            raise _UnsoundError("an object without `type`")
        if feature["type"] != "Feature":
            raise _UnsoundError(f'the `type` {_shown(feature["type"])} instead of "Feature"')
        properties = feature.get("properties")
        if properties is not None and not isinstance(properties, dict):
            raise _UnsoundError(f"`properties` that are not an object but {_shown(properties)}")
        geometry = feature.get("geometry")
        if geometry is not None:
            self._add_geometry(geometry, 0)

    def _add_geometry(self, geometry: object, depth: int) -> None:
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        if not isinstance(geometry, dict) or not isinstance(kind, str):
            raise _UnsoundError(f"a geometry that is not GeoJSON: {_shown(geometry)}")
        if kind == "GeometryCollection":
            members = geometry.get("geometries")
            if not isinstance(members, list):
                raise _UnsoundError("a GeometryCollection whose `geometries` is not an array")
            if depth == _MAX_NESTED_COLLECTIONS:
                raise _UnsoundError(f"more than {_MAX_NESTED_COLLECTIONS} GeometryCollections inside each other")
            for member in members:
                self._add_geometry(member, depth + 1)
            return
        if kind not in _SHAPES:
            raise _UnsoundError(f"a geometry of the unknown type {_shown(kind)}")
        depth_of_positions, min_positions, expected = _SHAPES[kind]
        coordinates = geometry.get("coordinates")
        # GeoJSON allows an empty array: a geometry without a position (RFC 7946, 3.1).
        if coordinates == []:
            return
        try:
            self._add_coordinates(coordinates, depth_of_positions, min_positions)
        except _UnsoundError as error:
            raise _UnsoundError(f"a {kind} whose `coordinates` are not {expected} (got {error})") from None

    def _add_coordinates(self, coordinates: Any, depth: int, min_positions: int) -> None:
        if not isinstance(coordinates, list):
            raise _UnsoundError(_shown(coordinates))
        if depth == 0:
            self._add_positions((coordinates,))
        elif depth == 1:
            if len(coordinates) < min_positions:
                raise _UnsoundError(f"{len(coordinates)} of them")
            self._add_positions(coordinates)
            is_ring = min_positions == _RING_POSITIONS
            if is_ring and coordinates[0] != coordinates[-1] and self._unclosed is None:
                self._unclosed = self._feature
        else:
            for inner in coordinates:
                self._add_coordinates(inner, depth - 1, min_positions)

    def _add_positions(self, positions: list[Any] | tuple[list[Any]]) -> None:
        for position in positions:
            # type(), because to isinstance() a bool is an int.
            if type(position) is not list or len(position) < 2:
                raise _UnsoundError(_shown(position))
            for axis, number in enumerate(position):
                if type(number) is not float and type(number) is not int:
                    if number is not None or axis < 2:
                        raise _UnsoundError(_shown(position))
                    if self._null_height is None:
                        self._null_height = self._feature
            x, y = position[0], position[1]
            if not (-180 <= x <= 180 and -WEB_MERCATOR_LATITUDE <= y <= WEB_MERCATOR_LATITUDE):
                self._beyond.setdefault(guess_cause(x, y), (self._feature, x, y))
            self._grow(x, y, x, y)
        self.positions += len(positions)


def guess_cause(x: float, y: float) -> str:
    """Return the probable cause of a position beyond the map: polar, swapped, longitude or elsewhere."""
    if abs(x) <= 180 and abs(y) <= 90:
        return "polar"
    if abs(x) <= 90 and abs(y) <= 180:
        return "swapped"
    return "longitude" if abs(x) <= 360 and abs(y) <= 90 else "elsewhere"


def beyond_map(
    rule: Rule, cause: str, example: tuple[int, float, float], *, place: str = "feature", count: str = ""
) -> Finding:
    """
    Return the finding for positions beyond the map.

    :param rule: the rule of the format.
    :param cause: a result of :func:`guess_cause`.
    :param example: the number of a feature or row, x, y.
    :param place: what the number counts, such as ``"feature"`` or ``"row"``.
    :param count: how many there are, in brackets and with a space before it; empty if that is not counted.
    """
    number, x, y = example
    where = f"{place} {number}"
    at = f"({_digits(x)}, {_digits(y)}) in {where}"
    if cause == "polar":
        what = f"has {at}: latitudes beyond ±85.0511 degrees are outside the Web Mercator map"
        return finding(rule, f"{what}{count}.", where=where, remedy=_CLIP)
    if cause == "longitude":
        what = f"has {at}: longitudes end at ±180 degrees"
        return finding(rule, f"{what}{count}.", where=where, remedy=_CUT)
    why = (
        "latitude comes first, or the coordinates are in another reference system"
        if cause == "swapped"
        else "the coordinates are in another reference system"
    )
    remedy = REPROJECT_CSV if rule.format == "CSV" else REPROJECT
    return finding(rule, f"has {at}, beyond ±180 and ±90 degrees: {why}{count}.", where=where, remedy=remedy)


def _digits(number: float) -> str:
    """Return a number with nine digits, or with all digits if rounding changes it: 180.0000001 must not show as 180."""
    text = f"{number:.9g}"
    return text if float(text) == number else repr(number)


def _shown(value: object) -> str:
    text = "null" if value is None else f"{value!r}"
    return text if len(text) <= 60 else f"{text[:57]}…"
