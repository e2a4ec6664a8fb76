"""What fewer decimals and attributes of a GeoJSON file would save."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from airflow_mapbox.preflight.savings import sampled_savings


def document(count: int, decimals: int = 15, **properties: Any) -> tuple[bytes, list[dict[str, Any]]]:
    rng = random.Random(1)
    features = [
        {
            "type": "Feature",
            "properties": properties,
            "geometry": {
                "type": "LineString",
                "coordinates": [[round(rng.uniform(-90, 90), decimals) for _ in range(2)] for _ in range(20)],
            },
        }
        for _ in range(count)
    ]
    return _written(features), features


def _written(features: list[dict[str, Any]]) -> bytes:
    return json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":")).encode()


@pytest.mark.parametrize("decimals", [7, 6, 5])
def test_the_saving_of_fewer_decimals_is_what_writing_them_saves(decimals: int) -> None:
    data, features = document(1_000)
    savings = sampled_savings(data[:65_536], len(data))
    assert savings is not None

    for feature in features:
        positions = feature["geometry"]["coordinates"]
        feature["geometry"]["coordinates"] = [
            [round(number, decimals) for number in position] for position in positions
        ]
    saved = len(data) - len(_written(features))

    assert savings.decimals[decimals] == pytest.approx(saved, rel=0.02)


def test_the_saving_of_an_attribute_is_what_leaving_it_out_saves() -> None:
    properties = {"name": "a long name of a road", "lanes": 4, "note": None}
    data, features = document(1_000, **properties)
    savings = sampled_savings(data[:65_536], len(data))
    assert savings is not None

    for feature in features:
        feature["properties"] = {key: value for key, value in properties.items() if key != "name"}

    assert savings.attributes["name"] == pytest.approx(len(data) - len(_written(features)), rel=0.02)
    assert set(savings.attributes) == {"name", "lanes", "note"}


def test_the_bytes_of_coordinates_are_those_in_the_file() -> None:
    data, features = document(1_000)
    savings = sampled_savings(data[:65_536], len(data))
    assert savings is not None

    written = (json.dumps(feature["geometry"]["coordinates"], separators=(",", ":")) for feature in features)
    assert savings.coordinates == pytest.approx(sum(map(len, written)), rel=0.02)


def test_seven_decimals_save_nothing_if_there_are_no_more() -> None:
    data, _ = document(10, decimals=7)

    savings = sampled_savings(data, len(data))

    assert savings is not None
    assert 7 not in savings.decimals


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"type":"FeatureCollection","features":[]}', b'{"features":[{"type":"F']
)
def test_without_a_complete_feature_nothing_is_known(data: bytes) -> None:
    assert sampled_savings(data, 100) is None
