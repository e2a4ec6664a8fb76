from __future__ import annotations

import numpy as np
import pytest
import shapely

from airflow_mapbox.export.geometry.rings import wind_rings
from airflow_mapbox.export.geometry.shapes import from_shapely


@pytest.mark.parametrize("size", [3, 30, 1000, 10**6, 10**9])
@pytest.mark.parametrize("wild", [0.0, 0.3, 1.0])
def test_rings_that_pass_the_quick_check_are_valid_for_geos(size: int, wild: float) -> None:
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    rng = np.random.default_rng(seed)
    rings = []
    for _ in range(500):
        count = int(rng.integers(3, 12))
        turn = np.sort(rng.uniform(0, rng.choice([2, 4]) * np.pi, count)) + rng.normal(scale=wild, size=count)
        radius = size * rng.uniform(0.1, 1, count)
        ring = np.rint(np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1) + rng.uniform(-size, size, 2))
        ring = ring[np.append(True, (np.diff(ring, axis=0) != 0).any(axis=1))]
        if len(ring) >= 3 and (ring[0] != ring[-1]).any():
            rings.append(shapely.polygons(np.concatenate([ring, ring[:1]])[:: rng.choice([1, -1])]))
    polygons = np.array(rings, dtype=object)
    (shapes,) = from_shapely(polygons, np.arange(len(polygons)))

    wound, certain, _ = wind_rings(shapes)

    valid = shapely.is_valid(polygons)
    assert not (certain & ~valid).any()
    ccw = shapely.is_ccw(shapely.get_exterior_ring(wound.to_shapely()))
    assert ccw[valid].all()
    if wild == 0.0 and 1000 <= size <= 10**6:
        assert certain.sum() > 20, "or the test shows nothing"
    west, south, east, north = shapely.bounds(polygons).T
    beyond = np.maximum(east - west, north - south) >= 2**27
    assert not (certain & beyond).any(), "beyond what 64-bit floats compute exactly"
    assert beyond.any() == (size == 10**9)


def test_holes_and_parts_are_left_to_geos() -> None:
    outer = [(0, 0), (100, 0), (100, 100), (0, 100)]
    polygons = np.array(
        [shapely.Polygon(outer), shapely.Polygon(outer, [[(10, 10), (90, 10), (50, 200)]])], dtype=object
    )
    (shapes,) = from_shapely(polygons, np.arange(2))

    assert wind_rings(shapes)[1].tolist() == [True, False]
