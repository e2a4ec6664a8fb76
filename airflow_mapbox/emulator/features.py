"""Features on their way to the tiler: checked, measured, and written one a line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mapbox.emulator.errors import DataError, Failed

MERCATOR_LATITUDE = math.degrees(math.atan(math.sinh(math.pi)))
# About a metre: what rounding to five decimals can add to a coordinate on the edge.
TOLERANCE = 1e-5

# How deep each type's coordinates nest, and how many positions its innermost array has at least.
DEPTHS = {
    "Point": (0, 1),
    "MultiPoint": (1, 0),
    "LineString": (1, 2),
    "MultiLineString": (2, 2),
    "Polygon": (2, 4),
    "MultiPolygon": (3, 4),
}


# Geometry and properties of one feature, in GeoJSON's types.
Feature = tuple[dict[str, Any] | None, dict[str, Any] | None]


@dataclass(frozen=True)
class Layer:
    """Features under one source layer, in a file of one GeoJSON feature a line."""

    name: str
    file: Path


@dataclass(frozen=True)
class Measured:
    """What was written: how many features have a geometry, and their bounds as west, south, east, north."""

    features: int
    bounds: tuple[float, float, float, float]

    def joined(self, other: Measured) -> Measured:
        """Return the two taken together."""
        return Measured(
            self.features + other.features,
            (
                min(self.bounds[0], other.bounds[0]),
                min(self.bounds[1], other.bounds[1]),
                max(self.bounds[2], other.bounds[2]),
                max(self.bounds[3], other.bounds[3]),
            ),
        )


NOTHING = Measured(0, (math.inf, math.inf, -math.inf, -math.inf))


class Extent:
    """The bounds of positions seen so far."""

    def __init__(self) -> None:
        self.west = self.south = math.inf
        self.east = self.north = -math.inf

    def add_geometry(self, geometry: dict[str, Any]) -> bool:
        """Check a geometry and take its positions in; return whether it has any.

        :raises ValueError: where it is no GeoJSON geometry.
        """
        kind = geometry.get("type")
        if kind == "GeometryCollection":
            members = geometry.get("geometries")
            if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
                raise ValueError("geometries must be an array of geometries")
            found = [self.add_geometry(member) for member in members]
            return any(found)
        if kind not in DEPTHS:
            raise ValueError(f"no geometry type: {kind!r}")
        depth, least = DEPTHS[kind]
        return self._add(geometry.get("coordinates"), depth, least)

    def _add(self, coordinates: Any, depth: int, least: int) -> bool:
        if not isinstance(coordinates, list):
            raise ValueError("coordinates must be arrays")  # noqa: TRY004 - one kind of fault, one exception
        if depth == 0:
            if not coordinates:
                return False
            self._add_position(coordinates)
            return True
        if depth > 1:
            found = [self._add(inner, depth - 1, least) for inner in coordinates]
            return any(found)
        if coordinates and len(coordinates) < least:
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

    def check(self) -> None:
        """Refuse what the web mercator projection does not reach.

        :raises DataError: with Mapbox's message.
        """
        if (
            self.west < -180 - TOLERANCE
            or self.east > 180 + TOLERANCE
            or self.south < -MERCATOR_LATITUDE - TOLERANCE
            or self.north > MERCATOR_LATITUDE + TOLERANCE
        ):
            raise DataError(Failed.BEYOND_MERCATOR)


def write_features(features: Iterable[Feature], file: Path, *, tick: Callable[[], None]) -> Measured:
    """Write features one a line and return what they measure.

    Only geometry and properties go on: ids are not kept by Mapbox, and a ``tippecanoe`` member would steer the tiler.

    :param features: in longitude and latitude.
    :param tick: called now and then; raises where the work is to be given up.
    :raises DataError: for a geometry that is none, or beyond web mercator.
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
                extent.check()
                feature = {"type": "Feature", "geometry": geometry, "properties": properties or {}}
                # What is no number or no character in JSON may still have come out of its escapes and exponents.
                stream.write(json.dumps(feature, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n")
            except (ValueError, RecursionError):
                raise DataError(Failed.GEOJSON_FEATURE) from None
            count += 1
    return Measured(count, (extent.west, extent.south, extent.east, extent.north)) if count else NOTHING
