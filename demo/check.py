"""Fetches a tileset back, tile by tile, and holds what it decodes to against the features that went in."""

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

# Tiles round to a grid of 4,096 steps; a position may be off by half a step on each axis, and a little for the
# conversion to Mercator and back.
_STEPS_OFF = 0.75
# Simplification and rounding move a polygon's edge by a step or so; this is the share of the area that may differ.
_AREA_OFF = 0.02


class TilesetMismatchError(AssertionError):
    """The tiles do not hold what was uploaded."""


@dataclass(frozen=True)
class TilesetCheck:
    """
    What was found.

    :param tilejson_url: the tileset's address.
    :param tiles: how many tiles were fetched and decoded, by zoom.
    :param features: how many features of the file were found at the highest zoom, each once.
    """

    tilejson_url: str
    tiles: dict[int, int]
    features: int


def check_tileset(tilejson_url: str, geojson: Path, *, key: str, token: str | None = None) -> TilesetCheck:
    """
    Check that a tileset is what was uploaded.

    Every tile within the bounds is asked for at every zoom. At the highest one each feature of the file must be there
    under its key, with its attributes and at its place, and nothing else.

    :param tilejson_url: where the tileset describes itself.
    :param geojson: the file that was uploaded.
    :param key: the attribute that tells features apart.
    :param token: for an address that wants one.
    :raises TilesetMismatchError: naming the feature or tile that is wrong.
    """
    with requests.Session() as session:
        session.trust_env = False
        if token is not None:
            session.params = {"access_token": token}
        tilejson = _get(session, tilejson_url).json()
        maxzoom = tilejson["maxzoom"]
        counts: dict[int, int] = defaultdict(int)
        pieces: dict[Any, list[BaseGeometry]] = defaultdict(list)
        attributes: dict[Any, dict[str, Any]] = {}
        for zoom in range(tilejson["minzoom"], maxzoom + 1):
            for column, row in _tiles_within(tilejson["bounds"], zoom):
                url = tilejson["tiles"][0].format(z=zoom, x=column, y=row)
                tile = _get(session, url, missing=True)
                if tile is None:
                    continue
                counts[zoom] += 1
                here: set[Any] = set()
                for feature in _decode(tile.content, zoom, column, row):
                    if zoom == maxzoom:
                        identity = feature["properties"].get(key)
                        if identity in here:
                            raise TilesetMismatchError(f"Feature {identity} is twice in tile {zoom}/{column}/{row}")
                        here.add(identity)
                        pieces[identity].append(feature["geometry"])
                        attributes[identity] = feature["properties"]
    features = json.loads(geojson.read_text())["features"]
    expected = {feature["properties"][key]: feature for feature in features}
    if len(expected) != len(features):
        raise ValueError(f"{key} does not tell the {len(features)} features of {geojson} apart")
    _compare_keys(set(expected), set(pieces))
    for identity, feature in expected.items():
        _compare_attributes(identity, feature["properties"], attributes[identity])
        _compare_geometry(identity, shape(feature["geometry"]), pieces[identity], 360 / 2**maxzoom / 4096)
    return TilesetCheck(tilejson_url, dict(counts), len(expected))


def _get(session: requests.Session, url: str, *, missing: bool = False) -> Any:
    answer = session.get(url, timeout=30)
    if missing and answer.status_code == 404:
        return None
    if answer.status_code != 200:
        raise TilesetMismatchError(f"{url.partition('?')[0]} answered {answer.status_code}: {answer.text[:200]}")
    return answer


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
    """Give a tile's features with their geometry in longitude, latitude, cut at the tile's edges."""
    size = 2**zoom
    for layer in mapbox_vector_tile.decode(content, default_options={"y_coord_down": True}).values():
        extent = layer["extent"]

        def to_degrees(x: float, y: float, extent: int = extent) -> tuple[float, float]:
            longitude = (column + x / extent) / size * 360 - 180
            latitude = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * (row + y / extent) / size))))
            return longitude, latitude

        for feature in layer["features"]:
            geometry = shape(feature["geometry"])
            # Beyond the edges is the neighbours' part, repeated so that lines are drawn without a gap.
            inside = geometry if geometry.geom_type == "Point" else _repaired(geometry)
            inside = inside.intersection(shapely.box(0, 0, extent, extent))
            if not inside.is_empty:
                moved = shapely.transform(inside, lambda points, move=to_degrees: [move(x, y) for x, y in points])
                yield {"properties": feature["properties"], "geometry": moved}


def _repaired(geometry: BaseGeometry) -> BaseGeometry:
    return geometry if geometry.is_valid else shapely.make_valid(geometry)


def _compare_keys(expected: set[Any], found: set[Any]) -> None:
    missing, foreign = expected - found, found - expected
    if missing or foreign:
        raise TilesetMismatchError(
            f"{len(missing)} features are missing in the tiles ({sorted(map(str, missing))[:3]}), "
            f"{len(foreign)} were not in the file ({sorted(map(str, foreign))[:3]})"
        )


def _compare_attributes(identity: Any, expected: dict[str, Any], found: dict[str, Any]) -> None:
    known = {name: value for name, value in expected.items() if value is not None}  # tiles have no null
    if known.keys() != found.keys():
        raise TilesetMismatchError(f"Feature {identity} has attributes {sorted(found)}, expected {sorted(known)}")
    for name, value in known.items():
        same = math.isclose(value, found[name], rel_tol=1e-6) if isinstance(value, float) else value == found[name]
        if not same:
            raise TilesetMismatchError(f"Feature {identity} has {name}={found[name]!r}, expected {value!r}")


def _compare_geometry(identity: Any, expected: BaseGeometry, pieces: list[BaseGeometry], step: float) -> None:
    if expected.geom_type == "Point":
        # A point on an edge is in both tiles, at the same place.
        x, y = expected.x, expected.y
        distances = (max(abs(piece.centroid.x - x), abs(piece.centroid.y - y)) for piece in pieces)
        off = min(distances) / step
        if off > _STEPS_OFF:
            raise TilesetMismatchError(f"Feature {identity} is {off:.1f} steps of the tile grid away from its place")
        return
    joined = shapely.union_all([_repaired(piece) for piece in pieces])
    off = joined.symmetric_difference(expected).area / expected.area
    if off > _AREA_OFF:
        raise TilesetMismatchError(f"The shape of feature {identity} differs by {off:.1%} of its area")
