"""Read and decode a sample of a tileset's tiles. GDAL decodes them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyogrio
import pyogrio.raw
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from airflow_mapbox.errors import InvalidAnswerError
from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE

if TYPE_CHECKING:
    from airflow_mapbox.tilesets.client import TilesetsClient
    from airflow_mapbox.tilesets.models import TileJson

# GDAL returns positions in units of the tile, of which the specification's default has as many.
_EXTENT = 4096
# Requests for tiles of lower zooms, beside those of the sample.
_MAX_REQUESTS = 64
# The name that GDAL gives to the ids of features. They are no attribute.
_ID = "mvt_id"
# GDAL must read a tile as nothing else: it opens other files and addresses that some formats name.
_AS_TILE = "MVT:"


class Tile(NamedTuple):
    """The number of a tile: zoom, column from the west, row from the north."""

    z: int
    x: int
    y: int


@dataclass(frozen=True)
class Sample:
    """
    What some tiles of the highest zoom contain.

    :param zoom: the zoom.
    :param tiles: number of tiles that were read at this zoom.
    :param all_tiles: number of tiles in the tileset's bounds at this zoom.
    :param features: number of features in them. One that is in several tiles counts in each of them.
    :param fields: the attributes that have a value, by layer.
    """

    zoom: int
    tiles: int
    all_tiles: int
    features: int
    fields: dict[str, tuple[str, ...]]

    @property
    def is_complete(self) -> bool:
        """Whether every tile of the zoom was read."""
        return self.tiles == self.all_tiles

    def to_json(self) -> dict[str, Any]:
        """Return the sample as JSON types."""
        return {"zoom": self.zoom, "tiles": self.tiles, "of": self.all_tiles, "features": self.features}


def sample_tiles(client: TilesetsClient, tileset: str, tilejson: TileJson, count: int) -> Sample:
    """
    Read tiles of the highest zoom.

    If the tileset's bounds have no more tiles than that, all of them are read. Otherwise the tiles are found from the
    lowest zoom down: the features of a tile show which tiles of the next zoom have data.

    :param client: client of an account that may read the tileset.
    :param tileset: ``name`` or ``account.name``.
    :param tilejson: its TileJSON.
    :param count: number of tiles of the highest zoom to read at most. Those of lower zooms come on top: at most 64.
    :raises InvalidAnswerError: if the TileJSON has no zooms or bounds, or a tile cannot be decoded.
    :raises MapboxError: for every error of the API or the network.
    """
    low, zoom, bounds = tilejson.minzoom, tilejson.maxzoom, tilejson.bounds
    if low is None or zoom is None or bounds is None:
        raise InvalidAnswerError(f"The TileJSON of {tileset} has no zooms or bounds, so its tiles are unknown.")
    contents, all_tiles = _Contents(), _count_within(bounds, zoom)
    if all_tiles <= count:
        for tile in _within(bounds, zoom):
            contents.add(_read(client, tileset, tile))
        return Sample(zoom, all_tiles, all_tiles, contents.features, contents.fields)
    tiles = _descend(client, tileset, islice(_within(bounds, low), count), zoom, count + _MAX_REQUESTS)
    read = 0
    for layers in islice(tiles, count):
        read += 1
        contents.add(layers)
    return Sample(zoom, read, all_tiles, contents.features, contents.fields)


class _Layer(NamedTuple):
    name: str
    features: int
    fields: tuple[str, ...]
    centres: Any  # of each feature's bounds, in units of the tile from its north-western corner, shape (n, 2)


class _Contents:
    """The features of tiles, added up."""

    def __init__(self) -> None:
        self.features = 0
        self._fields: dict[str, dict[str, None]] = {}

    def add(self, layers: list[_Layer]) -> None:
        for layer in layers:
            self.features += layer.features
            self._fields.setdefault(layer.name, {}).update(dict.fromkeys(layer.fields))

    @property
    def fields(self) -> dict[str, tuple[str, ...]]:
        return {layer: tuple(fields) for layer, fields in self._fields.items()}


def _descend(
    client: TilesetsClient, tileset: str, start: Iterable[Tile], zoom: int, max_requests: int
) -> Iterator[list[_Layer]]:
    """
    Yield the contents of tiles of a zoom, found from lower zooms down.

    :param start: tiles of the lowest zoom.
    :param zoom: the zoom of the tiles to yield.
    :param max_requests: number of tiles of all zooms to read at most.
    """
    # A stack: one tile of the highest zoom is reached with few requests, and then its neighbours.
    waiting = deque(start)
    for _ in range(max_requests):
        if not waiting:
            return
        tile = waiting.popleft()
        layers = _read(client, tileset, tile)
        if tile.z == zoom:
            yield layers
        else:
            # The child with most features first.
            waiting.extendleft(reversed(_children(tile, layers)))


def _children(tile: Tile, layers: list[_Layer]) -> list[Tile]:
    centres = np.concatenate([layer.centres for layer in layers]) if layers else np.empty((0, 2))
    quadrants = np.clip(np.floor(centres / (_EXTENT / 2)), 0, 1).astype(int)
    numbers, counts = np.unique(quadrants @ np.array([1, 2]), return_counts=True)
    order = numbers[np.argsort(-counts, kind="stable")].tolist()
    return [Tile(tile.z + 1, 2 * tile.x + number % 2, 2 * tile.y + number // 2) for number in order]


def _read(client: TilesetsClient, tileset: str, tile: Tile) -> list[_Layer]:
    content = client.get_tile(tileset, *tile)
    if content is None:
        return []
    problem = None
    with NamedTemporaryFile(suffix=".mvt") as file:
        file.write(content)
        file.flush()
        try:
            source = f"{_AS_TILE}{file.name}"
            return [_layer(source, name) for name, _ in pyogrio.list_layers(source)]
        except (DataSourceError, DataLayerError, ValueError) as error:
            problem = str(error)
    raise InvalidAnswerError(f"Tile {tile.z}/{tile.x}/{tile.y} of {tileset} is not a vector tile: {problem[:200]}")


def _layer(source: str, name: str) -> _Layer:
    meta, _, geometries, columns = pyogrio.raw.read(source, layer=name)
    values = zip(meta["fields"], columns, strict=True)
    fields = tuple(field for field, column in values if field != _ID and _has_value(column))
    bounds = shapely.bounds(shapely.from_wkb(geometries)) if len(geometries) else np.empty((0, 4))
    # GDAL's rows go from south to north.
    centres = np.column_stack([bounds[:, [0, 2]].mean(axis=1), _EXTENT - bounds[:, [1, 3]].mean(axis=1)])
    return _Layer(name, len(geometries), fields, centres[~np.isnan(centres).any(axis=1)])


def _has_value(column: Any) -> bool:
    return any(value is not None and value == value for value in column.tolist())  # NaN is not itself


def _count_within(bounds: tuple[float, ...], zoom: int) -> int:
    columns, rows = _ranges(bounds, zoom)
    return len(columns) * len(rows)


def _within(bounds: tuple[float, ...], zoom: int) -> Iterator[Tile]:
    columns, rows = _ranges(bounds, zoom)
    return (Tile(zoom, x, y) for y in rows for x in columns)


def _ranges(bounds: tuple[float, ...], zoom: int) -> tuple[range, range]:
    """Return the columns and the rows of the tiles in some bounds."""
    west, south, east, north = bounds
    columns = (_clamp((side + 180) / 360, zoom) for side in (west, east))
    rows = (_clamp(_mercator(side), zoom) for side in (north, south))
    first, last = columns
    top, bottom = rows
    return range(first, last + 1), range(top, bottom + 1)


def _clamp(share: float, zoom: int) -> int:
    number = 1 << zoom
    return min(max(math.floor(share * number), 0), number - 1)


def _mercator(latitude: float) -> float:
    """Return the position of a latitude as a share of the map's height from its northern edge."""
    sine = math.sin(math.radians(min(max(latitude, -WEB_MERCATOR_LATITUDE), WEB_MERCATOR_LATITUDE)))
    return 0.5 - math.atanh(sine) / (2 * math.pi)
