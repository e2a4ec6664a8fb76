"""CSV is checked by its first rows."""

from __future__ import annotations

import pytest

from airflow_mapbox.preflight import check_source
from airflow_mapbox.preflight.csvrows import CSVCheck
from airflow_mapbox.preflight.findings import Content
from tests.unit.preflight.support import Stream, Write


def table(*rows: str, header: str = "lon,lat,name") -> bytes:
    return "\n".join((header, *rows, "")).encode()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (table(), "a header and no rows"),
        (table("", "", ",,"), "a header and no rows"),
        (b"lon,lat", "a header and no rows"),
        (table("here,there,x"), "no coordinates that Mapbox can read"),
        (table(",,x", "N/A,N/A,y"), "no coordinates that Mapbox can read"),
        (table("13;52;x"), "no coordinates that Mapbox can read"),
        (table("nan,inf,x"), "no coordinates that Mapbox can read"),
        (table("13,4;52,5;x", header="lon;lat;name"), "no coordinates that Mapbox can read"),
        (table("13°24'E,52°30'N,x"), "no coordinates that Mapbox can read"),
        (table("500000,4649776,x", "500001,4649777,y"), "another reference system"),
        (table("52.5,-120.4,x"), "latitude comes first"),
        (table("0,-89,x"), "Web Mercator"),
        (table("a,POINT (1", header="id,wkt"), "no coordinates that Mapbox can read"),
        (table("a,SRID=4326;POINT (1 2)", header="id,wkt"), "no coordinates that Mapbox can read"),
        (table('a,"LINESTRING (500000 4649776, 500001 4649777)"', header="id,wkt"), "another reference system"),
        (table('a,"{""type"":""Point""}"', header="id,geojson"), "no coordinates that Mapbox can read"),
        (table('a,"{""type"":""Point"",""coordinates"":[5e5,4e6]}"', header="id,geojson"), "another reference system"),
        ("lon,lat,name\n13.4,52.5,Zürich\n".encode("latin-1"), "not UTF-8"),
        ("lon,lat,name\n13.4,52.5,Zürich\n".encode("utf-16"), "not a format that Mapbox accepts"),
        (b"lon,lat,name\n13.4,52.5,a\x00b\n", "NUL"),
    ],
)
def test_a_table_without_readable_positions_is_a_problem(write: Write, content: bytes, why: str) -> None:
    (problem,) = map(str, check_source(write(content, "a.csv")).problems)

    assert why in problem
    assert problem.startswith("a.csv ")


@pytest.mark.parametrize(
    "content",
    [
        table("13.4,52.5,Berlin"),
        table(" 13.4 , 52.5 ,Berlin", "-1e1,+5.,x"),
        table("13.4;52.5;Berlin", header="lon;lat;name"),
        table('1,"POINT (1 2)"', '2,"POLYGON ((0 0, 1 0, 1 1, 0 0))"', header="id,wkt"),
        table("1|POINT Z (1 2 3)", header="id|GEOM"),
        table('1,"{""type"":""Point"",""coordinates"":[1,2]}"', header="id,geojson"),
        table('13.4,52.5,"a\nb, c"', '13.4,52.5,"say ""hi"""'),
        b"lon,lat\r13.4,52.5\r",
        b"\r\n\r\nlon,lat\r\n13.4,52.5\r\n\r\n",
        b"lon,lat\n13.4,52.5",
    ],
)
def test_a_table_with_positions_passes(write: Write, content: bytes) -> None:
    report = check_source(write(content, "a.csv"))

    assert (report.format, report.problems, report.warnings) == ("CSV", (), ())


def test_some_rows_without_a_position_are_a_warning_with_a_row_number(write: Write) -> None:
    report = check_source(write(table("1,2,x", "N/A,,y", "3,4,z"), "a.csv"))

    assert report.ok
    (warning,) = map(str, report.warnings)
    assert "1 of 3 rows" in warning
    assert "row 3" in warning
    assert "'N/A'" in warning


@pytest.mark.parametrize("row", ["1,,", "1,N/A,N/A"])
def test_a_large_table_whose_first_rows_have_no_position_is_a_warning(write: Write, row: str) -> None:
    rows = table(*[row] * 20_000, *["2,13.4,52.5"] * 20_000, header="id,lon,lat")

    report = check_source(write(rows, "a.csv"))

    assert report.ok
    (warning,) = map(str, report.warnings)
    assert "no coordinates that Mapbox can read" in warning
    assert "Mapbox leaves such rows out" in warning


def test_some_rows_beyond_the_map_are_a_warning(write: Write) -> None:
    report = check_source(write(table("1,2,x", "500000,4649776,y"), "a.csv"))

    assert report.ok
    assert "row 3" in str(report.warnings[0])


def test_a_row_cut_at_the_end_of_the_first_part_is_not_checked() -> None:
    rows = table(*["13.4,52.5,Berlin"] * 10_000)

    assert check_source(Stream(rows, "s3://bucket/a.csv")).problems == ()


def test_a_first_row_larger_than_the_first_part_passes(write: Write) -> None:
    polygon = ", ".join(["0 0"] * 40_000)

    assert check_source(write(table(f'1,"POLYGON (({polygon}))"', header="id,wkt"), "a.csv")).ok


@pytest.mark.parametrize("junk", [b"\xfc", b"\x00"])
def test_the_end_of_a_local_file_is_checked(write: Write, junk: bytes) -> None:
    rows = table(*["13.4,52.5,Berlin"] * 20_000) + b"13.4,52.5," + junk + b"\n"

    assert not check_source(write(rows, "a.csv")).ok


def test_collections_in_collections_are_unreadable_and_many_in_one_are_not() -> None:
    nested = "GEOMETRYCOLLECTION(" * 200_000
    beside = f"GEOMETRYCOLLECTION({','.join(['GEOMETRYCOLLECTION(POINT(1 2))'] * 200)})"
    content = Content()
    check = CSVCheck(content)
    check.feed(f'wkt\n"{nested}"\n"{beside}"\n'.encode())

    findings = check.close()

    assert [found.name for found in findings] == ["csv-skipped-rows"]
    assert content.bounds == (1, 2, 1, 2)
