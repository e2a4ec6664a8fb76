"""Heights: rings that end where they begin, and vertices above one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import shapely
from shapely.geometry import GeometryCollection, LineString, Point, Polygon

from tests.unit.export.support import features, frame, streamed


def written(wkt: str, **options: Any) -> dict[str, Any]:
    (only,) = features(frame([shapely.from_wkt(wkt)]), **options)
    geometry: dict[str, Any] = only["geometry"]
    return geometry


def rings(geometry: dict[str, Any]) -> list[Any]:
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [ring for polygon in polygons for ring in polygon]


@pytest.mark.parametrize(
    "wkt",
    [
        "POLYGON Z ((0 0 1, 1 0 1, 1 1 1, 0 0 5))",
        "POLYGON Z ((0 0 1, 9 0 1, 9 9 1, 0 0 1), (5 1 2, 6 1 2, 6 2 2, 5 1 9))",
        "MULTIPOLYGON Z (((0 0 1, 1 0 1, 1 1 1, 0 0 5)), ((5 5 1, 6 5 1, 6 6 1, 5 5 -5)))",
        "POLYGON Z ((0 0 1, 2 2 2, 2 0 3, 0 2 4, 0 0 9))",
        "POLYGON Z ((170 0 1, -170 0 2, -170 9 3, 170 9 4, 170 0 9))",
        "POLYGON Z ((0 80 1, 10 80 2, 10 89 3, 0 89 4, 0 80 9))",
        "POLYGON Z ((0 60 1, 120 60 2, -120 60 3, 0 60 9))",
    ],
    ids=["a ring", "a hole", "two parts", "repaired", "cut at 180", "clipped", "around a pole"],
)
def test_a_ring_ends_at_the_height_where_it_begins(wkt: str) -> None:
    for ring in rings(written(wkt, beyond_mercator="clip")):
        assert ring[0] == ring[-1]


@pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
def test_a_ring_of_geoparquet_ends_at_the_height_where_it_begins(tmp_path: Path, encoding: str) -> None:
    ring = shapely.from_wkt("POLYGON Z ((0 0 1, 1 0 1, 1 1 1, 0 0 5))")
    frame([ring] * 3).to_parquet(tmp_path / "x.parquet", geometry_encoding=encoding)

    for feature in features(tmp_path / "x.parquet"):
        assert feature["geometry"]["coordinates"] == [[[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 0, 1]]]


class TestVerticesAboveOneAnother:
    @pytest.mark.parametrize(
        ("wkt", "expected"),
        [
            ("LINESTRING Z (1 2 0, 1 2 -5, 1 2 -10)", [[1, 2, 0], [1, 2, -5], [1, 2, -10]]),
            ("LINESTRING Z (1 2 0, 1 2 -5, 1 2 -5, 3 4 -10)", [[1, 2, 0], [1, 2, -5], [3, 4, -10]]),
            ("LINESTRING Z (1 2 0, 1.00000001 2 -5, 3 4 0)", [[1, 2, 0], [1, 2, -5], [3, 4, 0]]),
            ("MULTILINESTRING Z ((1 2 0, 1 2 -5), (0 0 0, 1 1 1))", [[[1, 2, 0], [1, 2, -5]], [[0, 0, 0], [1, 1, 1]]]),
            (
                "POLYGON Z ((0 0 0, 1 0 0, 1 0 5, 1 1 5, 0 1 0, 0 0 0))",
                [[[0, 0, 0], [1, 0, 0], [1, 0, 5], [1, 1, 5], [0, 1, 0], [0, 0, 0]]],
            ),
            (
                "LINESTRING Z (170 0 0, 170 0 5, -170 0 5, -170 0 9)",
                [[[170, 0, 0], [170, 0, 5], [180, 0, 5]], [[-180, 0, 5], [-170, 0, 5], [-170, 0, 9]]],
            ),
            (
                "LINESTRING Z (1 80 0, 1 80 5, 1 88 5, 1 88 9)",
                [[1, 80, 0], [1, 80, 5], [1, 85.0511287, 5]],
            ),
        ],
        ids=["a borehole", "a leg", "a leg made by rounding", "two parts", "a step of a roof", "cut at 180", "clipped"],
    )  # fmt: skip
    def test_vertices_above_one_another_are_kept(self, wkt: str, expected: list[Any]) -> None:
        assert written(wkt, beyond_mercator="clip", on_invalid="error")["coordinates"] == expected

    def test_vertices_above_one_another_are_one_without_their_heights(self) -> None:
        assert written("LINESTRING Z (1 2 0, 1 2 -5, 3 4 -10)", z="drop")["coordinates"] == [[1, 2], [3, 4]]

    def test_vertices_above_one_another_of_the_same_height_are_one(self) -> None:
        assert written("LINESTRING Z (1 2 0, 1 2 0, 3 4 0)")["coordinates"] == [[1, 2, 0], [3, 4, 0]]

    def test_vertices_above_one_another_enclose_no_area(self) -> None:
        wall = frame([shapely.from_wkt("POLYGON Z ((0 0 0, 1 0 0, 1 0 5, 0 0 5, 0 0 0))"), Point(0, 0)])

        assert streamed(wall)[1].dropped == {"smaller than the precision": 1}


@pytest.mark.parametrize("on_invalid", ["fix", "drop"])
def test_a_collection_that_loses_its_members_for_several_reasons_is_dropped_once(on_invalid: str) -> None:
    short, far = LineString([(0, 0), (1e-9, 0)]), Point(0, 88)
    bow = Polygon([(0, 0), (1e-9, 1e-9), (1e-9, 0), (0, 1e-9), (0, 0)])
    source = frame([GeometryCollection([short, far]), GeometryCollection([far, bow, short]), far, Point(0, 0)])

    document, report = streamed(source, beyond_mercator="clip", on_invalid=on_invalid)

    assert len(document["features"]) == 1
    assert sum(report.dropped.values()) == report.features_read - report.features == 3


def test_a_collection_that_keeps_a_member_is_not_dropped() -> None:
    source = frame([GeometryCollection([LineString([(0, 0), (1e-9, 0)]), Point(0, 88), Point(1, 1)])])

    assert streamed(source, beyond_mercator="clip")[1].dropped == {}
