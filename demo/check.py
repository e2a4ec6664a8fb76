"""Download a tileset tile by tile, and compare its features with those of the uploaded file."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mapbox_vector_tile
import requests
import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

# Tiles round positions to a grid of 4,096 steps, so a position may differ by half a step on each axis. The conversion
# to web mercator and back adds a little.
_MAX_STEPS_OFF = 0.75
# Simplification and rounding move a polygon's edge by about a step. This is the allowed difference of the area, as a
# share.
_MAX_AREA_OFF = 0.02


class TilesetMismatchError(AssertionError):
    """The tiles differ from the uploaded file."""


@dataclass(frozen=True)
class TilesetCheck:
    """
    The result of a successful check.

    :param tilejson_url: URL of the tileset's TileJSON.
    :param tiles: number of downloaded tiles by zoom.
    :param features: number of features in the file, which are all in the tiles of the highest zoom.
    """

    tilejson_url: str
    tiles: dict[int, int]
    features: int


def check_tileset(tilejson_url: str, geojson: Path, *, key: str, token: str | None = None) -> TilesetCheck:
    """
    Check that a tileset contains exactly the features of a file.

    The check requests every tile within the bounds at every zoom. The tiles of the highest zoom must contain each
    feature of the file, with its attributes and geometry, and no other features.

    :param tilejson_url: URL of the tileset's TileJSON.
    :param geojson: the uploaded file.
    :param key: an attribute with a unique value for each feature.
    :param token: an access token, if the URL needs one.
    :raises TilesetMismatchError: with the first wrong feature or tile.
    :raises ValueError: if the key is not unique in the file.
    """
    with requests.Session() as session:
        session.trust_env = False
        if token is not None:
            session.params = {"access_token": token}
        tilejson = _get(session, tilejson_url).json()
        tiles, parts = _fetch_tiles(session, tilejson, key)
    features = json.loads(geojson.read_text())["features"]
    expected = {feature["properties"][key]: feature for feature in features}
    if len(expected) != len(features):
        raise ValueError(f"{key} is not unique among the {len(features)} features of {geojson}")
    _compare_keys(set(expected), set(parts))
    step = 360 / 2 ** tilejson["maxzoom"] / 4096
    for identity, feature in expected.items():
        _compare_attributes(identity, feature["properties"], parts[identity][-1]["properties"])
        geometries = [part["geometry"] for part in parts[identity]]
        _compare_geometry(identity, shape(feature["geometry"]), geometries, step)
    return TilesetCheck(tilejson_url, tiles, len(expected))


def _fetch_tiles(
    session: requests.Session, tilejson: dict[str, Any], key: str
) -> tuple[dict[int, int], dict[Any, list[dict[str, Any]]]]:
    """Return the number of tiles by zoom, and the parts of each feature in the tiles of the highest zoom."""
    counts: dict[int, int] = defaultdict(int)
    parts: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for zoom in range(tilejson["minzoom"], tilejson["maxzoom"] + 1):
        for column, row in _tiles_within(tilejson["bounds"], zoom):
            tile = _get(session, tilejson["tiles"][0].format(z=zoom, x=column, y=row), may_be_missing=True)
            if tile is None:
                continue
            counts[zoom] += 1
            in_tile: set[Any] = set()
            for part in _decode(tile.content, zoom, column, row):
                if zoom == tilejson["maxzoom"]:
                    identity = part["properties"].get(key)
                    if identity in in_tile:
                        raise TilesetMismatchError(f"Tile {zoom}/{column}/{row} contains feature {identity} twice")
                    in_tile.add(identity)
                    parts[identity].append(part)
    return dict(counts), parts


def _get(session: requests.Session, url: str, *, may_be_missing: bool = False) -> Any:
    response = session.get(url, timeout=30)
    if may_be_missing and response.status_code == 404:
        return None
    if response.status_code != 200:
        raise TilesetMismatchError(f"{url.partition('?')[0]} answered {response.status_code}: {response.text[:200]}")
    return response


def _tiles_within(bounds: list[float], zoom: int) -> Iterator[tuple[int, int]]:
    size = 2**zoom

    def cell(longitude: float, latitude: float) -> tuple[int, int]:
        x = (longitude + 180) / 360 * size
        y = (1 - math.asinh(math.tan(math.radians(latitude))) / math.pi) / 2 * size
        return min(max(int(x), 0), size - 1), min(max(int(y), 0), size - 1)

    west, south, east, north = bounds
    (first_column, first_row), (last_column, last_row) = cell(west, north), cell(east, south)
    for column in range(first_column, last_column + 1):
        for row in range(first_row, last_row + 1):
            yield column, row


def _decode(content: bytes, zoom: int, column: int, row: int) -> Iterator[dict[str, Any]]:
    """Yield a tile's features. Their geometries are in longitude and latitude, clipped to the tile."""
    size = 2**zoom
    for layer in mapbox_vector_tile.decode(content, default_options={"y_coord_down": True}).values():
        extent = layer["extent"]

        def to_degrees(x: float, y: float, extent: int = extent) -> tuple[float, float]:
            longitude = (column + x / extent) / size * 360 - 180
            latitude = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * (row + y / extent) / size))))
            return longitude, latitude

        for feature in layer["features"]:
            geometry = shape(feature["geometry"])
            # Clipped, because a tile also contains a strip of its neighbours, so that lines are drawn without a gap.
            inside = geometry if geometry.geom_type == "Point" else _make_valid(geometry)
            inside = inside.intersection(shapely.box(0, 0, extent, extent))
            if not inside.is_empty:
                degrees = shapely.transform(
                    inside, lambda points, convert=to_degrees: [convert(x, y) for x, y in points]
                )
                yield {"properties": feature["properties"], "geometry": degrees}


def _make_valid(geometry: BaseGeometry) -> BaseGeometry:
    return geometry if geometry.is_valid else shapely.make_valid(geometry)


def _compare_keys(expected: set[Any], actual: set[Any]) -> None:
    missing, foreign = expected - actual, actual - expected
    if missing or foreign:
        raise TilesetMismatchError(
            f"{len(missing)} features are missing in the tiles (first {sorted(map(str, missing))[:3]}); "
            f"{len(foreign)} features in the tiles are not in the file (first {sorted(map(str, foreign))[:3]})"
        )


def _compare_attributes(identity: Any, expected: dict[str, Any], actual: dict[str, Any]) -> None:
    not_null = {name: value for name, value in expected.items() if value is not None}  # tiles cannot store null
    if not_null.keys() != actual.keys():
        raise TilesetMismatchError(f"Feature {identity} has attributes {sorted(actual)}, expected {sorted(not_null)}")
    for name, value in not_null.items():
        is_same = math.isclose(value, actual[name], rel_tol=1e-6) if isinstance(value, float) else value == actual[name]
        if not is_same:
            raise TilesetMismatchError(f"Feature {identity} has {name}={actual[name]!r}, expected {value!r}")


def _compare_geometry(identity: Any, expected: BaseGeometry, parts: list[BaseGeometry], step: float) -> None:
    if expected.geom_type == "Point":
        # A point on an edge is in both tiles.
        x, y = expected.x, expected.y
        distances = (max(abs(part.centroid.x - x), abs(part.centroid.y - y)) for part in parts)
        off = min(distances) / step
        if off > _MAX_STEPS_OFF:
            raise TilesetMismatchError(f"Feature {identity} is {off:.1f} steps of the tile grid off its position")
        return
    joined = shapely.union_all([_make_valid(part) for part in parts])
    off = joined.symmetric_difference(expected).area / expected.area
    if off > _MAX_AREA_OFF:
        raise TilesetMismatchError(f"The shape of feature {identity} differs by {off:.1%} of its area")
