"""GeoTIFF: its tiles, and the messages of refusals."""

from __future__ import annotations

import io
import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import requests
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_bounds

from airflow_mapbox.emulator.pages import price_tier
from airflow_mapbox.emulator.zooms import raster_maxzoom
from tests.emulator.conftest import Account

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    # Raised inside rasterio with the newest affine.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]

RED, GREEN, BLUE, CLEAR = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255), (0, 0, 0, 0)
# 40 km in UTM 32 north, at 9° east.
UTM = (480_000.0, 5_520_000.0, 520_000.0, 5_560_000.0)
LOCAL = 'LOCAL_CS["a building site",UNIT["metre",1]]'

Geotiff = Callable[..., bytes]


@pytest.fixture
def geotiff(tmp_path: Path) -> Geotiff:
    """A function that returns the bytes of a GeoTIFF: red in the west, blue in the east."""

    def make(
        bands: int = 3,
        crs: str | None = "EPSG:32632",
        bounds: tuple[float, float, float, float] | None = UTM,
        side: int = 200,
        change: Callable[[Any], None] = lambda image: None,
        **more: Any,
    ) -> bytes:
        file = tmp_path / "image.tif"
        transform = from_bounds(*bounds, side, side) if bounds else Affine.identity()
        profile = {"driver": "GTiff", "width": side, "height": side, "count": bands, "dtype": "uint8", **more}
        pixels = np.zeros((bands, side, side), profile["dtype"])
        half = side // 2
        pixels[0, :, :half] = 255
        pixels[bands // 2 + bands % 2 if bands > 1 else 0, :, half:] = 255 if bands > 1 else 1
        with rasterio.open(file, "w", crs=crs, transform=transform, **profile) as image:
            image.write(pixels)
            change(image)
        return file.read_bytes()

    return make


def colour_at(account: Account, longitude: float, latitude: float, zoom: int) -> tuple[int, ...]:
    """Return a position's pixel in the served tile; transparent if the tile is missing."""
    x = (longitude + 180) / 360 * 2**zoom
    y = (1 - math.asinh(math.tan(math.radians(latitude))) / math.pi) / 2 * 2**zoom
    response = requests.get(
        f"{account.emulator.url}/v4/acme.places/{zoom}/{int(x)}/{int(y)}.png",
        params={"access_token": account.emulator.token},
        timeout=10,
    )
    if response.status_code == 404:
        return CLEAR
    assert response.headers["Content-Type"] == "image/png"
    with Image.open(io.BytesIO(response.content)) as tile:
        assert tile.size == (256, 256)
        pixel = tile.convert("RGBA").getpixel((int(x % 1 * 256), int(y % 1 * 256)))
    assert isinstance(pixel, tuple)
    return pixel


class TestTiles:
    def test_colours_keep_their_positions_at_every_zoom(self, acme: Account, geotiff: Geotiff) -> None:
        assert acme.upload(geotiff())["error"] is None

        tilejson = acme.tileset().json()
        assert (tilejson["format"], tilejson["minzoom"], tilejson["maxzoom"]) == ("png", 0, 9)
        assert tilejson["bounds"] == pytest.approx([8.72, 49.83, 9.28, 50.19], abs=0.02)
        for zoom in (6, 9):
            assert colour_at(acme, 8.85, 50.0, zoom) == RED
            assert colour_at(acme, 9.15, 50.0, zoom) == BLUE
            assert colour_at(acme, 8.4, 50.0, zoom) == CLEAR

    def test_image_edges_keep_their_positions(self, acme: Account, geotiff: Geotiff) -> None:
        acme.upload(geotiff(crs="EPSG:4326", bounds=(10.0, -5.0, 20.0, 5.0)))

        zoom = acme.tileset().json()["maxzoom"]
        for longitude, latitude in ((10.1, 4.9), (10.1, -4.9), (14.9, 0)):
            assert colour_at(acme, longitude, latitude, zoom) == RED
        for longitude, latitude in ((19.9, 4.9), (19.9, -4.9), (15.1, 0)):
            assert colour_at(acme, longitude, latitude, zoom) == BLUE
        for longitude, latitude in ((9.9, 0), (20.1, 0), (15, 5.1), (15, -5.1)):
            assert colour_at(acme, longitude, latitude, zoom) == CLEAR

    def test_image_of_the_world_is_cut_off_at_the_edge_of_web_mercator(self, acme: Account, geotiff: Geotiff) -> None:
        acme.upload(geotiff(crs="EPSG:4326", bounds=(-180, -90, 180, 90), side=400))

        tilejson = acme.tileset().json()
        assert tilejson["maxzoom"] == 1
        assert tilejson["bounds"] == pytest.approx([-180, -85.05, 180, 85.05], abs=1)
        assert tilejson["tile_counts"] == {"0": 1, "1": 4}
        assert colour_at(acme, -100, 70, 1) == RED
        assert colour_at(acme, 100, -70, 1) == BLUE

    def test_grey_image_becomes_grey_tiles(self, acme: Account, geotiff: Geotiff) -> None:
        acme.upload(geotiff(bands=1))

        assert colour_at(acme, 8.85, 50.0, 9) == (255, 255, 255, 255)
        assert colour_at(acme, 9.15, 50.0, 9) == (1, 1, 1, 255)

    def test_palette_colours_are_looked_up(self, acme: Account, geotiff: Geotiff) -> None:
        def paint(image: Any) -> None:
            image.write_colormap(1, {255: GREEN, 1: BLUE})

        acme.upload(geotiff(bands=1, photometric="palette", change=paint))

        assert colour_at(acme, 8.85, 50.0, 9) == GREEN
        assert colour_at(acme, 9.15, 50.0, 9) == BLUE

    def test_nodata_pixels_are_transparent(self, acme: Account, geotiff: Geotiff) -> None:
        acme.upload(geotiff(bands=1, nodata=1))

        assert colour_at(acme, 8.85, 50.0, 9) == (255, 255, 255, 255)
        assert colour_at(acme, 9.15, 50.0, 9)[3] == 0

    def test_alpha_band_is_kept(self, acme: Account, geotiff: Geotiff) -> None:
        def fade(image: Any) -> None:
            image.write(np.full((200, 200), 128, np.uint8), 4)
            image.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]

        acme.upload(geotiff(bands=4, change=fade))

        assert colour_at(acme, 8.85, 50.0, 9) == pytest.approx((255, 0, 0, 128), abs=1)

    def test_tileset_takes_the_uploads_name_and_a_vector_upload_replaces_it(
        self, acme: Account, geotiff: Geotiff
    ) -> None:
        acme.upload(geotiff(), name="From above")
        assert acme.tileset().json()["name"] == "From above"

        acme.upload(b"lon,lat\n1,2\n")

        assert acme.tileset().json()["format"] == "pbf"

    def test_empty_tiles_are_left_out(self, acme: Account, geotiff: Geotiff) -> None:
        def empty_but_for_a_corner(image: Any) -> None:
            pixels = np.zeros((1, 800, 800), np.uint8)
            pixels[0, :50, :50] = 7
            image.write(pixels)

        acme.upload(geotiff(bands=1, nodata=0, side=800, change=empty_but_for_a_corner))

        # The image touches sixteen tiles.
        assert acme.tileset().json()["tile_counts"]["11"] <= 4

    def test_page_shows_the_price_tier_and_a_map(self, acme: Account, geotiff: Geotiff) -> None:
        acme.upload(geotiff(side=20))

        page = requests.get(f"{acme.emulator.url}/tilesets/acme.places", timeout=10).text
        assert acme.tileset().json()["maxzoom"] == 6
        assert "<td>price tier</td><td>free</td>" in page
        assert 'id="map"' in page


@pytest.mark.parametrize(
    ("zoom", "tier"), [(6, "free"), (7, "10 m"), (11, "10 m"), (14, "1 m"), (17, "30 cm"), (18, "1 cm")]
)
def test_price_tiers_of_a_tiff_are_one_zoom_higher(zoom: int, tier: str) -> None:
    assert price_tier(zoom, is_tiff=True) == price_tier(zoom - 1, is_tiff=False) == tier


@pytest.mark.parametrize(
    ("metres", "zoom"), [(200_000, 0), (136_000, 1), (30, 13), (34, 12), (1, 18), (1.1, 17), (0.01, 22)]
)
def test_maxzoom_is_the_first_zoom_that_is_fine_enough(metres: float, zoom: int) -> None:
    assert raster_maxzoom(metres) == zoom


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"bounds": None, "crs": None}, "Invalid raster: could not read georeferencing information"),
            ({"bounds": None}, "Invalid raster: could not read georeferencing information"),
            ({"crs": None}, "Unable to reproject tif. No CRS information found."),
            ({"crs": LOCAL}, "Unable to reproject tif. No CRS information found."),
            (
                {"bounds": (480_000.0, 5_520_000.0, 570_000.0, 5_560_000.0)},
                "Invalid raster: Invalid pixelsize in geotransform array",
            ),
            (
                {"bounds": (480_000.0, 5_560_000.0, 520_000.0, 5_520_000.0)},
                "Invalid raster: Invalid pixelsize in geotransform array",
            ),
            (
                {"change": lambda image: setattr(image, "transform", image.transform * Affine.rotation(1))},
                "Invalid raster: Invalid rotation value in geotransform array",
            ),
            (
                {"bounds": (1e12, 1e12, 2e12, 2e12)},
                "Invalid raster: Unable to compute bounds. X or Y values exceed limits of provided CRS.",
            ),
            (
                {"crs": "EPSG:4326", "bounds": (10, 86, 12, 89)},
                "Error calculating min/max zoom: Bounds invalid",
            ),
            (
                {"crs": "EPSG:4326", "bounds": (170, 0, 190, 20)},
                "Coordinates beyond web mercator range. Please check projection and lat/lon values.",
            ),
            ({"dtype": "uint16"}, "Invalid raster: only 8-bit TIFF is supported"),
            ({"bands": 1, "nbits": 1}, "Invalid raster: only 8-bit TIFF is supported"),
            ({"dtype": "float32"}, "Invalid raster: only 8-bit TIFF is supported"),
            (
                {"bands": 1, "nodata": 0, "change": lambda image: image.write(np.zeros((1, 20, 20), np.uint8))},
                "Tileset is empty.",
            ),
        ],
        ids=[
            "no bounds and no CRS",
            "no bounds",
            "no CRS",
            "local CRS",
            "pixels 2.25 times as wide as high",
            "upside down",
            "rotated",
            "outside of the projection",
            "beyond web mercator",
            "across the antimeridian",
            "uint16",
            "one bit",
            "float32",
            "only nodata",
        ],
    )
    def test_invalid_image_is_refused_with_mapboxs_message(
        self, shared: Account, geotiff: Geotiff, options: dict[str, Any], message: str
    ) -> None:
        failed = shared.upload(geotiff(**({"side": 20} | options)), "refused")

        assert failed["error"] == message
        assert shared.tileset("refused").status_code == 404

    @pytest.mark.parametrize("kept", [9, 100, -2000])
    def test_truncated_image_cannot_be_opened(self, shared: Account, geotiff: Geotiff, kept: int) -> None:
        assert shared.upload(geotiff()[:kept])["error"] == "Invalid raster: could not open the file"

    def test_image_with_a_huge_block_is_not_decoded(self, shared: Account, tmp_path: Path) -> None:
        # A sparse file contains no pixels.
        side = 32_768
        file = tmp_path / "sparse.tif"
        options = {"tiled": True, "blockxsize": side, "blockysize": side // 2, "SPARSE_OK": True, "compress": "deflate"}
        with rasterio.open(
            file,
            "w",
            driver="GTiff",
            width=side,
            height=side,
            count=1,
            dtype="uint8",
            crs="EPSG:3857",
            transform=from_bounds(0, 0, 1e6, 1e6, side, side),
            **options,
        ):
            pass
        data = file.read_bytes()

        assert len(data) < 1 << 20
        assert shared.upload(data)["error"] == "Tileset exceeds processing limit."

    def test_world_file_beside_the_image_is_ignored(self, shared: Account, geotiff: Geotiff) -> None:
        for suffix in (".tfw", ".aux.xml", ".wld"):
            (shared.emulator.folder / "incoming" / f"x{suffix}").write_text("1\n0\n0\n-1\n0\n0\n")

        failed = shared.upload(geotiff(bounds=None))

        assert failed["error"] == "Invalid raster: could not read georeferencing information"


def test_tileset_contains_no_local_path(acme: Account, geotiff: Geotiff) -> None:
    acme.upload(geotiff(side=20))

    file = acme.emulator.folder / "tilesets" / "acme.places.mbtiles"
    assert str(acme.emulator.folder).encode() not in file.read_bytes()
    with sqlite3.connect(file) as db:
        metadata = dict(db.execute("SELECT name, value FROM metadata"))
    assert metadata["format"] == "png"
    assert metadata["maxzoom"] == "6"
