"""GeoJSON as Mapbox reads it: one feature after the other, always longitude and latitude."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_mapbox.emulator.errors import DataError, Failed
from airflow_mapbox.emulator.features import DEPTHS, Feature
from airflow_mapbox.emulator.jsonstream import JsonError, JsonReader

GEOMETRIES = frozenset(DEPTHS) | {"GeometryCollection"}
# Members that are looked at; every other one is passed over, `crs` and `bbox` among them.
READ = frozenset({"type", "geometry", "properties", "coordinates", "geometries"})


def read_geojson(path: Path) -> Iterator[Feature]:
    """Yield geometry and properties of each feature of a FeatureCollection, a Feature or a geometry.

    :param path: the file, in UTF-8; a byte order mark is passed over.
    :raises DataError: with Mapbox's message for what is not GeoJSON, and for a collection without features.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = JsonReader(stream)
        seen: dict[str, Any] = {}
        count = 0
        inside = False
        try:
            for name in reader.members():
                if name == "features" and reader.peek() == "[":
                    inside = True
                    for element in reader.elements():
                        count += 1
                        yield _of_feature(element)
                    inside = False
                    seen["features"] = True
                else:
                    value = reader.value()
                    if name in READ or name == "features":
                        seen[name] = value
            if reader.peek():
                # One feature after the other without a collection around them is not documented.
                raise DataError(Failed.GEOJSON_FEATURE)
        except UnicodeDecodeError:
            raise DataError(Failed.GEOJSON_FEATURE) from None
        except JsonError:
            raise DataError(Failed.GEOJSON_FEATURE if inside else Failed.GEOJSON_INVALID) from None
        kind = seen.get("type")
        if kind == "FeatureCollection" and seen.get("features") is True:
            if not count:
                raise DataError(Failed.GEOJSON_EMPTY)
        elif kind == "Feature" and not count:
            yield _of_feature(seen)
        elif kind in GEOMETRIES and not count:
            yield seen, None
        else:
            raise DataError(Failed.GEOJSON_INVALID)


def _of_feature(element: object) -> Feature:
    if not isinstance(element, dict) or element.get("type") != "Feature":
        raise DataError(Failed.GEOJSON_FEATURE)
    geometry, properties = element.get("geometry"), element.get("properties")
    if not (geometry is None or isinstance(geometry, dict)) or not (properties is None or isinstance(properties, dict)):
        raise DataError(Failed.GEOJSON_FEATURE)
    return geometry, properties
