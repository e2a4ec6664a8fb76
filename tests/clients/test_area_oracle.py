"""The area beside `tilesets estimate-area` of Mapbox's own mapbox-tilesets: the same features, the same tiers."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from airflow_mapbox.billing.zooms import area_zoom
from airflow_mapbox.preflight import estimate_area

# make clients sets it: .ci/oracle installs the program.
TILESETS = os.environ.get("TILESETS")
TIERS = ("10m", "1m", "30cm")
MOST_DIFFERENT = 0.001

pytestmark = pytest.mark.skipif(
    TILESETS is None, reason="make clients installs mapbox-tilesets and names it in TILESETS"
)


def circles(rng: np.random.Generator, count: int, radius: float, latitudes: tuple[float, float] = (-80, 80)) -> Any:
    """Return circles, whose radius is in degrees of latitude. None crosses the antimeridian."""
    latitude = rng.uniform(*latitudes, count)
    size, turn = rng.uniform(0.02, 1, (count, 1)) * radius, np.linspace(0, 2 * np.pi, 65)
    longitude = rng.uniform(-1, 1, count) * (179.9 - size[:, 0] / np.cos(np.radians(latitude)))
    x = longitude[:, None] + size * np.cos(turn) / np.cos(np.radians(latitude))[:, None]
    rings = np.stack([x, latitude[:, None] + size * np.sin(turn)], axis=2)
    rings[:, -1] = rings[:, 0]
    return shapely.polygons(rings)


def with_holes(rng: np.random.Generator) -> list[Any]:
    def shrunk(points: Any) -> Any:
        return points.mean(axis=0) + (points - points.mean(axis=0)) * 0.8

    return [
        shapely.Polygon(circle.exterior, [shapely.transform(circle, shrunk).exterior])
        for circle in circles(rng, 400, 2)
    ]


def tracks(rng: np.random.Generator, count: int, steps: int, step: float) -> Any:
    start = np.stack([rng.uniform(-150, 150, count), rng.uniform(-70, 70, count)], axis=1)
    return shapely.linestrings(start[:, None] + np.cumsum(rng.normal(scale=step, size=(count, steps, 2)), axis=1))


def smooth_tracks(rng: np.random.Generator) -> Any:
    start = np.stack([rng.uniform(-150, 150, 400), rng.uniform(-70, 70, 400)], axis=1)
    heading = rng.uniform(0, 7, (400, 1)) + np.cumsum(rng.normal(scale=0.1, size=(400, 1000)), axis=1)
    return shapely.linestrings(
        start[:, None] + np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=2) * 1e-4, axis=1)
    )


def slivers(rng: np.random.Generator) -> Any:
    start = np.stack([rng.uniform(-170, 170, 2000), rng.uniform(-75, 75, 2000)], axis=1)
    angle = rng.uniform(0, np.pi, 2000)
    along, across = np.stack([np.cos(angle), np.sin(angle)], axis=1), np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    corners = [start, start + 0.5 * along, start + 0.5 * along + 5e-4 * across, start + 5e-4 * across]
    return shapely.polygons(np.stack(corners, axis=1))


def at_borders(rng: np.random.Generator) -> list[Any]:
    """Return triangles and lines whose positions are within 0.0003 tile of the borders between tiles of zoom 11."""
    tile = 360 / 2**11
    x = rng.integers(-900, 900, 3000)[:, None] + rng.integers(0, 3, (3000, 3)) + rng.uniform(-3e-4, 3e-4, (3000, 3))
    y = rng.integers(-600, 600, 3000)[:, None] + rng.integers(0, 3, (3000, 3)) + rng.uniform(-3e-4, 3e-4, (3000, 3))
    latitude = np.degrees(np.arctan(np.sinh(y * tile * np.pi / 180)))
    positions = np.stack([x * tile, latitude], axis=2)
    return [*shapely.polygons(positions[:1500]), *shapely.linestrings(positions[1500:, :2])]


def parts(rng: np.random.Generator) -> list[Any]:
    return [
        *(shapely.multipolygons(circles(rng, 5, 0.2)) for _ in range(200)),
        *(shapely.multilinestrings(tracks(rng, 3, 20, 0.01)) for _ in range(100)),
        *(shapely.multipoints(rng.uniform(-80, 80, (5, 2))) for _ in range(50)),
    ]


LAYERS: dict[str, Callable[[np.random.Generator], Any]] = {
    "circles of 30 km": lambda rng: circles(rng, 3000, 0.3),
    "circles of 3 km": lambda rng: circles(rng, 20_000, 0.03),
    "circles of 300 m": lambda rng: circles(rng, 20_000, 0.003),
    "polygons with holes": with_holes,
    "rough lines": lambda rng: tracks(rng, 300, 500, 0.005),
    "smooth lines": smooth_tracks,
    "points": lambda rng: shapely.points(rng.uniform(-170, 170, 20_000), rng.uniform(-84, 84, 20_000)),
    "slivers": slivers,
    "at borders of tiles": at_borders,
    "multi-part geometries": parts,
    "large countries": lambda rng: circles(rng, 10, 15, (-60, 60)),
}


def oracle(features: Path, tier: str) -> int:
    assert TILESETS is not None
    command = [TILESETS, "estimate-area", str(features), "--precision", tier, "--no-validation"]
    command += ["--force-1cm"] if tier == "1cm" else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout)["km2"])


def compared(geometries: Any, tiers: tuple[str, ...], folder: Path, name: str) -> list[float]:
    frame = geopandas.GeoDataFrame(geometry=list(geometries), crs=4326)
    features = folder / "features.geojsonl"
    with features.open("w") as lines:
        for geometry in shapely.to_geojson(np.asarray(frame.geometry)):
            lines.write(f'{{"type":"Feature","properties":{{}},"geometry":{geometry}}}\n')
    differences = []
    for tier in tiers:
        # The program rounds to whole km².
        theirs, ours = oracle(features, tier), estimate_area(frame, tier=tier)
        assert theirs > 700
        differences.append(ours / theirs - 1)
        print(f"| {name} | {tier} (z{area_zoom(tier)}) | {theirs:,} | {ours:,.0f} | {differences[-1]:+.4%} |")
    return differences


@pytest.mark.parametrize("layer", LAYERS)
def test_the_area_is_that_of_mapboxs_own_program(layer: str, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")

    differences = compared(LAYERS[layer](np.random.default_rng(seed)), TIERS, tmp_path, layer)

    assert max(map(abs, differences)) < MOST_DIFFERENT


@pytest.mark.parametrize("latitude", [-75, -30, 0, 45, 70])
def test_at_one_centimetre_too_by_latitude(latitude: float, tmp_path: Path) -> None:
    """The program needs a byte for each tile of the bounding box, so the features lie in a degree."""
    rng = np.random.default_rng(latitude + 100)
    centre = np.stack([rng.uniform(10, 10.5, 300), rng.uniform(latitude, latitude + 0.5, 300)], axis=1)
    turn = np.linspace(0, 2 * np.pi, 41)[:-1]
    rings = centre[:, None] + rng.uniform(1e-3, 5e-2, (300, 1, 1)) * np.stack([np.cos(turn), np.sin(turn)], axis=1)

    differences = compared(shapely.polygons(rings), ("1cm",), tmp_path, f"polygons at {latitude} degrees")

    assert max(map(abs, differences)) < MOST_DIFFERENT
