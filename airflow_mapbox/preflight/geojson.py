"""What Mapbox would refuse in a GeoJSON document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from airflow_mapbox.preflight.formats import SNIFFED_CHARACTERS, WEB_MERCATOR_LATITUDE

# What these start with is read as TopoJSON or TileJSON (uploads-api.md, "Names and limits").
_MISTAKEN = {'"arcs":': "TopoJSON", '"objects":': "TopoJSON", '"tilejson":': "TileJSON"}

# A `crs` member that says what GeoJSON says without one. 4326 is written by tools that mean longitude, latitude.
_LONGITUDE_LATITUDE = re.compile(r"(CRS:?84|EPSG:+4326|EPSG:[0-9.]*:4326)$", re.IGNORECASE)
_CRS_NAME = re.compile(rb'"crs"\s*:\s*\{.{0,120}?"name"\s*:\s*"([^"]{1,120})"', re.DOTALL)

_GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")
_WRITE = "Write it with airflow_mapbox.export.write_geojson, which reprojects to longitude, latitude."


def check_head(head: bytes) -> Iterator[str]:
    """
    Look at the start of a document, which is all there is to see of a stream.

    :param head: its first bytes.
    :return: problems, each a clause that follows the file's name.
    """
    squeezed = re.sub(r"\s", "", head.decode("utf-8", "replace")[:SNIFFED_CHARACTERS])
    for token, mistaken_for in _MISTAKEN.items():
        if token in squeezed:
            yield (
                f"has {token} in its first {SNIFFED_CHARACTERS} characters, which Mapbox reads as {mistaken_for}: "
                "rename the attribute, or put spaces before the first feature."
            )
    if named := _CRS_NAME.search(head):
        yield from _check_crs(named.group(1).decode("utf-8", "replace"))


def check_document(data: bytes) -> Iterator[str]:
    """
    Look at a whole document.

    :param data: the file's bytes.
    :return: problems, each a clause that follows the file's name; a document with one is not looked at further.
    """
    try:
        document = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        yield f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        return
    if not isinstance(document, dict) or document.get("type") not in ("FeatureCollection", "Feature", *_GEOMETRIES):
        yield "is JSON but not GeoJSON: it has no `type` of FeatureCollection, Feature or a geometry."
        return
    yield from _check_crs(_crs_name(document.get("crs")))
    if document["type"] == "FeatureCollection":
        features = document.get("features")
    else:
        features = [document if document["type"] == "Feature" else {"type": "Feature", "geometry": document}]
    if not isinstance(features, list):
        yield "is a FeatureCollection whose `features` is no array."
    elif not features:
        yield "has no features: check the query or filter that chose the data."
    else:
        yield from _check_features(features)


def _check_features(features: list[Any]) -> Iterator[str]:
    positions = 0
    for index, feature in enumerate(features):
        if not isinstance(feature, dict):
            yield f"has a {type(feature).__name__} as feature {index}."
            return
        if feature.get("type") != "Feature":
            yield f"has no `type` of Feature in feature {index}."
            return
        geometry = feature.get("geometry")
        if geometry is None:
            continue
        if not isinstance(geometry, dict) or geometry.get("type") not in _GEOMETRIES:
            yield f"has no geometry that GeoJSON knows in feature {index}."
            return
        for longitude, latitude in _positions(geometry):
            positions += 1
            if not (_is_number(longitude) and _is_number(latitude)):
                yield f"has a position that is no pair of numbers in feature {index}."
                return
            if abs(longitude) > 180 or abs(latitude) > WEB_MERCATOR_LATITUDE:
                yield (
                    f"has ({longitude:g}, {latitude:g}) in feature {index}, beyond ±180 and ±85.0511 degrees: the "
                    f"coordinates are in another reference system, or latitude comes first. {_WRITE}"
                )
                return
    if not positions:
        yield "has features and no geometry in any of them: check the data's geometry column."


def _positions(geometry: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Walk the positions of a geometry, however deep they are nested."""
    stack: list[Any] = [geometry]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.append(item.get("geometries" if item.get("type") == "GeometryCollection" else "coordinates"))
        elif not isinstance(item, list):
            yield None, None
        elif item and isinstance(item[0], list | dict):
            stack.extend(item)
        elif item:
            yield item[0], item[1] if len(item) > 1 else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _crs_name(crs: object) -> str | None:
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    return name if isinstance(name, str) else None


def _check_crs(name: str | None) -> Iterator[str]:
    if name is not None and not _LONGITUDE_LATITUDE.search(name):
        yield f"says that its coordinates are in {name}; Mapbox ignores that and reads longitude, latitude. {_WRITE}"
