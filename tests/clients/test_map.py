"""The map on a tileset's page, looked at in headless Chromium."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_bounds

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.clients.conftest import beside_package, run
from tests.emulator.conftest import Account

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("npm") is None, reason="the browser is driven by an npm package; there is no npm"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; .ci/run installs it"),
]

DRIVER = Path(__file__).with_name("drive_map.mjs")
SQUARE = [[[6.0, 50.0], [8.0, 50.0], [8.0, 51.0], [6.0, 51.0], [6.0, 50.0]]]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return beside_package(DRIVER, "playwright-core@1.65.1", folder=tmp_path_factory.mktemp("map"))


def test_the_uploaded_features_are_on_the_map_with_their_attributes(tmp_path: Path, driver: Path) -> None:
    square = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": SQUARE},
        "properties": {"name": "Eifel"},
    }
    settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0)
    picture = tmp_path / "map.png"
    with Emulator(tmp_path / "emulator", settings=settings) as emulator:
        acme = Account(emulator)
        staged = acme.stage({"type": "FeatureCollection", "features": [square]})
        acme.wait(acme.create(staged["url"], "places").json()["id"])

        said = run("node", driver, str(CHROMIUM), f"{emulator.url}/tilesets/acme.places", picture, cwd=driver.parent)

    seen = json.loads(said)
    assert seen["errors"] == []
    assert seen["foreign"] == []
    assert seen["drawn"] > 0
    assert seen["land"] > 0, "no country is drawn around the square in the Eifel"
    assert seen["layers"] == ["places"]
    assert [row.split("\t") for row in seen["attributes"]] == [["name", "Eifel"]]
    assert _share_of_blue(picture) > 0.05


def test_an_uploaded_image_is_on_the_map(tmp_path: Path, driver: Path) -> None:
    image = tmp_path / "blue.tif"
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 3, "dtype": "uint8", "crs": "EPSG:4326"}
    pixels = np.zeros((3, 64, 64), np.uint8)
    pixels[2] = 230
    with rasterio.open(image, "w", transform=from_bounds(6, 50, 8, 51, 64, 64), **profile) as written:
        written.write(pixels)
    settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0)
    picture = tmp_path / "map.png"
    with Emulator(tmp_path / "emulator", settings=settings) as emulator:
        assert Account(emulator).upload(image.read_bytes())["error"] is None

        said = run("node", driver, str(CHROMIUM), f"{emulator.url}/tilesets/acme.places", picture, cwd=driver.parent)

    seen = json.loads(said)
    assert (seen["errors"], seen["foreign"], seen["layers"]) == ([], [], [])
    assert seen["land"] > 0
    assert _share_of_blue(picture) > 0.1


def _share_of_blue(picture: Path) -> float:
    """Give the share of the picture that a blue fill of a quarter's opacity, or its edge, covers."""
    with Image.open(picture) as opened:
        colors = opened.convert("RGB").getcolors(maxcolors=1 << 24) or []
        size = opened.width * opened.height
    blue = sum(count for count, (red, green, b) in colors if b - red > 25 and b > 200 and green < b)
    return blue / size
