"""GeoJSON that is checked while its bytes pass: any size of parts gives the same findings as the whole at once."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mapbox.preflight.features import Features
from airflow_mapbox.preflight.findings import Content, Finding
from airflow_mapbox.preflight.geojson import GeoJSONCheck
from airflow_mapbox.rules import files
from airflow_mapbox.rules import geojson as rules
from tests.unit.preflight.support import POINT, collection, with_geometry

RING = [[0, 0], [1, 0], [1, 1], [0, 0]]


def check(data: bytes, part: int = 1 << 18) -> tuple[list[Finding], Content]:
    content = Content()
    checked = GeoJSONCheck(content)
    for start in range(0, len(data), part):
        checked.feed(data[start : start + part])
    return checked.close(), content


def names(findings: list[Finding]) -> list[str]:
    return sorted(found.name for found in findings)


def many(count: int, **geometry: Any) -> bytes:
    """Return a collection that is larger than what is checked at once."""
    features = [with_geometry(**geometry) | {"properties": {"text": "x" * 500, "n": n}} for n in range(count)]
    return json.dumps(collection(*features)).encode()


LARGE = many(2_000, type="Polygon", coordinates=[RING])


@pytest.mark.parametrize("part", [1, 7, 1000, 65_536, 1 << 20])
def test_the_size_of_the_parts_changes_nothing(part: int) -> None:
    data = LARGE[:100_000].rpartition(b", {")[0] + b"]}" if part == 1 else LARGE

    findings, content = check(data, part)

    assert findings == []
    assert content.features == data.count(b'"n":')
    assert content.bounds == (0, 0, 1, 1)


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "Point", "coordinates": [1, 2, 3]},
        {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]},
        {"type": "LineString", "coordinates": [[1, 2], [3, 4]]},
        {"type": "MultiLineString", "coordinates": [[[1, 2], [3, 4]]]},
        {"type": "Polygon", "coordinates": [RING, RING]},
        {"type": "MultiPolygon", "coordinates": [[RING], [RING]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]},
    ],
)
def test_each_type_of_geometry_is_counted_in_chunks_as_one_by_one(geometry: dict[str, Any]) -> None:
    data = many(1_500, **geometry)
    expected = Features()
    for feature in json.loads(data)["features"]:
        assert expected.add(feature) is None

    findings, content = check(data)

    assert findings == []
    assert (content.features, content.bounds) == (expected.count, expected.bounds)


@pytest.mark.parametrize("separator", [b",", b" ,\n", b",\r\n\t", b", "])
@pytest.mark.parametrize("order", ["type first", "type last"])
def test_features_are_found_whatever_separates_them(separator: bytes, order: str) -> None:
    feature: dict[str, Any] = with_geometry(type="Point", coordinates=[1, 2]) | {"properties": {"a": '},{"type"' * 20}}
    if order == "type last":
        feature = dict(reversed(feature.items()))
    one = json.dumps(feature).encode()

    findings, content = check(b'{"type":"FeatureCollection","features":[' + separator.join([one] * 3000) + b"]}")

    assert findings == []
    assert content.features == 3000


@pytest.mark.parametrize("index", [0, 1, 700, 1_999])
@pytest.mark.parametrize(
    ("geometry", "rule"),
    [
        ({"type": "Point", "coordinates": [[1, 2]]}, rules.FEATURE),
        ({"type": "Polygon", "coordinates": [RING[:3]]}, rules.FEATURE),
        ({"type": "Point", "coordinates": [181, 2]}, rules.RANGE),
        ({"type": "Point", "coordinates": [1, 86]}, rules.RANGE),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}, rules.UNCLOSED_RING),
        ({"type": "Point", "coordinates": [1, 2, None]}, rules.NULL_HEIGHT),
    ],
)
def test_a_finding_anywhere_names_its_feature(index: int, geometry: dict[str, Any], rule: Any) -> None:
    document = json.loads(LARGE)
    document["features"][index]["geometry"] = geometry

    findings, _ = check(json.dumps(document).encode())

    assert [(found.rule, found.where) for found in findings] == [(rule, f"feature {index}")]


def test_several_kinds_of_problems_are_reported_together() -> None:
    document = json.loads(LARGE) | {"crs": {"type": "name", "properties": {"name": "EPSG:3857"}}}
    document["features"][3]["geometry"] = {"type": "Point", "coordinates": [500_000, 2]}
    document["features"][1_900]["geometry"] = {"type": "Point"}

    findings, _ = check(json.dumps(document).encode())

    assert names(findings) == ["geojson-crs", "geojson-feature", "geojson-range"]


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3\x28"])
def test_a_byte_that_is_not_utf8_is_named_by_its_place(bad: bytes) -> None:
    place = 600_000
    data = LARGE[:place] + LARGE[place:].replace(b"x", bad, 1)

    findings, _ = check(data)

    assert [found.rule for found in findings] == [files.NOT_TEXT]
    assert findings[0].where == f"byte {data.index(bad):,}"


def test_an_escaped_half_of_a_character_is_a_warning() -> None:
    findings, content = check(LARGE.replace(b'"xxx', b'"\\ud83dxxx', 5))

    assert names(findings) == ["geojson-surrogate"]
    assert content.features == 2_000


@pytest.mark.slow
def test_a_feature_of_more_than_5_mib_ends_the_check_with_a_note() -> None:
    huge = with_geometry(type="MultiPoint", coordinates=[[1.5, 2.5]] * 1_000_000)

    findings, content = check(json.dumps(collection(POINT, huge, POINT)).encode())

    assert findings == []
    assert content.features is None
    assert "Feature 1 has more than 5 MiB" in content.notes[0]


def test_a_file_that_is_refused_anyway_is_not_explained_to_its_end() -> None:
    data = many(30_000, type="Point", coordinates=[500_000, 4_600_000])

    findings, content = check(data)

    assert names(findings) == ["geojson-range"]
    assert "because Mapbox refuses the file anyway" in content.notes[0]


@pytest.mark.parametrize("end", [b"", b"]", b"]}]", b"]} {}", b'],"a":', b"]]}", b",]}"])
def test_an_end_that_is_not_json_is_a_problem(end: bytes) -> None:
    findings, _ = check(LARGE.removesuffix(b"]}") + end)

    assert [found.rule.name in ("geojson-json", "geojson-lines") for found in findings] == [True]


NUMBERS = st.one_of(st.integers(-200, 200), st.floats(-180, 180), st.sampled_from([None, "1", True, 1e300, -0.0]))
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 5),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
POSITIONS = st.lists(NUMBERS, min_size=0, max_size=4)
GEOMETRIES = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["Point", "MultiPoint", "LineString", "Polygon", "MultiPolygon", "GeometryCollection", "x"]
            ),
            "coordinates": st.one_of(
                POSITIONS, st.lists(POSITIONS, max_size=5), st.lists(st.lists(POSITIONS, max_size=5), max_size=2)
            ),
        }
    ),
)
FEATURES = st.one_of(
    st.fixed_dictionaries({"type": st.just("Feature"), "geometry": GEOMETRIES, "properties": JSON}),
    JSON,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FEATURES, max_size=6), st.integers(1, 200))
def test_any_features_have_the_findings_of_one_by_one(features: list[Any], part: int) -> None:
    data = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    expected = Features()
    problem = next(filter(None, map(expected.add, json.loads(data)["features"])), None)

    findings, _ = check(data, part)

    assert (problem in findings) if problem is not None else (rules.FEATURE not in [found.rule for found in findings])


@pytest.mark.parametrize("seed", range(3))
def test_a_changed_document_is_json_for_the_check_if_it_is_for_orjson(seed: int) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}")
    base = json.dumps(collection(*[POINT | {"properties": {"a": 'é"\\', "b": [1.5e-7, None]}}] * 40)).encode()
    for _ in range(400):
        data = bytearray(base)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 2)] = rng.choice(
                [b"", b'"', b"}", b"]", b",", b"[", b"{", b"\\", b"1", b" ", b"\x01"]
            )
        findings, _ = check(bytes(data), rng.choice([50, 1000, 10_000]))
        is_refused = any(found.rule in (rules.NOT_JSON, rules.LINES, files.NOT_TEXT) for found in findings)
        try:
            orjson.loads(bytes(data))
        except orjson.JSONDecodeError:
            assert is_refused or findings, bytes(data)
        else:
            assert not is_refused, bytes(data)
