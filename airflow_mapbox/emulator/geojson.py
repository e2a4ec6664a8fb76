"""Read GeoJSON as Mapbox does: feature by feature, always as longitude and latitude."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_mapbox.emulator.errors import DataError, FailureMessage
from airflow_mapbox.emulator.features import DEPTHS, Feature
from airflow_mapbox.emulator.jsonstream import JsonError, JsonReader

GEOMETRIES = frozenset(DEPTHS) | {"GeometryCollection"}
# All other members are ignored, `crs` and `bbox` too.
READ = frozenset({"type", "geometry", "properties", "coordinates", "geometries"})


def read_geojson(path: Path) -> Iterator[Feature]:
    """Yield geometry and properties of each feature of a FeatureCollection, a Feature or a geometry.

    :param path: the file, in UTF-8, with or without a byte order mark.
    :raises DataError: with Mapbox's message if the file is not GeoJSON, or a collection without features.
    """
    root: dict[str, Any] = {}
    count = 0
    for feature in _read_collection(path, root):
        count += 1
        yield feature
    kind = root.get("type")
    if kind == "FeatureCollection" and root.get("features") is True:
        if not count:
            raise DataError(FailureMessage.GEOJSON_EMPTY)
    elif kind == "Feature" and not count:
        yield _parse_feature(root)
    elif kind in GEOMETRIES and not count:
        yield root, None
    else:
        raise DataError(FailureMessage.GEOJSON_INVALID)


def _read_collection(path: Path, root: dict[str, Any]) -> Iterator[Feature]:
    """Yield the elements of the file's ``features``, and put its other members into ``root``."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = JsonReader(stream)
        try:
            for name in reader.members():
                if name == "features" and reader.peek() == "[":
                    if root.get("type", "FeatureCollection") != "FeatureCollection":
                        raise DataError(FailureMessage.GEOJSON_INVALID)
                    for element in reader.elements():
                        yield _parse_feature(element)
                    root["features"] = True
                else:
                    value = reader.value()
                    if name in READ or name == "features":
                        root[name] = value
            if reader.peek():
                # Line-delimited GeoJSON is not documented: docs/reference/undocumented.md, "Reading a file".
                raise DataError(FailureMessage.GEOJSON_INVALID)
        except (UnicodeDecodeError, JsonError):
            # Mapbox reads the whole file when it opens it, so it never says that only one feature is invalid.
            raise DataError(FailureMessage.GEOJSON_INVALID) from None


def _parse_feature(element: object) -> Feature:
    if not isinstance(element, dict) or element.get("type") != "Feature":
        raise DataError(FailureMessage.GEOJSON_FEATURE)
    geometry, properties = element.get("geometry"), element.get("properties")
    # Only a whole geometry may be empty. From other formats come lines with empty parts, so the writer allows them.
    if isinstance(geometry, dict) and _has_empty_part(geometry):
        raise DataError(FailureMessage.GEOJSON_FEATURE)
    if not (geometry is None or isinstance(geometry, dict)) or not (properties is None or isinstance(properties, dict)):
        raise DataError(FailureMessage.GEOJSON_FEATURE)
    return geometry, properties


def _has_empty_part(geometry: dict[str, Any]) -> bool:
    members = geometry.get("geometries")
    if isinstance(members, list):
        return any(_has_empty_part(member) for member in members if isinstance(member, dict))
    parts = geometry.get("coordinates")
    kind = geometry.get("type")
    if not isinstance(parts, list) or kind not in ("MultiLineString", "Polygon", "MultiPolygon"):
        return False
    return any(part == [] or (kind == "MultiPolygon" and isinstance(part, list) and [] in part) for part in parts)
