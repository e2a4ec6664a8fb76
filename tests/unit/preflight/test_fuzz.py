"""The check returns a report for any bytes."""

from __future__ import annotations

import random

import pytest

from airflow_mapbox.preflight import SourceReport, check_source
from tests.unit.preflight.support import CSV, GPX, KML, MBTILES, POINT, TIFF, ZIP, Stream, Write, as_bytes, collection

SEEDS = {
    "a.geojson": as_bytes(collection(POINT, POINT, crs={"type": "name", "properties": {"name": "EPSG:4326"}})),
    "a.csv": CSV * 3,
    "b.csv": b'id;wkt\n1;"POLYGON ((0 0, 1 0, 1 1, 0 0))"\n',
    "a.kml": KML,
    "a.gpx": GPX,
    "a.zip": ZIP,
    "a.mbtiles": MBTILES,
    "a.tif": TIFF,
}
FRAGMENTS = [
    b"",
    b"\x00",
    b"\xff",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\n",
    b"1e999",
    b"null",
    b"-",
    b"\xef\xbb\xbf",
    b"a" * 99,
]


@pytest.mark.parametrize("name", SEEDS)
def test_randomly_changed_files_get_a_report(write: Write, name: str) -> None:
    chance = random.Random(name)
    for _ in range(200):
        data = bytearray(SEEDS[name])
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.choice((0, 1, 1, 2, 30))] = chance.choice(FRAGMENTS)
        padding = b" " * chance.choice((0, 0, 70_000))

        assert isinstance(check_source(write(bytes(data) + padding, name)), SourceReport)
        assert isinstance(check_source(Stream(bytes(data) + padding, name)), SourceReport)
