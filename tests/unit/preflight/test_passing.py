"""Streams that are checked while they are sent."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from airflow_mapbox.errors import SourceError
from airflow_mapbox.preflight import SourceReport, check_source
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
    told: list[SourceReport] = []
    source = open_source(parts(data))
    report = check_source(source)
    assert report.ok
    assert not report.is_complete
    check_while_sent(source, report, told.append)

    with source.open() as stream, pytest.raises(SourceError, match=what):
        read(stream)
    assert what in str(told[0].problems[0]), "the whole report is told before the error"


@pytest.mark.parametrize("data", [json.dumps(collection(*MANY)).encode(), CSV * 20_000, kml(cut=0)])
def test_a_stream_without_problems_is_passed_on_whole_and_its_facts_are_known_afterwards(data: bytes) -> None:
    told: list[SourceReport] = []
    source = open_source(parts(data))
    check_while_sent(source, check_source(source), told.append)

    with source.open() as stream:
        assert read(stream) == len(data)

    assert source.facts["features"] > 1_000
    assert len(source.facts["bounds"]) == 4
    assert source.facts["bill"]["bytes"] == len(data)
    assert (told[0].ok, told[0].is_complete) == (True, True)


def test_a_file_that_was_checked_whole_is_not_checked_again() -> None:
    told: list[SourceReport] = []
    source = open_source(io.BytesIO(json.dumps(collection(POINT)).encode()))
    report = check_source(source)
    check_while_sent(source, report, told.append)

    assert report.is_complete
    with source.open() as stream:
        assert type(stream).__name__ != "CheckedStream"


def test_warnings_of_a_stream_are_told_when_it_has_been_sent() -> None:
    told: list[SourceReport] = []
    ring = with_geometry(type="Polygon", coordinates=[[[0, 0], [1, 0], [1, 1], [0, 1]]])
    source = open_source(parts(json.dumps(collection(*MANY, ring)).encode()))
    check_while_sent(source, check_source(source), told.append)

    with source.open() as stream:
        read(stream)

    assert [found.name for found in told[0].warnings] == ["geojson-ring"]


def test_a_buffer_that_is_filled_again_is_read_when_it_comes() -> None:
    data = json.dumps(collection(*MANY)).encode()

    def views() -> Iterator[bytes]:
        buffer = bytearray(10_000)
        for part in parts(data):
            buffer[: len(part)] = part
            yield memoryview(buffer)[: len(part)]  # type: ignore[misc]

    source = open_source(views())
    check_while_sent(source, check_source(source), lambda report: None)

    with source.open() as stream:
        assert read(stream) == len(data)


def test_the_area_that_an_export_knows_is_kept() -> None:
    source = open_source(parts(json.dumps(collection(*MANY)).encode()))
    source.facts["bill"] = {"area_km2": 44.5}
    check_while_sent(source, check_source(source), lambda report: None)

    with source.open() as stream:
        read(stream)

    assert source.facts["bill"] == {"area_km2": 44.5}
