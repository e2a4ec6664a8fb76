"""Features of GeoJSON, walked down to their positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE
from airflow_mapbox.preflight.problems import REPROJECT, Problem

_GEOMETRY_WRITER = "Write it with airflow_mapbox.export.write_geojson, or look at the task that wrote it."
_CLIP = (
    'Upload it with format="auto" and export={"beyond_mercator": "clip"}, which cuts off what lies beyond (as does '
    "airflow_mapbox.export.write_geojson with that option); or leave the polar areas out."
)
_CUT = (
    'Upload it with format="auto", which cuts at the antimeridian; longitudes that '
    "are counted from 0 to 360 must become -180 to 180 first."
)

# Of each type: how deep its positions are nested, how many of them a line has at least, and what is expected.
_SHAPES: dict[str, tuple[int, int, str]] = {
    "Point": (0, 0, "one position, [longitude, latitude]"),
    "MultiPoint": (1, 0, "an array of positions"),
    "LineString": (1, 2, "an array of at least two positions"),
    "MultiLineString": (2, 2, "an array of lines of at least two positions"),
    "Polygon": (2, 4, "an array of rings of at least four positions"),
    "MultiPolygon": (3, 4, "an array of polygons, each an array of rings of at least four positions"),
}
_RING = 4
_DEEPEST = 100  # collections inside each other


class _UnsoundError(Exception):
    """What is wrong with a feature; its text follows "has" and precedes "in feature 7"."""


class Features:
    """What the features seen so far have in them."""

    def __init__(self) -> None:
        self.count = 0
        self._positions = 0
        self._feature = 0
        # The first position of each kind beyond the map, with its feature.
        self._beyond: dict[str, tuple[int, float, float]] = {}
        self._unclosed: int | None = None
        self._null_height: int | None = None

    def add(self, feature: object) -> Problem | None:
        """
        Walk a feature.

        :param feature: a parsed element of ``features``.
        :return: what makes it unsound.
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
        Return what is wrong with the features taken together.

        :param is_whole: whether these are all features of the file.
        """
        if is_whole and not self.count:
            yield Problem("has no features.", "Check the query or filter that chose the data.")
        elif is_whole and not self._positions:
            yield Problem("has features and no geometry in any of them.", "Check the data's geometry column.")
        # The worst explains the others: in metres most positions are beyond everything.
        for kind in ("elsewhere", "swapped", "longitude", "polar"):
            if kind in self._beyond:
                yield beyond_problem(kind, self._beyond[kind])
                break
        if self._unclosed is not None:
            # Mapnik, which reads GeoJSON at Mapbox, closes them (create_geometry.hpp, geometry::correct).
            yield Problem(
                f"has a ring that does not end where it begins in feature {self._unclosed}.",
                f"GeoJSON wants it closed (RFC 7946, 3.1.6). {_GEOMETRY_WRITER}",
                refused=False,
            )

        if self._null_height is not None:
            yield Problem(
                f"has a position whose height is null in feature {self._null_height}.",
                f"GeoJSON wants a number or nothing there (RFC 7946, 3.1.1). {_GEOMETRY_WRITER}",
                refused=False,
            )

    def _add(self, feature: object) -> None:
        if not isinstance(feature, dict):
            raise _UnsoundError(f"a {type(feature).__name__} in place of an object")
        if feature.get("type") != "Feature":
            raise _UnsoundError(f"no `type` of Feature (it is {_shown(feature.get('type'))})")
        properties = feature.get("properties")
        if properties is not None and not isinstance(properties, dict):
            raise _UnsoundError(f"`properties` that are no object but {_shown(properties)}")
        geometry = feature.get("geometry")
        if geometry is not None:
            self._add_geometry(geometry, 0)

    def _add_geometry(self, geometry: object, depth: int) -> None:
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        if not isinstance(geometry, dict) or not isinstance(kind, str):
            raise _UnsoundError(f"a geometry that is no GeoJSON: {_shown(geometry)}")
        if kind == "GeometryCollection":
            members = geometry.get("geometries")
            if not isinstance(members, list):
                raise _UnsoundError("a GeometryCollection whose `geometries` is no array")
            if depth == _DEEPEST:
                raise _UnsoundError(f"GeometryCollections more than {_DEEPEST} deep")
            for member in members:
                self._add_geometry(member, depth + 1)
            return
        if kind not in _SHAPES:
            raise _UnsoundError(f"a geometry of type {_shown(kind)}, which GeoJSON does not know")
        levels, least, expected = _SHAPES[kind]
        coordinates = geometry.get("coordinates")
        # An empty array is a geometry without any place, which GeoJSON allows (RFC 7946, 3.1).
        if coordinates == []:
            return
        try:
            self._walk(coordinates, levels, least)
        except _UnsoundError as error:
            raise _UnsoundError(f"a {kind} whose `coordinates` are not {expected} (but {error})") from None

    def _walk(self, coordinates: Any, levels: int, least: int) -> None:
        if not isinstance(coordinates, list):
            raise _UnsoundError(_shown(coordinates))
        if levels == 0:
            self._add_positions((coordinates,))
        elif levels == 1:
            if len(coordinates) < least:
                raise _UnsoundError(f"{len(coordinates)} of them")
            self._add_positions(coordinates)
            if least == _RING and coordinates[0] != coordinates[-1] and self._unclosed is None:
                self._unclosed = self._feature
        else:
            for inner in coordinates:
                self._walk(inner, levels - 1, least)

    def _add_positions(self, positions: list[Any] | tuple[list[Any]]) -> None:
        for position in positions:
            # bool is an int, but not to type().
            if type(position) is not list or len(position) < 2:
                raise _UnsoundError(_shown(position))
            for at, number in enumerate(position):
                if type(number) is not float and type(number) is not int:
                    if number is not None or at < 2:
                        raise _UnsoundError(_shown(position))
                    if self._null_height is None:
                        self._null_height = self._feature
            x, y = position[0], position[1]
            if not (-180 <= x <= 180 and -WEB_MERCATOR_LATITUDE <= y <= WEB_MERCATOR_LATITUDE):
                self._beyond.setdefault(kind_beyond(x, y), (self._feature, x, y))
        self._positions += len(positions)


def kind_beyond(x: float, y: float) -> str:
    """Return why a position beyond the map is there, as far as it tells by itself."""
    if abs(x) <= 180 and abs(y) <= 90:
        return "polar"
    if abs(x) <= 90 and abs(y) <= 180:
        return "swapped"
    return "longitude" if abs(x) <= 360 and abs(y) <= 90 else "elsewhere"


def beyond_problem(kind: str, example: tuple[int, float, float], *, place: str = "feature") -> Problem:
    """
    Return the problem of positions beyond the map.

    :param kind: as :func:`kind_beyond` tells it.
    :param example: the number of the feature or row, and the position.
    :param place: what that number is one of.
    """
    number, x, y = example
    at = f"({_digits(x)}, {_digits(y)}) in {place} {number}"
    if kind == "polar":
        return Problem(
            f"has {at}: latitudes beyond ±85.0511 degrees lie outside of the Web Mercator map, which Mapbox refuses.",
            _CLIP,
        )
    if kind == "longitude":
        return Problem(f"has {at}: longitudes beyond ±180 degrees, which Mapbox refuses.", _CUT)
    why = (
        "latitude comes first, or the coordinates are in another reference system"
        if kind == "swapped"
        else "the coordinates are in another reference system"
    )
    return Problem(f"has {at}, beyond ±180 and ±90 degrees: {why}.", REPROJECT)


def _digits(number: float) -> str:
    """Return a number in nine digits, or in all where it would look like another one, such as 180."""
    text = f"{number:.9g}"
    return text if float(text) == number else repr(number)


def _shown(value: object) -> str:
    text = "nothing" if value is None else f"{value!r}"
    return text if len(text) <= 60 else f"{text[:57]}…"
