"""The tiles that shapes touch, beside exact geometry by shapely, and their area."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import shapely

from airflow_mapbox.billing import burn, cover, known
from airflow_mapbox.billing.area import EARTH_RADIUS_KM
from airflow_mapbox.billing.cover import Cover
from airflow_mapbox.export.encode import cover_of
from airflow_mapbox.export.geometry.shapes import from_shapely

ZOOM = 6


@pytest.fixture
def rng() -> np.random.Generator:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def covered(geometries: Any, *zooms: int) -> Cover:
    array = np.atleast_1d(np.asarray(geometries, dtype=object))
    return cover_of(from_shapely(array, np.arange(len(array))), zooms or (ZOOM,))


def tiles(geometries: Any, zoom: int = ZOOM) -> set[tuple[int, int]]:
    return tiles_in(covered(geometries, zoom), zoom)


def tiles_in(cover: Cover, zoom: int) -> set[tuple[int, int]]:
    """The columns and rows of all tiles."""
    found = set()
    for runs in cover.tiles(zoom).parts():
        for run in runs.tolist():
            number, more = run >> zoom, run & ((1 << zoom) - 1)
            row, column = number >> zoom + 1, number & ((1 << zoom + 1) - 1)
            found |= {(column + step, row) for step in range(more + 1)}
    return found


def to_map(points: Any, zoom: int = ZOOM) -> Any:
    """Longitude, latitude to tiles from the map's north-western corner."""
    x = (points[:, 0] + 180) / 360
    y = 0.5 - np.arctanh(np.sin(np.radians(points[:, 1]))) / (2 * np.pi)
    return np.stack([x, y], axis=1) * 2**zoom


def exact(geometries: Any, zoom: int = ZOOM) -> set[tuple[int, int]]:
    """The tiles whose inside a shape reaches, on a dense grid."""
    columns, rows = np.meshgrid(np.arange(2**zoom), np.arange(2**zoom))
    grid = shapely.box(columns + 1e-3, rows + 1e-3, columns + 1 - 1e-3, rows + 1 - 1e-3)
    touched = np.zeros(grid.shape, bool)
    for geometry in np.atleast_1d(np.asarray(geometries, dtype=object)):
        touched |= shapely.intersects(grid, shapely.transform(geometry, lambda points: to_map(points, zoom)))
    return {(int(column), int(row)) for row, column in zip(*np.nonzero(touched), strict=True)}


def circles(rng: np.random.Generator, count: int, radius: float, steps: int = 24) -> Any:
    centre = np.stack([rng.uniform(-150, 150, count), rng.uniform(-60, 60, count)], axis=1)
    turn = np.linspace(0, 2 * np.pi, steps + 1) + rng.uniform(0, 1)
    size = rng.uniform(0.2, 1, (count, 1)) * radius
    rings = centre[:, None] + np.stack([size * np.cos(turn), size * np.sin(turn)], axis=2)
    rings[:, -1] = rings[:, 0]
    return shapely.polygons(rings)


def tracks(rng: np.random.Generator, count: int, steps: int, step: float) -> Any:
    start = np.stack([rng.uniform(-150, 150, count), rng.uniform(-60, 60, count)], axis=1)
    return shapely.linestrings(start[:, None] + np.cumsum(rng.normal(scale=step, size=(count, steps, 2)), axis=1))


SHAPES = {
    "large circles": lambda rng: circles(rng, 5, 25.0),
    "small circles": lambda rng: circles(rng, 40, 1.0),
    "circles with a circle cut out": lambda rng: [
        shapely.Polygon(
            circle.exterior, [shapely.transform(circle, lambda p: p.mean(0) + (p - p.mean(0)) * 0.8).exterior]
        )
        for circle in circles(rng, 4, 25.0)
    ],
    "short steps": lambda rng: tracks(rng, 10, 100, 0.5),
    "long steps": lambda rng: shapely.linestrings(rng.uniform(-80, 80, (5, 6, 2))),
    "slivers": lambda rng: shapely.polygons(rng.uniform(-70, 70, (10, 1, 2)) + rng.normal(size=(10, 3, 2)) * 4),
    "points": lambda rng: shapely.points(rng.uniform(-80, 80, (200, 2))),
    "parts": lambda rng: [
        shapely.multipolygons(circles(rng, 3, 4.0)),
        shapely.multilinestrings(tracks(rng, 3, 20, 1.0)),
        shapely.multipoints(rng.uniform(-80, 80, (5, 2))),
    ],
}


@pytest.mark.parametrize("shapes", SHAPES)
def test_a_cover_is_exact_but_for_gdals_tolerances(rng: np.random.Generator, shapes: str) -> None:
    geometries = SHAPES[shapes](rng)
    ours, theirs = tiles(geometries), exact(geometries)

    # GDAL burns edges that are narrower than 0.01 tile in one column, and nothing else differs: see burn.py. A few
    # points lie between the tiles of the grid.
    assert len(ours ^ theirs) <= max(6, 0.02 * len(theirs))
    assert len(ours) > 1


def on_borders(geometries: Any) -> Any:
    """Move a third of the vertices to the borders of tiles, or nearly there. Equal vertices stay equal."""
    offsets = np.array([0, 1e-9, -5e-5, 5e-3])

    def move(points: Any) -> Any:
        on_map, digits = to_map(points), np.floor(np.abs(points) * 1e8).astype(int)
        moved = np.where(digits % 3 == 0, np.round(on_map * 2) / 2 + offsets[digits % 4], on_map)
        x, y = moved.T / 2**ZOOM
        return np.stack([x * 360 - 180, np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * y))))], axis=1)

    return [shapely.transform(geometry, move) for geometry in geometries]


@pytest.mark.parametrize("window", [1, 2, 7, 64])
@pytest.mark.parametrize("shapes", [name for name in SHAPES if name != "points"])
def test_edges_that_are_skipped_together_change_nothing(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, shapes: str, window: int
) -> None:
    monkeypatch.setattr(burn, "_LEAST_SKIPPED", -1.0)
    monkeypatch.setattr(burn, "_LEAST_WINDOWS", 0)
    monkeypatch.setattr(burn, "_BLOCK", 100)
    zooms = (ZOOM + 3, ZOOM + 1, ZOOM)
    geometries = on_borders(SHAPES[shapes](rng))
    parts = [part for geometry in geometries for part in shapely.get_parts(geometry)]
    covers = []

    for size in (10**9, window):
        monkeypatch.setattr(burn, "_WINDOW", size)
        covers.append(covered(parts, *zooms))

    for zoom in zooms:
        without, with_windows = (tiles_in(cover, zoom) for cover in covers)
        assert with_windows == without


@pytest.mark.parametrize("zooms", [(11, 6), (9,), (6, 0)])
@pytest.mark.parametrize("least_skipped", [0.0, 0.25])
def test_shapes_in_known_tiles_change_nothing(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, zooms: tuple[int, ...], least_skipped: float
) -> None:
    monkeypatch.setattr(known, "_LEAST_SKIPPED", least_skipped)
    shapes = [shape for name in SHAPES for shape in on_borders(SHAPES[name](rng))]
    shapes += [*circles(rng, 300, 1.0), *tracks(rng, 100, 20, 0.5)]
    shapes = [shapes[index] for index in rng.permutation(len(shapes))]
    total, tiles_so_far = Cover(zooms), known.KnownTiles(zooms)

    for start in range(0, len(shapes), 50):
        batch = np.asarray(shapes[start : start + 50], dtype=object)
        total.update(cover_of(from_shapely(batch, np.arange(len(batch))), zooms, known=tiles_so_far))

    for zoom in zooms:
        assert tiles_in(total, zoom) == tiles(shapes, zoom)


@pytest.mark.parametrize(
    "shape", [shapely.box(0.5, 0.5, 40, 40), shapely.LineString([(0.5, 0.5), (40, 0.5), (40, 40), (0.5, 40)])]
)
def test_a_large_shape_is_burnt_even_if_the_corners_of_its_bounds_are_known(shape: Any) -> None:
    corners = [shapely.Point(x, y).buffer(0.1) for x in (0.5, 40) for y in (0.5, 40)]
    known_tiles = known.KnownTiles((ZOOM,))
    batches = [from_shapely(np.asarray(batch, dtype=object), np.arange(len(batch))) for batch in (corners, [shape])]
    first, second = (cover_of(batch, (ZOOM,), known=known_tiles) for batch in batches)

    first.update(second)

    assert tiles_in(first, ZOOM) == tiles([*corners, shape])


@pytest.mark.parametrize("kind", ["polygons", "lines"])
def test_shapes_in_known_tiles_are_not_burnt_again(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shapes = np.asarray(circles(rng, 500, 0.1) if kind == "polygons" else tracks(rng, 500, 20, 0.01), dtype=object)
    groups = from_shapely(shapes, np.arange(len(shapes)))
    tiles_so_far = known.KnownTiles((11, 6))
    cover_of(groups, (11, 6), known=tiles_so_far)
    monkeypatch.setattr(burn, "_burn_changes", lambda *_: pytest.fail("burnt again"))

    again = cover_of(groups, (11, 6), known=tiles_so_far)

    assert again.area_km2(11) == 0


@pytest.mark.parametrize("few", [0, 100, 1 << 14])
@pytest.mark.parametrize("are_known", [False, True])
def test_shapes_that_wait_to_be_burnt_are_not_lost(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, few: int, are_known: bool
) -> None:
    """Lines and polygons, in batches with two units, wait in the cover of each batch and in the total."""
    monkeypatch.setattr(cover, "_FEW_POSITIONS", few)
    monkeypatch.setattr(cover, "_MAX_WAITING", 1_000)
    shapes = [*circles(rng, 60, 0.5), *tracks(rng, 60, 20, 0.1)]
    shapes = [shapes[index] for index in rng.permutation(len(shapes))]
    tiles_so_far = known.KnownTiles((ZOOM, 3)) if are_known else None
    total = Cover((ZOOM, 3), tiles_so_far)

    for start in range(0, len(shapes), 7):
        batch = np.asarray(shapes[start : start + 7], dtype=object)
        unit = 1.0 if start % 2 else 1e-6
        units = np.asarray(shapely.transform(batch, lambda xy, unit=unit: xy / unit), dtype=object)
        total.update(cover_of(from_shapely(units, np.arange(len(units))), (ZOOM, 3), unit, tiles_so_far))

    for zoom in (ZOOM, 3):
        assert tiles_in(total, zoom) == tiles(shapes, zoom)


@pytest.mark.parametrize("zoom", [0, 2, 6, 11])
@pytest.mark.parametrize(
    "shape",
    [
        shapely.box(7.1, 50.7, 7.101, 50.701),
        shapely.LineString([(7.1, 50.7), (7.101, 50.701)]),
        shapely.segmentize(shapely.LineString([(7.1, 50.7), (7.101, 50.701)]), 1e-5),
    ],
    ids=["box", "line", "line of many positions"],
)
def test_one_shape_inside_a_tile_burns_that_tile(shape: Any, zoom: int) -> None:
    assert tiles(shape, zoom) == exact(shape, zoom) if zoom < 7 else len(tiles(shape, zoom)) == 1


def test_a_hole_does_not_count() -> None:
    shell = shapely.box(-90, -60, 90, 60)
    holed = shapely.difference(shell, shapely.box(-45, -40, 45, 40))

    assert len(tiles(shell)) - len(tiles(holed)) > 100
    assert (32, 32) not in tiles(holed)


@pytest.mark.parametrize("window", [1, 64])
def test_an_edge_on_a_tiles_border_does_not_burn_the_tile_beyond(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    # GDAL's rule for polygons. 90 degrees is the border between two columns of every zoom from 2.
    monkeypatch.setattr(burn, "_WINDOW", window)
    dense = shapely.segmentize(shapely.box(0, 0, 90, 66.51326044311186), 5.0)

    for box in (shapely.box(0, 0, 90, 66.51326044311186), dense):
        assert tiles(box, 3) == {(column, row) for column in (4, 5) for row in (2, 3)}


def test_a_narrow_edge_burns_the_column_of_its_eastern_end_only() -> None:
    assert tiles(shapely.LineString([(-0.001, 10.0), (0.001, 30.0)]), 3) == {(4, 3)}


def test_a_low_edge_burns_the_row_of_its_western_end_only() -> None:
    assert tiles(shapely.LineString([(10.0, -0.001), (60.0, 0.001)]), 3) == {(4, 4), (5, 4)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # A tile of zoom 3 has 45 degrees, and 0.0001 of it are 0.0045 degrees.
        ([(10.0, 10.0), (20.0, -0.001)], {(4, 3)}),
        ([(10.0, 10.0), (20.0, -0.01)], {(4, 3), (4, 4)}),
        ([(10.0, -0.001), (20.0, 10.0)], {(4, 3)}),
        ([(10.0, -0.001), (30.0, 0.001)], {(4, 3)}),
        ([(10.0, -0.001), (45.001, -20.0)], {(4, 4)}),
        ([(10.0, -0.001), (45.01, -20.0)], {(4, 4), (5, 4)}),
        ([(44.999, -20.0), (60.0, -10.0)], {(4, 4), (5, 4)}),
        # Two columns and two rows.
        ([(40.0, 10.0), (45.001, -0.001)], {(4, 3), (5, 3), (5, 4)}),
        ([(10.0, -0.001), (20.0, -0.0015)], set()),
    ],
)
def test_an_edge_in_one_row_or_column_must_reach_into_its_last_tile(
    line: list[tuple[float, float]], expected: set[tuple[int, int]]
) -> None:
    """As GDAL 3.10 burns it."""
    assert tiles(shapely.LineString(line), 3) == expected
    assert tiles(shapely.LineString(line[::-1]), 3) == expected


def test_edges_beyond_the_map_touch_no_tile() -> None:
    beyond = [shapely.Point(10, 86), shapely.LineString([(10, 86), (20, 89)]), shapely.Point(10, -90)]

    assert tiles(beyond) == set()
    assert tiles(shapely.LineString([(10, 80), (10, 89)])) != set()


def test_the_order_of_features_does_not_matter_and_copies_add_nothing(rng: np.random.Generator) -> None:
    features = [*circles(rng, 30, 3.0), *tracks(rng, 10, 50, 0.1), *shapely.points(rng.uniform(-80, 80, (30, 2)))]
    for zoom in (14, 11, 6):
        area = covered(features, zoom).area_km2(zoom)

        assert covered(features[::-1] + features, zoom).area_km2(zoom) == pytest.approx(area, rel=1e-12)


def test_batches_add_up_to_the_union(rng: np.random.Generator) -> None:
    first, second = circles(rng, 200, 2.0), circles(rng, 200, 2.0)
    both = covered(first, 14, 11, 6)
    both.update(covered(second, 14, 11, 6))
    for zoom in (14, 11, 6):
        alone = [covered(part, zoom).area_km2(zoom) for part in (first, second)]

        assert both.area_km2(zoom) == pytest.approx(covered([*first, *second], zoom).area_km2(zoom), rel=1e-12)
        assert max(alone) <= both.area_km2(zoom) * (1 + 1e-12) <= sum(alone) * (1 + 1e-11)


def test_lower_zooms_on_the_way_equal_those_alone(rng: np.random.Generator) -> None:
    features = [*circles(rng, 500, 0.3), *tracks(rng, 20, 500, 0.002)]
    together = covered(features, 17, 14, 11, 6)

    for zoom in (14, 11, 6):
        assert together.area_km2(zoom) == covered(features, zoom).area_km2(zoom)


@pytest.mark.parametrize("zoom", [14, 17])
def test_a_set_in_bands_equals_a_flat_one(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, zoom: int) -> None:
    parts = [
        circles(rng, 300, 0.2),
        shapely.points(rng.uniform(-80, 80, (5000, 2))),
        [shapely.box(-170, 10, 170, 10.1)],
    ]
    flat = covered([*parts[0], *parts[1], *parts[2]], zoom).area_km2(zoom)

    monkeypatch.setattr("airflow_mapbox.billing.runset._MAX_FLAT", 100)
    monkeypatch.setattr("airflow_mapbox.billing.runset._MAX_PENDING", 100)
    banded = covered(parts[0], zoom)
    for part in parts[1:]:
        banded.update(covered(part, zoom))

    assert banded.tiles(zoom)._bands
    assert banded.area_km2(zoom) == pytest.approx(flat, rel=1e-12)


@pytest.mark.parametrize("zoom", [0, 6, 11, 14, 17])
def test_the_whole_map_is_the_sphere_between_its_edges(zoom: int) -> None:
    world = covered(shapely.box(-180, -85.06, 180, 85.06), zoom)

    band = 4 * math.pi * EARTH_RADIUS_KM**2 * math.tanh(math.pi)
    assert world.area_km2(zoom) == pytest.approx(band, rel=1e-9)
    assert sum(len(runs) for runs in world.tiles(zoom).parts()) <= 2 * 2**zoom
