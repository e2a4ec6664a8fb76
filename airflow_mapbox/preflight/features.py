"""Check GeoJSON features down to each position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE
from airflow_mapbox.preflight.problems import REPROJECT, Problem

_GEOMETRY_WRITER = "Write it with airflow_mapbox.export.write_geojson, or check the task that wrote it."
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
        self._positions = 0
        self._feature = 0
        # For each cause, the first position beyond the map: the feature, x, y.
        self._beyond: dict[str, tuple[int, float, float]] = {}
        self._unclosed: int | None = None
        self._null_height: int | None = None

    def add(self, feature: object) -> Problem | None:
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
            return Problem(f"has {error} in feature {self._feature}.", _GEOMETRY_WRITER)
        return None

    def problems(self, *, is_whole: bool) -> Iterator[Problem]:
        """
        Return the problems of all features together.

        :param is_whole: whether :meth:`add` got all features of the file.
        """
        if is_whole and not self.count:
            yield Problem("has no features.", "Check the query or filter that chose the data.")
        elif is_whole and not self._positions:
            yield Problem("has features, but no geometry in any of them.", "Check the data's geometry column.")
        # The worst cause explains the others: coordinates in metres also look swapped or polar near the origin.
        for cause in ("elsewhere", "swapped", "longitude", "polar"):
            if cause in self._beyond:
                yield beyond_problem(cause, self._beyond[cause])
                break
        if self._unclosed is not None:
            # Mapnik, which reads GeoJSON at Mapbox, closes them (create_geometry.hpp, geometry::correct).
            yield Problem(
                f"has a ring that does not end where it begins in feature {self._unclosed}.",
                f"GeoJSON requires closed rings (RFC 7946, 3.1.6). {_GEOMETRY_WRITER}",
                refused=False,
            )
        if self._null_height is not None:
            yield Problem(
                f"has a position whose height is null in feature {self._null_height}.",
                f"In GeoJSON a height is a number, or it is left out (RFC 7946, 3.1.1). {_GEOMETRY_WRITER}",
                refused=False,
            )

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
        self._positions += len(positions)


def guess_cause(x: float, y: float) -> str:
    """Return the probable cause of a position beyond the map: polar, swapped, longitude or elsewhere."""
    if abs(x) <= 180 and abs(y) <= 90:
        return "polar"
    if abs(x) <= 90 and abs(y) <= 180:
        return "swapped"
    return "longitude" if abs(x) <= 360 and abs(y) <= 90 else "elsewhere"


def beyond_problem(cause: str, example: tuple[int, float, float], *, place: str = "feature") -> Problem:
    """
    Return the problem of positions beyond the map.

    :param cause: a result of :func:`guess_cause`.
    :param example: the number of a feature or row, x, y.
    :param place: ``"feature"`` or ``"row"``.
    """
    number, x, y = example
    at = f"({_digits(x)}, {_digits(y)}) in {place} {number}"
    if cause == "polar":
        return Problem(
            f"has {at}: Mapbox refuses latitudes beyond ±85.0511 degrees, which are outside the Web Mercator map.",
            _CLIP,
        )
    if cause == "longitude":
        return Problem(f"has {at}: Mapbox refuses longitudes beyond ±180 degrees.", _CUT)
    why = (
        "latitude comes first, or the coordinates are in another reference system"
        if cause == "swapped"
        else "the coordinates are in another reference system"
    )
    return Problem(f"has {at}, beyond ±180 and ±90 degrees: {why}.", REPROJECT)


def _digits(number: float) -> str:
    """Return a number with nine digits, or with all digits if rounding changes it: 180.0000001 must not show as 180."""
    text = f"{number:.9g}"
    return text if float(text) == number else repr(number)


def _shown(value: object) -> str:
    text = "null" if value is None else f"{value!r}"
    return text if len(text) <= 60 else f"{text[:57]}…"
