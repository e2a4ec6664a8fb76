"""Cut a GeoTIFF into raster tiles with GDAL, window by window, so that the image is never in memory as a whole."""

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
from rasterio.errors import CRSError, RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.warp import calculate_default_transform, reproject

from airflow_mapbox.emulator.errors import DataError, FailureMessage
from airflow_mapbox.emulator.features import MERCATOR_LATITUDE
from airflow_mapbox.emulator.mbtiles import SOURCE_KEY, TIFF
from airflow_mapbox.emulator.zooms import raster_maxzoom

MERCATOR = "EPSG:3857"
HALF_WIDTH = math.pi * 6378137.0
TILE_PIXELS = 256
# Read the georeference from the file itself, never from a world file or .aux.xml beside it.
GDAL_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_GEOREF_SOURCES": "INTERNAL", "GDAL_CACHEMAX": 128}
# GDAL always decodes complete blocks, and a block can be the whole image.
MAX_BLOCK_BYTES = 256 << 20
READ_ERRORS = (RasterioError, CRSError, CPLE_BaseError, MemoryError)
# The largest ratio of a pixel's sides (mapbox/mapnik-omnivore, lib/raster.js).
MAX_PIXEL_RATIO = 2

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Grid:
    """The position of an image in web mercator.

    :param bounds: west, south, east, north in metres, within the square of web mercator.
    :param maxzoom: highest zoom of the tiles.
    """

    bounds: tuple[float, float, float, float]
    maxzoom: int

    def tiles(self, zoom: int) -> tuple[range, range]:
        """Return the columns and rows, counted from the north-west, that the image touches at a zoom."""
        west, south, east, north = self.bounds
        size = 2 * HALF_WIDTH / 2**zoom
        last = 2**zoom - 1

        def within(first: float, end: float) -> range:
            start = min(max(math.floor(first / size), 0), last)
            return range(start, min(max(math.ceil(end / size), start + 1), last + 1))

        return within(west + HALF_WIDTH, east + HALF_WIDTH), within(HALF_WIDTH - north, HALF_WIDTH - south)


def tile_raster(
    path: Path, output: Path, *, name: str, progress: Callable[[float], None], tick: Callable[[], None]
) -> None:
    """Cut a GeoTIFF into PNG tiles of 256 pixels.

    :param path: the file; read window by window.
    :param output: the MBTiles file to write.
    :param name: the tileset's display name.
    :param progress: called with the share of finished work, 0 to 1.
    :param tick: called for every tile; raises to abort the work.
    :raises DataError: with Mapbox's message.
    """
    try:
        with rasterio.Env(**GDAL_OPTIONS), rasterio.open(path, driver="GTiff") as image:
            _check(image)
            grid = _grid(image)
            with _create_mbtiles(output) as db:
                _Pyramid(image, grid, db, progress=progress, tick=tick).make()
                if not db.execute("SELECT 1 FROM tiles LIMIT 1").fetchone():
                    raise DataError(FailureMessage.TILESET_EMPTY)
                _write_metadata(db, grid, name)
    except READ_ERRORS:
        raise DataError(FailureMessage.RASTER_UNREADABLE) from None


def _check(image: DatasetReader) -> None:
    if image.transform.is_identity:
        raise DataError(FailureMessage.RASTER_NOT_GEOREFERENCED)
    width, height = image.transform.a, image.transform.e
    if width <= 0 or height >= 0 or not 1 / MAX_PIXEL_RATIO <= abs(width / height) <= MAX_PIXEL_RATIO:
        raise DataError(FailureMessage.RASTER_PIXELS)
    if image.transform.b or image.transform.d:
        raise DataError(FailureMessage.RASTER_ROTATED)
    # A local system is neither geographic nor projected: nothing says where on Earth it is.
    if image.crs is None or not (image.crs.is_geographic or image.crs.is_projected):
        raise DataError(FailureMessage.RASTER_NO_CRS)
    # GDAL reads samples of one bit as bytes, too.
    bits = {image.tags(band, ns="IMAGE_STRUCTURE").get("NBITS", "8") for band in image.indexes}
    if bits != {"8"} or any(kind != "uint8" for kind in image.dtypes):
        raise DataError(FailureMessage.RASTER_NOT_8_BIT)
    if max(rows * columns for rows, columns in image.block_shapes) * image.count > MAX_BLOCK_BYTES:
        raise DataError(FailureMessage.TOO_MUCH)


def _grid(image: DatasetReader) -> Grid:
    left, bottom, right, top = image.bounds
    height = image.height
    if image.crs.is_geographic:
        # The poles are infinitely far away in web mercator, so the image is cut off there.
        bottom, top = max(bottom, -MERCATOR_LATITUDE), min(top, MERCATOR_LATITUDE)
        if bottom >= top:
            raise DataError(FailureMessage.RASTER_BOUNDS_INVALID)
        if left < -180 - image.res[0] or right > 180 + image.res[0]:
            raise DataError(FailureMessage.BEYOND_MERCATOR)
        height = max(1, round((top - bottom) / image.res[1]))
    try:
        transform, width, height = calculate_default_transform(
            image.crs, MERCATOR, image.width, height, left, bottom, right, top
        )
        west, north = transform.c, transform.f
        east, south = west + transform.a * width, north + transform.e * height
    except READ_ERRORS:
        raise DataError(FailureMessage.RASTER_NO_BOUNDS) from None
    if not all(map(math.isfinite, (west, south, east, north, transform.a))):
        raise DataError(FailureMessage.RASTER_NO_BOUNDS)
    bounds = (max(west, -HALF_WIDTH), max(south, -HALF_WIDTH), min(east, HALF_WIDTH), min(north, HALF_WIDTH))
    if bounds[0] >= bounds[2] or bounds[1] >= bounds[3]:
        raise DataError(FailureMessage.RASTER_BOUNDS_INVALID)
    return Grid(bounds, raster_maxzoom(transform.a))


class _Pyramid:
    """The tiles of all zooms: at the maxzoom read from the image, at lower zooms made from the four tiles below."""

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
        self._tile_count = len(columns) * len(rows)
        self._tiles_done = 0
        self._palette = _palette(image) if image.colorinterp[0] == ColorInterp.palette else None
        alpha = ColorInterp.alpha
        self._alpha = image.colorinterp.index(alpha) + 1 if alpha in image.colorinterp else 0
        self._bands = [1, 2, 3] if image.count >= 3 and alpha not in image.colorinterp[:3] else [1]

    def make(self) -> None:
        """Make all tiles, depth first, so that only few are in memory."""
        self._make_branch(0, 0, 0)

    def _make_branch(self, zoom: int, column: int, row: int) -> Pixels | None:
        columns, rows = self._ranges[zoom]
        if column not in columns or row not in rows:
            return None
        if zoom == self._grid.maxzoom:
            pixels = self._warp_tile(column, row)
        else:
            below = [self._make_branch(zoom + 1, 2 * column + x, 2 * row + y) for y in (0, 1) for x in (0, 1)]
            pixels = _downsample(below)
        if pixels is not None:
            # MBTiles counts rows from the south.
            self._db.execute(
                "INSERT INTO tiles VALUES (?, ?, ?, ?)", (zoom, column, 2**zoom - 1 - row, _encode_png(pixels))
            )
        return pixels

    def _warp_tile(self, column: int, row: int) -> Pixels | None:
        self._tick()
        resolution = 2 * HALF_WIDTH / 2**self._grid.maxzoom / TILE_PIXELS
        west, north = column * TILE_PIXELS * resolution - HALF_WIDTH, HALF_WIDTH - row * TILE_PIXELS * resolution
        warped = np.zeros((len(self._bands) + 1, TILE_PIXELS, TILE_PIXELS), np.uint8)
        # A WarpedVRT would take five times as long, because its blocks are not aligned with the tiles.
        reproject(
            rasterio.band(self._image, self._bands),
            warped,
            src_nodata=self._image.nodata,
            src_alpha=self._alpha,
            dst_transform=Affine(resolution, 0, west, 0, -resolution, north),
            dst_crs=MERCATOR,
            # The result always has an alpha band, also if the image has only a nodata value.
            dst_alpha=len(warped),
            # Indexes of a palette cannot be interpolated.
            resampling=Resampling.nearest if self._palette is not None else Resampling.bilinear,
            warp_mem_limit=64,
        )
        *values, alpha = warped
        self._tiles_done += 1
        self._progress(self._tiles_done / self._tile_count)
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


def _downsample(quarters: list[Pixels | None]) -> Pixels | None:
    """Return the tile above four tiles: each pixel is the mean of four pixels, weighted by alpha."""
    if all(tile is None for tile in quarters):
        return None
    nothing = np.zeros((4, TILE_PIXELS, TILE_PIXELS), np.uint8)
    north_west, north_east, south_west, south_east = (nothing if tile is None else tile for tile in quarters)
    joined = np.concatenate(
        [np.concatenate([north_west, north_east], axis=2), np.concatenate([south_west, south_east], axis=2)], axis=1
    )
    blocks = joined.reshape(4, TILE_PIXELS, 2, TILE_PIXELS, 2).astype(np.uint32)
    alpha = blocks[3].sum(axis=(1, 3))
    weighted = (blocks[:3] * blocks[3]).sum(axis=(2, 4))
    colours = np.divide(weighted, alpha, out=np.zeros(weighted.shape), where=alpha > 0)
    return np.concatenate([colours.round(), (alpha / 4).round()[None]]).astype(np.uint8)


def _encode_png(pixels: Pixels) -> bytes:
    """Return a tile as PNG, without the alpha band if the tile is opaque."""
    bands = pixels[:3] if pixels[3].min() == 255 else pixels
    png = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(bands.transpose(1, 2, 0))).save(png, "PNG")
    return png.getvalue()


@contextlib.contextmanager
def _create_mbtiles(output: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(output)) as db, db:
        db.execute("CREATE TABLE metadata (name TEXT PRIMARY KEY, value TEXT)")
        db.execute(
            "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB,"
            " PRIMARY KEY (zoom_level, tile_column, tile_row)) WITHOUT ROWID"
        )
        yield db


def _write_metadata(db: sqlite3.Connection, grid: Grid, name: str) -> None:
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
        SOURCE_KEY: TIFF,
    }
    db.executemany("INSERT INTO metadata VALUES (?, ?)", metadata.items())


def _longitude(x: float) -> float:
    return x / HALF_WIDTH * 180


def _latitude(y: float) -> float:
    return math.degrees(math.atan(math.sinh(y / HALF_WIDTH * math.pi)))
