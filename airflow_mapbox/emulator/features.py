"""Write features for the tiler: check each geometry, compute the bounds, write one feature per line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mapbox.emulator.errors import DataError, FailureMessage

MERCATOR_LATITUDE = math.degrees(math.atan(math.sinh(math.pi)))
# About a metre. Rounding to five decimals can move a coordinate on the edge that far.
TOLERANCE_DEGREES = 1e-5
# The largest longitude and latitude in GeoJSON and CSV, and in other formats. For those Mapbox's sources have only the
# limits of a tileset's bounds (tilelive, lib/tilelive.js), and Mapbox's own test data reaches the poles.
EDGES = (180.0, MERCATOR_LATITUDE)
WIDE_EDGES = (360.0, 95.0)

# By geometry type: depth of the coordinates' nesting, and minimum number of positions in the innermost array.
DEPTHS = {
    "Point": (0, 1),
    "MultiPoint": (1, 0),
    "LineString": (1, 2),
    "MultiLineString": (2, 2),
    "Polygon": (2, 4),
    "MultiPolygon": (3, 4),
}


# Geometry and properties of a feature, in GeoJSON's types.
Feature = tuple[dict[str, Any] | None, dict[str, Any] | None]


@dataclass(frozen=True)
class Layer:
    """The features of a source layer, in a file with one GeoJSON feature per line."""

    name: str
    file: Path


@dataclass(frozen=True)
class FeatureStats:
    """The number of features with a geometry, and their bounds as west, south, east, north."""

    features: int
    bounds: tuple[float, float, float, float]

    def merge(self, other: FeatureStats) -> FeatureStats:
        """Return the sum of the features and the union of the bounds."""
        return FeatureStats(
            self.features + other.features,
            (
                min(self.bounds[0], other.bounds[0]),
                min(self.bounds[1], other.bounds[1]),
                max(self.bounds[2], other.bounds[2]),
                max(self.bounds[3], other.bounds[3]),
            ),
        )


NO_FEATURES = FeatureStats(0, (math.inf, math.inf, -math.inf, -math.inf))


class Extent:
    """The bounds of all positions added so far."""

    def __init__(self) -> None:
        self.west = self.south = math.inf
        self.east = self.north = -math.inf

    def add_geometry(self, geometry: dict[str, Any]) -> bool:
        """Check a geometry and add its positions; return whether it has any.

        :raises ValueError: if it is not a GeoJSON geometry.
        """
        kind = geometry.get("type")
        if kind == "GeometryCollection":
            members = geometry.get("geometries")
            if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
                raise ValueError("geometries must be an array of geometries")
            # A list, so that every member is checked.
            have_positions = [self.add_geometry(member) for member in members]
            return any(have_positions)
        if kind not in DEPTHS:
            raise ValueError(f"not a geometry type: {kind!r}")
        depth, min_positions = DEPTHS[kind]
        return self._add(geometry.get("coordinates"), depth, min_positions)

    def _add(self, coordinates: Any, depth: int, min_positions: int) -> bool:
        if not isinstance(coordinates, list):
            raise ValueError("coordinates must be arrays")  # noqa: TRY004 - callers catch one exception
        if depth == 0:
            if not coordinates:
                return False
            self._add_position(coordinates)
            return True
        if depth > 1:
            # A list, so that every member is checked.
            have_positions = [self._add(inner, depth - 1, min_positions) for inner in coordinates]
            return any(have_positions)
        if coordinates and len(coordinates) < min_positions:
            raise ValueError("too few positions")
        for position in coordinates:
            if not isinstance(position, list):
                raise ValueError("a position must be an array")  # noqa: TRY004
            self._add_position(position)
        return bool(coordinates)

    def _add_position(self, position: list[Any]) -> None:
        if len(position) < 2:
            raise ValueError("a position needs two numbers")
        x, y = position[0], position[1]
        for number in (x, y):
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise ValueError("a position must be numbers")  # noqa: TRY004
        self.west, self.east = min(self.west, x), max(self.east, x)
        self.south, self.north = min(self.south, y), max(self.north, y)

    def check(self, edges: tuple[float, float]) -> None:
        """Raise DataError with Mapbox's message if the bounds exceed the largest longitude and latitude."""
        longitude, latitude = (edge + TOLERANCE_DEGREES for edge in edges)
        if self.west < -longitude or self.east > longitude or self.south < -latitude or self.north > latitude:
            raise DataError(FailureMessage.BEYOND_MERCATOR)


def write_features(
    features: Iterable[Feature], file: Path, *, edges: tuple[float, float] = EDGES, tick: Callable[[], None]
) -> FeatureStats:
    """Write one feature per line and return their number and bounds.

    Only geometry and properties are written. Mapbox does not keep ids, and a ``tippecanoe`` member would change the
    tiling.

    :param features: features in longitude and latitude.
    :param edges: the largest longitude and latitude.
    :param tick: called regularly; raises to abort the work.
    :raises DataError: for an invalid geometry, and for one beyond the edges.
    """
    extent = Extent()
    count = 0
    with file.open("w", encoding="utf-8") as stream:
        for number, (geometry, properties) in enumerate(features):
            if number % 1000 == 0:
                tick()
            if geometry is None:
                continue
            try:
                if not extent.add_geometry(geometry):
                    continue
                extent.check(edges)
                feature = {"type": "Feature", "geometry": geometry, "properties": properties or {}}
                # Valid JSON can still contain values that cannot be written: 1e999 is infinite, \ud800 is not UTF-8.
                stream.write(json.dumps(feature, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n")
            except (ValueError, RecursionError):
                raise DataError(FailureMessage.GEOJSON_FEATURE) from None
            count += 1
    return FeatureStats(count, (extent.west, extent.south, extent.east, extent.north)) if count else NO_FEATURES
