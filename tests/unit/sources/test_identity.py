from __future__ import annotations

import pytest

from airflow_mapbox.sources.identity import is_dataset_url


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("mapbox://datasets/orion/cjz0", True),
        ("mapbox://datasets/orion/cjz0\n", False),
        ("mapbox://datasets/orion", False),
        ("mapbox://datasets/orion/cjz0/features", False),
        ("mapbox://tilesets/orion.cjz0", False),
        ("https://example.com/x.geojson", False),
        (None, False),
        (3, False),
    ],
)
def test_only_a_complete_dataset_url_is_a_dataset(source: object, expected: bool) -> None:
    assert is_dataset_url(source) is expected
