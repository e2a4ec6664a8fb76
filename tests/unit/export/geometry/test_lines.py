"""Lines are cut where they cross ±180 degrees and where the map ends, and nowhere else; nothing of them is lost."""

from __future__ import annotations

import math
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
from shapely.geometry import LineString, MultiLineString, Point

from tests.unit.export.support import PRECISION, features, frame, streamed

EDGE = 85.0511287
ROUNDED = 10 * PRECISION


def parts(line: Any, **options: Any) -> list[list[list[float]]]:
    """Give the coordinates of a line as it is written, by part."""
    (feature,) = features(frame([line]), **options)
    coordinates: Any = feature["geometry"]["coordinates"]
    return [coordinates] if feature["geometry"]["type"] == "LineString" else coordinates


def length(path: Any) -> float:
    return float(np.linalg.norm(np.diff(np.asarray(path), axis=0), axis=1).sum())


class TestAntimeridian:
    def test_a_line_there_and_back_keeps_both_legs_and_their_heights(self) -> None:
        line = LineString([(178, 0, 0), (-178, 0, 0), (178, 0, 1000)])

        assert parts(line) == [
            [[178, 0, 0], [180, 0, 0]],
            [[-180, 0, 0], [-178, 0, 0], [-180, 0, 500]],
            [[180, 0, 500], [178, 0, 1000]],
        ]

    def test_a_line_that_crosses_itself_is_cut_only_at_the_antimeridian(self) -> None:
        line = LineString([(170, 0), (178, 2), (178, 0), (170, 2), (179, 5), (-179, 5)])

        assert parts(line) == [
            [[170, 0], [178, 2], [178, 0], [170, 2], [179, 5], [180, 5]],
            [[-180, 5], [-179, 5]],
        ]

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ([(170, 0), (-180, 5), (170, 10)], [[[170, 0], [180, 5], [170, 10]]]),
            ([(170, 0), (-180, 5), (-180, 8), (170, 10)], [[[170, 0], [180, 5], [180, 8], [170, 10]]]),
            ([(-170, 0), (180, 5), (180, 8), (-170, 10)], [[[-170, 0], [-180, 5], [-180, 8], [-170, 10]]]),
            ([(180, 0), (180, 5), (-170, 5)], [[[-180, 0], [-180, 5], [-170, 5]]]),
            ([(-170, 5), (180, 5), (180, 0)], [[[-170, 5], [-180, 5], [-180, 0]]]),
            ([(170, 0), (180, 5), (-170, 0)], [[[170, 0], [180, 5]], [[-180, 5], [-170, 0]]]),
            ([(170, 0), (-180, 5), (-170, 0)], [[[170, 0], [180, 5]], [[-180, 5], [-170, 0]]]),
            ([(170, 0), (180, 1), (180, 5), (-170, 0)], [[[170, 0], [180, 1], [180, 5]], [[-180, 5], [-170, 0]]]),
            ([(170, 0), (180, 5), (180, 5), (-170, 0)], [[[170, 0], [180, 5]], [[-180, 5], [-170, 0]]]),
            # As a transformation may give it.
            ([(170, 0), (180 + 3e-14, 5), (170, 8), (-180, 8)], [[[170, 0], [180, 5], [170, 8], [180, 8]]]),
        ],
        ids=str,
    )
    def test_a_line_that_only_reaches_the_antimeridian_is_not_cut_there(
        self, line: list[tuple[float, float]], expected: Any
    ) -> None:
        assert parts(LineString(line)) == expected

    def test_a_line_goes_around_the_world_as_often_as_it_does(self) -> None:
        line = LineString([((120 * n + 180) % 360 - 180, n, 10 * n) for n in range(10)])

        written = parts(line)

        assert [part[0][0] for part in written] == [0, -180, -180, -180]
        assert [part[-1][0] for part in written] == [180, 180, 180, 0]
        assert [point for part in written for point in part if abs(point[0]) < 180] == [
            list(point) for point in line.coords
        ]

    def test_parts_stay_in_order_with_those_beside_them(self) -> None:
        line = MultiLineString([[(5, 5), (6, 6)], [(179, 0), (-179, 0)], [(180, 7), (180, 8)], [(1, 1), (2, 2)]])

        assert parts(line) == [
            [[5, 5], [6, 6]],
            [[179, 0], [180, 0]],
            [[-180, 0], [-179, 0]],
            [[180, 7], [180, 8]],
            [[1, 1], [2, 2]],
        ]

    def test_each_of_many_lines_keeps_its_own_vertices(self) -> None:
        lines = [
            LineString([(179, 0), (-179, 0)]),
            LineString([(1, 1), (2, 2)]),
            LineString([(170, 0), (-180, 5), (170, 10)]),
            MultiLineString([[(179, 3), (-179, 3)], [(7, 7), (8, 8)]]),
        ]

        document, report = streamed(frame(lines, n=range(4)))

        assert [(one["properties"]["n"], one["geometry"]) for one in document["features"]] == [
            (0, {"type": "MultiLineString", "coordinates": [[[179, 0], [180, 0]], [[-180, 0], [-179, 0]]]}),
            (1, {"type": "LineString", "coordinates": [[1, 1], [2, 2]]}),
            (2, {"type": "LineString", "coordinates": [[170, 0], [180, 5], [170, 10]]}),
            (
                3,
                {
                    "type": "MultiLineString",
                    "coordinates": [[[179, 3], [180, 3]], [[-180, 3], [-179, 3]], [[7, 7], [8, 8]]],
                },
            ),
        ]
        assert report.changed == {"cut at the antimeridian": 3}

    def test_nothing_of_random_lines_is_lost_and_they_are_cut_as_seldom_as_can_be(self) -> None:
        seed = np.random.SeedSequence().entropy
        print("seed", seed)
        rng = np.random.default_rng(seed)
        sources = [_walk(rng) for _ in range(300)]
        lines = [LineString(_wrapped(rng, source)) for source in sources]

        written = features(frame(lines))

        for source, feature in zip(sources, written, strict=True):
            coordinates = feature["geometry"]["coordinates"]
            own = [coordinates] if feature["geometry"]["type"] == "LineString" else coordinates
            assert np.abs([point[0] for part in own for point in part]).max() <= 180
            unrolled = _joined(own, source[0][0])
            assert length(unrolled) == pytest.approx(length(source), rel=1e-7)
            _assert_in_order(source, unrolled)
            assert len(own) == max(1, len(list(groupby(_turns(source)))))


class TestEdgeOfTheMap:
    def test_a_line_beyond_the_map_and_back_keeps_both_legs_and_their_heights(self) -> None:
        there, back = parts(LineString([(0, 84, 0), (0, 86, 0), (0, 84, 1000)]), beyond_mercator="clip")

        assert there == [[0, 84, 0], [0, EDGE, 0]]
        assert back[0] == pytest.approx([0, EDGE, 1000 * (86 - EDGE) / 2])
        assert back[1] == [0, 84, 1000]

    def test_a_line_that_crosses_itself_is_cut_only_at_the_edge(self) -> None:
        line = LineString([(0, 80), (8, 82), (8, 80), (0, 82), (0, 86)])

        assert parts(line, beyond_mercator="clip") == [[[0, 80], [8, 82], [8, 80], [0, 82], [0, EDGE]]]

    @pytest.mark.parametrize("half", [1, -1])
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ([(0, 84), (1, EDGE), (2, 84), (2, 86)], [[[0, 84], [1, EDGE], [2, 84], [2, EDGE]]]),
            # As the edge of EPSG:3857 is in degrees.
            ([(0, 84), (1, 85.0511287798066), (2, 84), (2, 86)], [[[0, 84], [1, EDGE], [2, 84], [2, EDGE]]]),
            ([(0, 86), (0, EDGE), (5, EDGE), (5, 86)], [[[0, EDGE], [5, EDGE]]]),
            ([(0, 86), (0, EDGE), (0, 86), (1, 86), (1, 84)], [[[1, EDGE], [1, 84]]]),
            ([(0, 90), (0, -90)], [[[0, EDGE], [0, -EDGE]]]),
            ([(0, 90), (0, -90), (0, 90)], [[[0, EDGE], [0, -EDGE]], [[0, -EDGE], [0, EDGE]]]),
        ],
        ids=str,
    )
    def test_a_line_is_on_the_map_up_to_its_edge(
        self, half: int, line: list[tuple[float, float]], expected: list[list[list[float]]]
    ) -> None:
        def turned(path: Any) -> list[list[float]]:
            return [[x, half * y] for x, y in path]

        assert parts(LineString(turned(line)), beyond_mercator="clip") == [turned(part) for part in expected]

    @pytest.mark.parametrize(
        "line",
        [
            [(0, 86), (5, 86)],
            [(0, 86), (0, EDGE), (0, 86)],
            [(0, 86), (0, EDGE), (0, EDGE), (1, 86)],
            [(0, EDGE), (0, 86)],
            [(0, -86), (0, -EDGE)],
        ],
        ids=str,
    )
    def test_a_line_that_at_most_touches_the_map_is_dropped_as_beyond_it(self, line: list[tuple[float, float]]) -> None:
        _, report = streamed(frame([LineString(line), Point(1, 2)]), beyond_mercator="clip")

        assert report.dropped == {"beyond ±85.0511 degrees": 1}
        assert report.changed == {}

    def test_a_line_may_be_cut_at_both(self) -> None:
        line = LineString([(170, 84), (170, 86), (-170, 86), (-170, 84), (170, 84)])

        written = parts(line, beyond_mercator="clip")

        assert written == [
            [[170, 84], [170, EDGE]],
            [[-170, EDGE], [-170, 84], [-180, 84]],
            [[180, 84], [170, 84]],
        ]

    def test_random_lines_keep_exactly_their_parts_on_the_map_in_order(self) -> None:
        seed = np.random.SeedSequence().entropy
        print("seed", seed)
        rng = np.random.default_rng(seed)
        sources = []
        for _ in range(300):
            # There and back, some along the edge, and all the way from pole to pole.
            ends = rng.choice([-90, -86, -EDGE, -80, 0, 80, EDGE, 86, 90], (rng.integers(2, 12), 1))
            path = np.hstack([rng.integers(-3, 4, ends.shape) * 10, ends, rng.integers(0, 99, ends.shape)])
            sources.append(_moving(np.vstack([[0, 0, 0], [1, 1, 0], path])))

        written = features(frame([LineString(source) for source in sources]), beyond_mercator="clip")

        for source, feature in zip(sources, written, strict=True):
            coordinates = feature["geometry"]["coordinates"]
            own = [coordinates] if feature["geometry"]["type"] == "LineString" else coordinates
            kept = [_on_map(first, last) for first, last in pairwise(source)]
            assert sum(map(length, own)) == pytest.approx(sum(kept), abs=1e-4)
            points = np.array([point for part in own for point in part])
            assert np.abs(points[:, 1]).max() <= EDGE
            # Of each inner vertex on the map there is one in its place; what is there besides is on the edge.
            _assert_in_order([point for point in source if abs(point[1]) < EDGE], points)
            others = [point for point in points if np.abs(source - point).max(axis=1).min() > ROUNDED]
            assert {abs(point[1]) for point in others} <= {EDGE}


def _walk(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Give a line with longitudes counted on, some of its vertices on ±180, some of its legs gone there and back."""
    path = [[float(rng.integers(-170, 170)), 0.0, 0.0]]
    while len(path) < rng.integers(2, 20):
        x, _, z = path[-1]
        seam = 360 * math.floor(x / 360) + 180
        x = [seam, x, x + rng.integers(-169, 170)][rng.choice(3, p=[0.3, 0.1, 0.6])]
        if abs(x - path[-1][0]) < 180:
            path.append([float(x), float(rng.integers(-80, 80)), float(z + rng.integers(-9, 9))])
        if len(path) > 1 and rng.random() < 0.2:
            path.append([path[-2][0], path[-2][1], path[-1][2] + 5])
    return _moving(np.array([*path, [path[-1][0] + 1, 0, 0]]))


def _moving(path: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Leave out what stands above the vertex before it, which the export writes once."""
    return path[np.append(True, (np.diff(path[:, :2], axis=0) != 0).any(axis=1))]


def _wrapped(rng: np.random.Generator, path: Any) -> list[tuple[float, float, float]]:
    """Give a line with longitudes within ±180, those on ±180 of either sign; of one sign where it runs along."""
    wrapped: list[tuple[float, float, float]] = []
    for number, (x, y, z) in enumerate(path):
        inside = (x + 180) % 360 - 180
        if inside == -180:
            along = number and (path[number - 1][0] + 180) % 360 == 0
            inside = wrapped[-1][0] if along else float(rng.choice([-180, 180]))
        wrapped.append((inside, y, z))
    return wrapped


def _joined(own: list[list[list[float]]], start: float) -> np.ndarray[Any, Any]:
    """Put parts behind one another, longitudes counted on, each beginning where the one before ends."""
    joined = np.empty((0, 3))
    end = np.array([start, np.nan, np.nan])
    for part in own:
        path = np.array(part)
        path[:, 0] += 360 * np.round((end[0] - path[0, 0]) / 360)
        if len(joined):
            assert path[0] == pytest.approx(end)
            assert path[0, 0] % 360 == 180
            path = path[1:]
        joined, end = np.vstack([joined, path]), path[-1]
    return joined


def _turns(path: Any) -> list[int]:
    """Say in which turn of the world each stretch of a line is, but for those along ±180."""
    turns: list[int] = []
    for (first, *_), (last, *_) in pairwise(path):
        low, high = min(first, last), max(first, last)
        stretch = range(math.floor((low + 180) / 360), math.ceil((high + 180) / 360))
        turns += stretch if first <= last else reversed(stretch)
    return turns


def _assert_in_order(wanted: Any, points: Any) -> None:
    """Find every point among others, in this order."""
    rest = iter(points)
    for point in wanted:
        assert any(np.abs(np.asarray(other) - point).max() <= ROUNDED for other in rest), point


def _on_map(first: Any, last: Any) -> float:
    """Give the length of the part of an edge that is on the map."""
    whole = float(np.linalg.norm(last - first))
    if first[1] == last[1]:
        return whole if abs(first[1]) <= EDGE else 0.0
    shares = sorted((side - first[1]) / (last[1] - first[1]) for side in (-EDGE, EDGE))
    return whole * max(0.0, min(1.0, shares[1]) - max(0.0, shares[0]))
