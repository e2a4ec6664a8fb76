"""Formats are recognised by Mapbox's rules, and no binary file passes as text."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from pathlib import Path
from typing import Any

import geopandas
import pyarrow
import pyarrow.feather
import pytest
import shapely

from airflow_mapbox.preflight import check_source, formats
from airflow_mapbox.preflight.sniff import sniff
from tests.unit.preflight.support import CSV, GPX, KML, MBTILES, POINT, TIFF, ZIP, Stream, Write, as_bytes, collection

GEOJSON = as_bytes(collection(POINT))
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (GEOJSON, formats.GEOJSON),
        (BOM + GEOJSON, formats.GEOJSON),
        (b" \n\t" + GEOJSON, formats.GEOJSON),
        (b'{ "type" : "FeatureCollection" , ', formats.GEOJSON),
        (b'{"type":\n"Feature",', formats.GEOJSON),
        (b'{"name":"' + b"x" * 300 + b'","features":[', formats.GEOJSON),
        (b'{"name":"' + b"x" * 400 + b'","features":[', None),
        (b'{"type":"Feature","properties":{"arcs": 1}}', None),
        (b'{"tilejson" : "2.0"}', None),
        (b'{"type":"Topology"}', None),
        (b"[1,2]", None),
        (b"{}", None),
        (KML, formats.KML),
        (BOM + KML, formats.KML),
        (b"\n" * 2 + KML, None),
        (KML.partition(b"?>")[2], None),
        (KML.replace(b"<kml", b"<!--" + b"x" * 100 + b"--><kml"), None),
        (KML.replace(b"<kml", b"<k:kml"), None),
        (GPX, formats.GPX),
        (b"<html></html>", None),
        (MBTILES, formats.MBTILES),
        (ZIP, formats.SHAPEFILE),
        (b"PK,lon,lat\n1,2,3\n", formats.SHAPEFILE),
        (TIFF, formats.TIFF),
        (b"MM\x00*", formats.TIFF),
        (b"II+\x00", formats.TIFF),
        (b"MM\x00+", None),
        (CSV, formats.CSV),
        (CSV.replace(b",", b";"), formats.CSV),
        (CSV.replace(b",", b"\t"), formats.CSV),
        (CSV.replace(b",", b"|"), formats.CSV),
        (b"lon;lat;a,b\n", formats.CSV),
        (b"lon,lat;a,b\n", None),
        (b"\r\n\r\nLNG,LAT\r", formats.CSV),
        (b"id,WKT\n", formats.CSV),
        (b"id,the_geom\n", None),
        (b"id, wkt\n", None),
        (BOM + b"wkt,id\n", None),
        (BOM + b"id,wkt\n", formats.CSV),
        (BOM + b"longitude,latitude\n", formats.CSV),
        (b"c," * 200 + b"lon,lat\n", formats.CSV),
        (b"c," * 260 + b"lon,lat\n", None),
    ],
)
def test_the_first_bytes_decide_the_format_like_at_mapbox(head: bytes, expected: formats.Format | None) -> None:
    assert sniff(head) is expected


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["lon,lat,name", '"x","y","name"', "name,LATITUDE,LONGITUDE"])
def test_csv_passes_with_each_of_the_four_separators(write: Write, separator: str, header: str) -> None:
    row = "13.4,52.5,Berlin" if not header.startswith("name") else "Berlin,52.5,13.4"
    table = f"{header}\n{row}\n".replace(",", separator).encode()

    report = check_source(write(table, "a.csv"))

    assert (report.format, report.problems, report.warnings) == ("CSV", (), ())


@pytest.mark.parametrize(
    ("content", "name", "remedy"),
    [
        (BOM + CSV, "a.csv", "byte order mark"),
        (b"id, lon, lat\n1,2,3\n", "a.csv", "without spaces"),
        (b"id,the_geom\n", "a.csv", "exactly wkt"),
        (b"PK,lon,lat\n1,2,3\n", "a.csv", "zip"),
        (KML.partition(b"?>")[2], "a.kml", "Begin the file with <?xml"),
        (b'{"name":"' + b"x" * 500 + b'",' + GEOJSON[1:], "a.geojson", "Write `type` first"),
        (b"\x1e" + json.dumps(POINT).encode() + b"\n", "a.geojson", 'format="auto"'),
        (b"MM\x00+" + bytes(20), "a.tif", "ENDIANNESS"),
        (b"{}", "a.json", "Check the task"),
        (b'{"type":"Topology"}', "a.json", "Check the task"),
    ],
)
def test_an_unknown_file_type_is_a_problem_with_a_remedy(write: Write, content: bytes, name: str, remedy: str) -> None:
    problems = [*map(str, check_source(write(content, name)).problems)]

    assert remedy in problems[0]


class Places:
    """A layer whose column names make binary files look like CSV: they contain commas and "longitude"."""

    frame = geopandas.GeoDataFrame(
        {"longitude": [7.1, 8.2], "latitude": [50.0, 51.0], "lon,lat,": ["a,b", "c,d"]},
        geometry=[shapely.Point(7.1, 50), shapely.Point(8.2, 51)],
        crs=4326,
    )


def _feather() -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(pyarrow.table({"longitude": [1.5], "latitude": [2.5], "lon,lat,": ["x"]}), sink)
    return sink.getvalue()


def _write_places(tmp_path: Path, suffix: str) -> bytes:
    path = tmp_path / f"places{suffix}"
    if suffix == ".parquet":
        Places.frame.to_parquet(path)
    else:
        Places.frame.to_file(path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["places", "places.csv", "places.geojson", "places.bin"])
@pytest.mark.parametrize("kind", [".fgb", ".parquet", ".gpkg", ".shp", "pickle", "feather", "gzip", "jpeg", "numpy"])
def test_no_binary_file_passes_as_text(write: Write, tmp_path: Path, kind: str, name: str) -> None:
    content: dict[str, Any] = {
        "pickle": lambda: pickle.dumps({"longitude": 1, "lon,lat,": 2, "latitude": 3}, protocol=5),
        "feather": _feather,
        "gzip": lambda: gzip.compress(CSV),
        "jpeg": lambda: b"\xff\xd8\xff\xe0,lon,lat,longitude,latitude\n" + bytes(20),
        "numpy": lambda: b"\x93NUMPY\x01\x00v\x00{'descr': ['longitude', '<f8'],lon,lat,\n" + bytes(16),
    }
    data = content[kind]() if kind in content else _write_places(tmp_path, kind)

    assert not check_source(write(data, name)).ok
    assert not check_source(Stream(data, f"s3://bucket/{name}")).ok


@pytest.mark.parametrize("junk", [b"\x00", b"\xff", b"\xc3\x28", b"\x80\x04\x95"])
def test_a_binary_byte_in_the_first_part_is_a_problem(write: Write, junk: bytes) -> None:
    (problem,) = map(str, check_source(write(CSV * 3 + b"1,2," + junk + b"\n" + b"1,2,3\n" * 20_000, "a.csv")).problems)

    assert "UTF-8" in problem or "NUL" in problem


@pytest.mark.parametrize("kind", [".gpkg", ".fgb", ".parquet", ".shp"])
def test_each_export_format_gets_the_same_remedy(write: Write, tmp_path: Path, kind: str) -> None:
    (problem,) = map(str, check_source(write(_write_places(tmp_path, kind), f"data{kind}")).problems)

    what, remedy = problem.splitlines()
    assert what.startswith(f"data{kind} is ")
    assert "which Mapbox does not accept." in what
    for words in ('format="auto"', "export={…}", "write_geojson"):
        assert words in remedy


def test_a_character_cut_at_the_end_of_the_first_part_is_not_a_problem(write: Write) -> None:
    for filling in range(4):
        rows = b"lon,lat,name\n" + b"x" * filling + "1,2,ü€😀\n".encode() * 9_000

        assert not [problem for problem in map(str, check_source(write(rows, "a.csv")).problems) if "UTF-8" in problem]
