"""GeoTIFF cut into raster tiles with GDAL: window by window, from the maxzoom up, never a whole image in memory."""

from __future__ import annotations

import contextlib
import io
import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.warp import calculate_default_transform, reproject

from airflow_mapbox.emulator.errors import DataError, Failed
from airflow_mapbox.emulator.features import MERCATOR_LATITUDE
from airflow_mapbox.emulator.mbtiles import MADE_OF, TIFF
from airflow_mapbox.emulator.zooms import raster_maxzoom

MERCATOR = "EPSG:3857"
EDGE = math.pi * 6378137.0
SIDE = 256
# The file alone says where it lies: no world file or .aux.xml beside it counts, and none is looked for.
ENVIRONMENT = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_GEOREF_SOURCES": "INTERNAL", "GDAL_CACHEMAX": 128}
# GDAL decodes a block whole; some TIFF are one block.
BLOCK_BYTES = 256 << 20
BROKEN = (RasterioError, CPLE_BaseError, MemoryError)

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Grid:
    """Where an image lies in web mercator.

    :param bounds: west, south, east, north in metres, within the square of web mercator.
    :param maxzoom: of the tiles.
    """

    bounds: tuple[float, float, float, float]
    maxzoom: int

    def tiles(self, zoom: int) -> tuple[range, range]:
        """Return the columns and rows, counted from the north-west, that the image touches at a zoom."""
        west, south, east, north = self.bounds
        size = 2 * EDGE / 2**zoom
        last = 2**zoom - 1

        def within(first: float, end: float) -> range:
            start = min(max(math.floor(first / size), 0), last)
            return range(start, min(max(math.ceil(end / size), start + 1), last + 1))

        return within(west + EDGE, east + EDGE), within(EDGE - north, EDGE - south)


def tile_raster(
    path: Path, output: Path, *, name: str, progress: Callable[[float], None], tick: Callable[[], None]
) -> None:
    """Cut a GeoTIFF into PNG tiles of 256 pixels.

    :param path: the file; read window by window.
    :param output: the MBTiles file to write.
    :param name: the tileset's display name.
    :param progress: told the share that is done, 0 to 1.
    :param tick: called for every tile; raises where the work is to be given up.
    :raises DataError: with Mapbox's message.
    """
    try:
        with rasterio.Env(**ENVIRONMENT), rasterio.open(path, driver="GTiff") as image:
            _check(image)
            grid = _grid(image)
            with _mbtiles(output) as db:
                _Pyramid(image, grid, db, progress=progress, tick=tick).make()
                if not db.execute("SELECT 1 FROM tiles LIMIT 1").fetchone():
                    raise DataError(Failed.TILESET_EMPTY)
                _describe(db, grid, name)
    except BROKEN:
        raise DataError(Failed.UNKNOWN_FILETYPE) from None


def _check(image: DatasetReader) -> None:
    if image.transform.is_identity:
        raise DataError(Failed.RASTER_NOT_GEOREFERENCED)
    if image.crs is None:
        raise DataError(Failed.RASTER_NO_CRS)
    if any(kind != "uint8" for kind in image.dtypes):
        raise DataError(Failed.RASTER_NOT_8_BIT)
    if max(rows * columns for rows, columns in image.block_shapes) * image.count > BLOCK_BYTES:
        raise DataError(Failed.TOO_MUCH)


def _grid(image: DatasetReader) -> Grid:
    left, bottom, right, top = image.bounds
    height = image.height
    if image.crs.is_geographic:
        # A pole is infinitely far from the equator in web mercator.
        bottom, top = max(bottom, -MERCATOR_LATITUDE), min(top, MERCATOR_LATITUDE)
        if bottom >= top:
            raise DataError(Failed.RASTER_BOUNDS_INVALID)
        if left < -180 - image.res[0] or right > 180 + image.res[0]:
            raise DataError(Failed.BEYOND_MERCATOR)
        height = max(1, round((top - bottom) / image.res[1]))
    try:
        transform, width, height = calculate_default_transform(
            image.crs, MERCATOR, image.width, height, left, bottom, right, top
        )
        west, north = transform.c, transform.f
        east, south = west + transform.a * width, north + transform.e * height
    except BROKEN:
        raise DataError(Failed.RASTER_NO_BOUNDS) from None
    if not all(map(math.isfinite, (west, south, east, north, transform.a))):
        raise DataError(Failed.RASTER_NO_BOUNDS)
    bounds = (max(west, -EDGE), max(south, -EDGE), min(east, EDGE), min(north, EDGE))
    if bounds[0] >= bounds[2] or bounds[1] >= bounds[3]:
        raise DataError(Failed.RASTER_BOUNDS_INVALID)
    return Grid(bounds, raster_maxzoom(transform.a))


class _Pyramid:
    """Tiles of the maxzoom read from the image, and each tile above made of its four."""

    def __init__(
        self,
        image: DatasetReader,
        grid: Grid,
        db: sqlite3.Connection,
        *,
        progress: Callable[[float], None],
        tick: Callable[[], None],
    ) -> None:
        self._image = image
        self._grid = grid
        self._db = db
        self._progress = progress
        self._tick = tick
        self._ranges = [grid.tiles(zoom) for zoom in range(grid.maxzoom + 1)]
        columns, rows = self._ranges[-1]
        self._all = len(columns) * len(rows)
        self._read = 0
        self._palette = _palette(image) if image.colorinterp[0] == ColorInterp.palette else None
        alpha = ColorInterp.alpha
        self._alpha = image.colorinterp.index(alpha) + 1 if alpha in image.colorinterp else 0
        self._bands = [1, 2, 3] if image.count >= 3 and alpha not in image.colorinterp[:3] else [1]

    def make(self) -> None:
        """Make all tiles, one branch of the tree after the other, so that few are in memory."""
        self._make(0, 0, 0)

    def _make(self, zoom: int, column: int, row: int) -> Pixels | None:
        columns, rows = self._ranges[zoom]
        if column not in columns or row not in rows:
            return None
        if zoom == self._grid.maxzoom:
            pixels = self._leaf(column, row)
        else:
            below = [self._make(zoom + 1, 2 * column + x, 2 * row + y) for y in (0, 1) for x in (0, 1)]
            pixels = _halved(below)
        if pixels is not None:
            # MBTiles counts rows from the south.
            self._db.execute(
                "INSERT INTO tiles VALUES (?, ?, ?, ?)", (zoom, column, 2**zoom - 1 - row, _encoded(pixels))
            )
        return pixels

    def _leaf(self, column: int, row: int) -> Pixels | None:
        self._tick()
        resolution = 2 * EDGE / 2**self._grid.maxzoom / SIDE
        west, north = column * SIDE * resolution - EDGE, EDGE - row * SIDE * resolution
        warped = np.zeros((len(self._bands) + 1, SIDE, SIDE), np.uint8)
        # Window by window by itself; a WarpedVRT takes five times as long, for blocks of its own that are no tiles.
        reproject(
            rasterio.band(self._image, self._bands),
            warped,
            src_nodata=self._image.nodata,
            src_alpha=self._alpha,
            dst_transform=Affine(resolution, 0, west, 0, -resolution, north),
            dst_crs=MERCATOR,
            # Where there is no image is told by a band, whether the image has it or a value for nothing.
            dst_alpha=len(warped),
            # Between two colours of a palette there is no third.
            resampling=Resampling.nearest if self._palette is not None else Resampling.bilinear,
            warp_mem_limit=64,
        )
        *values, alpha = warped
        self._read += 1
        self._progress(self._read / self._all)
        if not alpha.any():
            return None
        if self._palette is not None:
            red, green, blue, opacity = self._palette[values[0]].transpose(2, 0, 1)
            return np.stack([red, green, blue, np.minimum(alpha, opacity)])
        return np.stack([*(values if len(values) == 3 else values * 3), alpha])


def _palette(image: DatasetReader) -> Pixels:
    table = np.zeros((256, 4), np.uint8)
    for index, colour in image.colormap(1).items():
        table[index] = colour
    return table


def _halved(four: list[Pixels | None]) -> Pixels | None:
    """Return four tiles as one of the zoom above: every pixel the mean of four, by how much each covers."""
    if all(tile is None for tile in four):
        return None
    nothing = np.zeros((4, SIDE, SIDE), np.uint8)
    north_west, north_east, south_west, south_east = (nothing if tile is None else tile for tile in four)
    whole = np.concatenate(
        [np.concatenate([north_west, north_east], axis=2), np.concatenate([south_west, south_east], axis=2)], axis=1
    )
    blocks = whole.reshape(4, SIDE, 2, SIDE, 2).astype(np.uint32)
    alpha = blocks[3].sum(axis=(1, 3))
    weighted = (blocks[:3] * blocks[3]).sum(axis=(2, 4))
    colours = np.divide(weighted, alpha, out=np.zeros(weighted.shape), where=alpha > 0)
    return np.concatenate([colours.round(), (alpha / 4).round()[None]]).astype(np.uint8)


def _encoded(pixels: Pixels) -> bytes:
    """Return a tile as PNG, with transparency only where there is some."""
    kept = pixels[:3] if pixels[3].min() == 255 else pixels
    written = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(kept.transpose(1, 2, 0))).save(written, "PNG")
    return written.getvalue()


@contextlib.contextmanager
def _mbtiles(output: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(output)) as db, db:
        db.execute("CREATE TABLE metadata (name TEXT PRIMARY KEY, value TEXT)")
        db.execute(
            "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB,"
            " PRIMARY KEY (zoom_level, tile_column, tile_row)) WITHOUT ROWID"
        )
        yield db


def _describe(db: sqlite3.Connection, grid: Grid, name: str) -> None:
    west, south, east, north = grid.bounds
    degrees = (_longitude(west), _latitude(south), _longitude(east), _latitude(north))
    metadata = {
        "name": name,
        "description": name,
        "version": "2",
        "type": "overlay",
        "format": "png",
        "minzoom": "0",
        "maxzoom": str(grid.maxzoom),
        "bounds": ",".join(f"{number:.6f}" for number in degrees),
        MADE_OF: TIFF,
    }
    db.executemany("INSERT INTO metadata VALUES (?, ?)", metadata.items())


def _longitude(x: float) -> float:
    return x / EDGE * 180


def _latitude(y: float) -> float:
    return math.degrees(math.atan(math.sinh(y / EDGE * math.pi)))
