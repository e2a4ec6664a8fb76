"""Positions are written as the decimals that they are, and read as the numbers that they were."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, MultiPoint, Point

from airflow_mapbox.export import stream_geojson
from airflow_mapbox.export.errors import CoordinatesError
from airflow_mapbox.export.text.positions import position_strings
from tests.unit.export.support import features, frame, streamed


def written(*ordinates: list[float], decimals: int = 7) -> list[str]:
    """Give one text a position, of ordinates in whole numbers."""
    texts = position_strings([np.array(ordinate, np.float64) for ordinate in ordinates], decimals, None)
    texts.validate(full=True)
    return list(texts.to_pylist())


class TestNumbers:
    @pytest.mark.parametrize(
        ("whole", "decimals", "text"),
        [
            (0, 7, "0.0"),
            (-0.0, 7, "0.0"),
            (1, 7, "0.0000001"),
            (-1, 7, "-0.0000001"),
            (-1_800_000_000, 7, "-180.0"),
            (1_799_999_999, 7, "179.9999999"),
            (12_340_000, 7, "1.234"),
            (10_000_000, 7, "1.0"),
            (10_001_000, 7, "1.0001"),
            (10_000_100, 7, "1.00001"),
            (99_000, 7, "0.0099"),
            (-77, 0, "-77.0"),
            (77, 1, "7.7"),
            (70, 1, "7.0"),
            (1_234_567, 4, "123.4567"),
            (1_230_000, 4, "123.0"),
            (12_345_678_901, 8, "123.45678901"),
            (179_000_000_000_001, 12, "179.000000000001"),
            (123_456_789_012_345_680, 15, "123.45678901234568"),
        ],
    )
    def test_numbers_have_their_digits_and_no_zeros_at_the_end(self, whole: float, decimals: int, text: str) -> None:
        assert written([whole], [0], decimals=decimals) == [f"{text},0.0"]
        # Latitudes and heights come from another table.
        assert written([0], [whole], [whole], decimals=decimals) == [f"0.0,{text},{text}"]

    @pytest.mark.parametrize(
        "height",
        [999.5, -999.5, 1000.25, 8848.86, -10_994, 99_999.5, -100_000, 384_400_000, 1e12, -1e22, 3.4e38, 1e280],
    )
    def test_heights_may_be_of_any_size(self, height: float) -> None:
        text = written([0, 0], [0, 0], [height * 1e7, 0])

        # Where floats are further apart than the last decimal there is nothing to be exact about.
        assert json.loads(f"[{text[0]}]")[2] == (
            height if abs(height) < 2**53 / 1e7 else pytest.approx(height, rel=1e-15)
        )
        assert text[1] == "0.0,0.0,0.0"
        assert written([0], [0], [8e19], decimals=15) == ["0.0,0.0,80000.0"]

    def test_random_numbers_read_back_equal(self) -> None:
        seed = np.random.SeedSequence().entropy
        print("seed", seed)
        rng = np.random.default_rng(seed)
        for turn in range(200):
            # Once more than one block; of all decimals, many or few of them zero.
            count = int(rng.integers(1, 200)) if turn else 70_000
            decimals = int(rng.integers(0, 16))
            ends = 10.0 ** rng.integers(0, decimals + 1, count)
            limits = [180, 90, 10 ** rng.uniform(0, 12)][: int(rng.integers(2, 4))]
            ordinates = [
                np.rint(np.rint(rng.uniform(-limit, limit, count) * 10.0**decimals / ends) * ends) for limit in limits
            ]
            paths = np.unique(np.concatenate(([0, count], rng.integers(0, count, 5))))

            texts = position_strings(ordinates, decimals, paths)

            texts.validate(full=True)
            read = [json.loads(f"[[{text}]]", parse_float=Decimal) for text in texts.to_pylist()]
            assert [len(path) for path in read] == np.diff(paths).tolist()
            exact = [[Decimal(int(number)).scaleb(-decimals) for number in row] for row in np.stack(ordinates, axis=1)]
            assert [position for path in read for position in path] == exact


class TestGeometries:
    def test_no_space_is_between_coordinates(self) -> None:
        line = LineString([(1, 2), (-3.25, 4)])

        (feature,) = features(frame([line]))

        assert feature["geometry"]["coordinates"] == [[1, 2], [-3.25, 4]]
        text = b"".join(stream_geojson(frame([line])))
        assert b'"coordinates":[[1.0,2.0],[-3.25,4.0]]' in text

    def test_points_of_a_multipoint(self) -> None:
        text = b"".join(stream_geojson(frame([MultiPoint([(1, 2, 3), (4, 5, 6)])])))

        assert b'"coordinates":[[1.0,2.0,3.0],[4.0,5.0,6.0]]' in text

    def test_a_height_that_cannot_be_one_is_refused(self) -> None:
        with pytest.raises(
            CoordinatesError, match=r'(?s)Feature 1 has a height in the source that is not finite.*z="drop"'
        ):
            streamed(frame([Point(0, 0, 1), Point(0, 0, 1e300)]))

    @pytest.mark.slow
    def test_a_line_may_have_more_vertices_than_a_block(self) -> None:
        rng = np.random.default_rng(1)
        vertices = np.round(rng.uniform(-80, 80, (200_000, 2)), 7)

        (feature,) = features(frame([shapely.LineString(vertices)]))

        assert np.array_equal(np.array(feature["geometry"]["coordinates"]), vertices)
