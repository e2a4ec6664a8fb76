"""The maxzoom that Mapbox is expected to choose, and the tiers."""

from __future__ import annotations

import math
import random

import pytest

from airflow_mapbox.billing.zooms import area_zoom, expected_maxzoom, tier_of
from airflow_mapbox.errors import OptionError

WORLD = (-180.0, -85.0, 180.0, 85.0)


Bounds = tuple[float, float, float, float]


def column(longitude: float) -> float:
    """The position as a share of the map's width."""
    return (longitude + 180) / 360


def row(latitude: float) -> float:
    return (1 - math.asinh(math.tan(math.radians(latitude))) / math.pi) / 2


def tiles(bounds: Bounds, zoom: int) -> int:
    west, south, east, north = bounds

    def number(share: float) -> int:
        return min(max(math.floor(share * 2**zoom), 0), 2**zoom - 1)

    return (number(column(east)) - number(column(west)) + 1) * (number(row(south)) - number(row(north)) + 1)


def is_near_a_border(bounds: Bounds, zoom: int) -> bool:
    """Whether a side lies within a pixel of the border of a tile."""
    west, south, east, north = bounds
    ends = [share * 2**zoom for share in (column(west), row(south), column(east), row(north))]
    return any(abs(end - round(end)) < 1 / 256 for end in ends)


@pytest.mark.parametrize(
    ("size", "bounds", "zoom"),
    [
        (1, WORLD, 0),
        (999, WORLD, 0),
        (1000, WORLD, 1),
        (4000, WORLD, 2),
        (10**9, WORLD, 10),
        (10**9, (7, 50, 7, 50), 16),
    ],
)
def test_the_lowest_zoom_with_less_than_a_kilobyte_a_tile(
    size: int, bounds: tuple[float, float, float, float], zoom: int
) -> None:
    assert expected_maxzoom(size, bounds) == zoom


def test_random_boxes_agree_with_a_count_of_their_tiles() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    compared = 0
    for _ in range(300):
        west, south = rng.uniform(-179, 170), rng.uniform(-84, 80)
        bounds = (west, south, rng.uniform(west, 179), rng.uniform(south, 84))
        size = int(10 ** rng.uniform(0, 9))
        exact = next((zoom for zoom in range(16) if size / tiles(bounds, zoom) < 1000), 16)
        # Mapbox's library rounds to pixels, so near the border of a tile it may count a row or a column less.
        if any(is_near_a_border(bounds, zoom) for zoom in range(exact + 1)):
            continue

        assert expected_maxzoom(size, bounds) == exact
        compared += 1

    assert compared > 100


@pytest.mark.parametrize("size", [0, -1])
def test_a_file_without_bytes_has_no_maxzoom(size: int) -> None:
    with pytest.raises(OptionError, match="size="):
        expected_maxzoom(size, WORLD)


def test_bounds_in_another_order_are_refused() -> None:
    with pytest.raises(OptionError, match="west, south, east, north"):
        expected_maxzoom(1, (10, 50, 7, 51))


@pytest.mark.parametrize(
    ("tier", "highest", "zoom"), [("free", 5, None), ("10m", 10, 6), ("1m", 13, 11), ("30cm", 16, 14), ("1cm", 22, 17)]
)
def test_each_tier_has_its_zooms_and_a_tiff_one_more(tier: str, highest: int, zoom: int | None) -> None:
    assert (tier_of(highest), tier_of(highest + 1, raster=True), area_zoom(tier)) == (tier, tier, zoom)
    if tier != "1cm":
        assert tier_of(highest + 1) != tier
        assert tier_of(highest + 2, raster=True) != tier


def test_an_unknown_tier_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match="'30cm'"):
        area_zoom("5m")
