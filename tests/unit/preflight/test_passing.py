"""Streams that are checked while they are sent."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from airflow_mapbox.errors import SourceError
from airflow_mapbox.preflight import check_source
from airflow_mapbox.preflight.source import check_while_sent
from airflow_mapbox.sources.resolve import open_source
from tests.unit.preflight.support import CSV, POINT, collection, with_geometry

FAR = with_geometry(type="Point", coordinates=[500_000, 4_649_776])
MANY = [POINT] * 3_000
KML_PLACE = "<Placemark><Point><coordinates>1,2</coordinates></Point></Placemark>"


def kml(*, cut: int) -> bytes:
    page = (
        f'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Folder>{KML_PLACE * 2_000}</Folder></kml>'
    )
    return page.encode()[: len(page) - cut]


def parts(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 10_000):
        yield data[start : start + 10_000]


def read(stream: object) -> int:
    total = 0
    while data := stream.read(50_000):  # type: ignore[attr-defined]
        total += len(data)
    return total


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (json.dumps(collection(*MANY, FAR)).encode(), "another reference system"),
        (json.dumps(collection(*MANY)).encode()[:-1], "cut off"),
        (json.dumps(collection(*MANY, {"type": "Feature", "geometry": 7})).encode(), "feature 3000"),
        (CSV + b"1,2,x\n" * 30_000 + b"\xff,2,x\n", "not UTF-8"),
        (kml(cut=10), "cut off"),
    ],
    ids=["range", "cut", "feature", "text", "xml"],
)
def test_a_problem_behind_the_beginning_ends_the_stream_with_an_error(data: bytes, what: str) -> None:
    source = open_source(parts(data))
    report = check_source(source)
    assert report.ok
    assert not report.is_complete
    check_while_sent(source, report)

    with source.open() as stream, pytest.raises(SourceError, match=what):
        read(stream)


@pytest.mark.parametrize("data", [json.dumps(collection(*MANY)).encode(), CSV * 20_000, kml(cut=0)])
def test_a_stream_without_problems_is_passed_on_whole_and_its_facts_are_known_afterwards(data: bytes) -> None:
    source = open_source(parts(data))
    check_while_sent(source, check_source(source))

    with source.open() as stream:
        assert read(stream) == len(data)

    assert source.facts["features"] > 1_000
    assert len(source.facts["bounds"]) == 4
    assert source.facts["bill"]["bytes"] == len(data)


def test_a_file_that_was_checked_whole_is_not_checked_again() -> None:
    source = open_source(io.BytesIO(json.dumps(collection(POINT)).encode()))
    report = check_source(source)
    check_while_sent(source, report)

    assert report.is_complete
    with source.open() as stream:
        assert type(stream).__name__ != "CheckedStream"
