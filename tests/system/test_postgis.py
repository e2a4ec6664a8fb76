"""A real PostgreSQL with PostGIS as the source of exports."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import shapely
from psycopg.rows import dict_row, scalar_row
from shapely.geometry import Point

from airflow_mapbox.export import PostGISQuery, write_mbtiles
from airflow_mapbox.export.errors import (
    AttributeNameError,
    AttributeValueError,
    SourceUnavailableError,
    UnreadableSourceError,
)
from airflow_mapbox.hooks.postgis import postgis_query
from demo.postgres import Postgres
from tests.unit.export.support import features, geometries, streamed

ROWS = 5000

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Postgres.is_installed(), reason="PostgreSQL is not installed: .ci/run does it"),
]

PLACES = f"""
CREATE EXTENSION postgis;
CREATE TABLE places AS
SELECT n AS id, 'Straße ' || n AS name, n / 7.0 AS ratio, (n / 100.0)::numeric(10, 2) AS price,
       n % 2 = 0 AS even, now() - n * interval '1 hour' AS seen, date '2026-01-01' + n AS day,
       ARRAY[n, n + 1] AS pair, jsonb_build_object('n', n) AS doc, interval '1 hour' * n AS took,
       CASE WHEN n % 10 = 0 THEN NULL ELSE ST_Transform(ST_SetSRID(ST_Point(n % 170, n % 80), 4326), 3857) END AS geom
FROM generate_series(1, {ROWS}) AS n;
CREATE TABLE ids AS SELECT 1::bigint AS id, 7::bigint AS n, ST_SetSRID(ST_Point(0, 0), 4326) AS geom
UNION ALL SELECT 9007199254740993, 8, ST_SetSRID(ST_Point(1, 1), 4326);
CREATE TABLE arcs AS SELECT ST_GeomFromText('CIRCULARSTRING(0 0, 1 1, 2 0)', 4326) AS geom;
CREATE TABLE zm AS SELECT 'SRID=4326;POINT ZM (1 2 3 4)'::geometry AS geom;
CREATE TABLE spheres AS SELECT ST_Point(13.4, 52.5)::geography AS place;
CREATE TABLE two AS SELECT ST_SetSRID(ST_Point(1, 2), 4326) AS a, ST_SetSRID(ST_Point(3, 4), 4326) AS b, 5 AS n;
CREATE TABLE raw AS SELECT ST_Point(1, 2) AS geom, 'x'::bytea AS photo;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, Any]]:
    with Postgres() as postgres:
        with psycopg.connect(**postgres.address) as connection:
            connection.execute(PLACES)
        yield postgres.address


@pytest.fixture
def query(server: dict[str, Any]) -> Any:
    def make(sql: str, **options: Any) -> PostGISQuery:
        return PostGISQuery(sql, lambda: psycopg.connect(**server), **options)

    return make


def test_rows_become_features(query: Any) -> None:
    document, report = streamed(query("SELECT * FROM places ORDER BY id;"))

    assert (report.features_read, report.features) == (ROWS, ROWS - ROWS // 10)
    assert report.dropped == {"no geometry": ROWS // 10}
    assert report.crs_from == ("EPSG:3857 (WGS 84 / Pseudo-Mercator)",)
    first = document["features"][0]
    assert first["geometry"]["coordinates"] == pytest.approx([1, 1])
    properties = first["properties"]
    assert (properties["id"], properties["name"], properties["even"], properties["day"]) == (
        1,
        "Straße 1",
        False,
        "2026-01-02",
    )
    assert properties["ratio"] == pytest.approx(1 / 7)
    assert properties["price"] == 0.01
    assert properties["seen"].endswith("+00:00")
    assert (properties["pair"], properties["took"]) == ("[1,2]", 3600)
    assert properties["doc"] == '{"n": 1}'
    ids = [feature["properties"]["id"] for feature in document["features"]]
    assert ids == [n for n in range(1, ROWS + 1) if n % 10]


def test_parameters_and_columns_choose(query: Any) -> None:
    chosen = features(query("SELECT * FROM places WHERE id < %s ORDER BY id", parameters=[4]), columns=["id"])

    assert [feature["properties"] for feature in chosen] == [{"id": 1}, {"id": 2}, {"id": 3}]
    with pytest.raises(AttributeNameError, match="no column called nothing"):
        features(query("SELECT * FROM places"), columns=["nothing"])


@pytest.mark.parametrize("parameters", [None, [1], {"id": 1}, []], ids=str)
def test_names_of_columns_may_have_percent_signs(query: Any, parameters: Any) -> None:
    sign = "%" if parameters is None else "%%"
    placeholder = {list: "%s", dict: "%(id)s"}[type(parameters)] if parameters else "1"
    sql = (
        f'SELECT {placeholder}::bigint AS "share {sign}", 1.5 AS "{sign}s", '
        f'ST_SetSRID(ST_Point(1, 2), 4326) AS "place {sign}"'
    )

    (only,) = features(query(sql, parameters=parameters))

    assert only["properties"] == {"share %": 1, "%s": 1.5}


@pytest.mark.parametrize(
    "made", [{"autocommit": True}, {"row_factory": dict_row}, {"autocommit": True, "row_factory": scalar_row}], ids=str
)
def test_a_connection_may_be_made_in_any_way(server: dict[str, Any], made: dict[str, Any]) -> None:
    rows = PostGISQuery("SELECT id, n, geom FROM ids ORDER BY n", lambda: psycopg.connect(**server, **made))

    found = features(rows)

    assert [feature["properties"]["n"] for feature in found] == [7, 8]
    assert found[1]["geometry"]["coordinates"] == [1, 1]


def test_the_cursor_is_the_servers_and_memory_a_batchs(query: Any, server: dict[str, Any]) -> None:
    """Another connection sees the cursor while rows are taken; a client's would be at its end with the first one."""
    large = query(
        "SELECT n, repeat('x', 2000) AS text, ST_SetSRID(ST_Point(0, 0), 4326) AS g FROM generate_series(1, 60000) n"
    )
    from airflow_mapbox.export import stream_geojson

    stream = stream_geojson(large)
    for _ in range(3):
        next(stream)
    with psycopg.connect(**server) as other:
        said = other.execute(
            "SELECT query FROM pg_stat_activity WHERE state = 'idle in transaction' AND pid <> pg_backend_pid()"
        ).fetchall()
    assert [query.split()[0] for (query,) in said] == ["FETCH"]
    stream.close()
    with psycopg.connect(**server) as other:
        for _ in range(100):
            (left,) = other.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = '' AND state LIKE 'idle in%'"
            ).fetchone() or (1,)
            if not left:
                break
            time.sleep(0.05)
    assert left == 0


def test_rows_of_several_reference_systems_are_refused(query: Any) -> None:
    srid = "CASE WHEN n < 1500 THEN 4326 ELSE %s END"
    mixed = f"SELECT ST_SetSRID(ST_Point(n, 2), {srid}) AS g FROM generate_series(1, 1500) n"

    with pytest.raises(UnreadableSourceError, match=r"(?s)Column 'g'.*SRID 4326, 32633.*ST_Transform\(\"g\", 4326\)"):
        features(query(mixed % 32633))
    with pytest.raises(UnreadableSourceError, match=r"(?s)SRID none, 4326.*ST_SetSRID"):
        features(query(mixed % 0), crs=4326)


def test_long_numbers_are_exact_and_alike_in_all_batches(query: Any) -> None:
    """The first batch has a thousand rows; only the second one has long ids and further decimals."""
    long = "1234567890123456789012345678901234567890"
    rows = query(
        f"SELECT n, CASE WHEN n = 1500 THEN {long}.125 ELSE 7 END AS id, CASE n WHEN 1500 THEN 1.75 ELSE 1.5 END AS x, "
        f"CASE n WHEN 1500 THEN {long} ELSE n END::numeric(50, 2) AS wide, 'NaN'::numeric AS nothing, "
        "ST_SetSRID(ST_Point(0, 0), 4326) AS g FROM generate_series(1, 1500) n ORDER BY n"
    )

    found = [feature["properties"] for feature in features(rows, as_text=["x"])]

    assert {row["id"] for row in found} == {"7", f"{long}.125"}
    assert {row["x"] for row in found} == {"1.5", "1.75"}
    assert (found[0]["wide"], found[-1]["wide"]) == ("1.00", f"{long}.00")
    assert {row["nothing"] for row in found} == {None}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("ARRAY['a', NULL, '\"b\"']", '["a",null,"\\"b\\""]'),
        ("ARRAY[[1, 2], [3, 4]]", "[[1,2],[3,4]]"),
        ("ROW(1, 'x')", '{"f1":1,"f2":"x"}'),
        ("NULL::int[]", None),
        ("interval '1 day 00:00:00.5'", 86400.5),
        ("NULL::interval", None),
        ("'[1,3)'::int4range", "[1,3)"),
        ("'00000000-0000-0000-0000-000000000001'::uuid", "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_values_are_written_as_of_other_sources(query: Any, value: str, written: object) -> None:
    (only,) = features(query(f"SELECT {value} AS v, ST_SetSRID(ST_Point(0, 0), 4326) AS g"))

    assert only["properties"] == {"v": written}


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
@pytest.mark.parametrize("end", ["infinity", "-infinity"])
def test_an_open_end_is_null(query: Any, kind: str, end: str) -> None:
    rows = query(
        f"SELECT n, CASE n WHEN 1 THEN '{end}' WHEN 2 THEN '1969-12-31' END::{kind} AS v, "
        "ST_SetSRID(ST_Point(0, 0), 4326) AS g FROM generate_series(1, 3) n ORDER BY n"
    )

    first, second, third = (feature["properties"]["v"] for feature in features(rows))

    assert (first, second[:10], third) == (None, "1969-12-31", None)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("'9999-12-31'::date", "9999-12-31"),
        ("'0044-03-15 BC'::date", "-0043-03-15"),
        ("'0044-03-15 12:00 BC'::timestamp", "-0043-03-15T12:00:00"),
        ("'0044-03-15 12:00:00.5+00 BC'::timestamptz", "-0043-03-15T12:00:00.500000+00:00"),
        ("'2000-01-01 00:35:47.483647'::timestamp", "2000-01-01T00:35:47.483647"),
        ("'2026-01-02 03:04:05+02'::timestamptz", "2026-01-02T01:04:05+00:00"),
        ("'24:00'::time", "24:00:00"),
        ("'08:30:00.5'::time", "08:30:00.5"),
    ],
)
def test_dates_and_times_that_python_has_not_are_written_as_iso_8601_does(query: Any, value: str, written: str) -> None:
    (only,) = features(query(f"SELECT {value} AS v, ST_SetSRID(ST_Point(0, 0), 4326) AS g"))

    assert only["properties"] == {"v": written}


@pytest.mark.parametrize("value", ["'5874897-12-31'::date", "'294276-12-31'::timestamp", "'40000-01-01'::timestamptz"])
def test_dates_that_have_no_text_name_their_column_and_the_cast(query: Any, value: str) -> None:
    with pytest.raises(AttributeValueError, match=r"(?s)Column 'v' has dates beyond the year 32767.*::text"):
        features(query(f"SELECT {value} AS v, ST_SetSRID(ST_Point(0, 0), 4326) AS g"))


@pytest.mark.parametrize(
    "end",
    ["", ";", "; -- the last; one", " -- all of them", ";; /* one; two */ ;\n", " /* a */ -- b\n; -- 'c"],
)
@pytest.mark.parametrize("text", ["'; -- '", "E'\\'; --'", "$$; -- '$$", "$a$; $$ --$a$", '"; --"'])
def test_what_follows_a_query_is_no_part_of_it(query: Any, text: str, end: str) -> None:
    value = "1" if text.startswith('"') else text
    named = text if text.startswith('"') else "v"

    (only,) = features(query(f"SELECT ST_SetSRID(ST_Point(0, 0), 4326) AS g, {value} AS {named}{end}"))

    assert len(only["properties"]) == 1


def test_a_server_that_does_not_answer_may_answer_later(query: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    unreachable = PostGISQuery("SELECT 1", lambda: psycopg.connect(host="127.0.0.1", port=port, user="nobody"))

    with pytest.raises(SourceUnavailableError, match=r"(?s)did not answer.*refused.*Check the connection") as refused:
        features(unreachable)
    with pytest.raises(SourceUnavailableError, match="terminating connection"):
        features(query("SELECT pg_terminate_backend(pg_backend_pid()), ST_Point(0, 0) AS g"))
    assert refused.value.retryable
    assert not UnreadableSourceError.retryable


def test_integers_past_53_bits_make_their_column_text(query: Any) -> None:
    found = [feature["properties"] for feature in features(query("SELECT * FROM ids ORDER BY n"))]

    assert found == [{"id": "1", "n": 7}, {"id": "9007199254740993", "n": 8}]


def test_curves_are_linearised_and_measures_dropped(query: Any) -> None:
    (arc,) = geometries(query("SELECT * FROM arcs"))
    (high,) = features(query("SELECT * FROM zm"))

    assert arc.length == pytest.approx(np.pi, rel=1e-3)
    assert high["geometry"]["coordinates"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("curved", "straight"),
    [
        (
            "MULTISURFACE(((0 0,1 0,1 1,0 0)),((5 5,6 5,6 6,5 5)))",
            "MULTIPOLYGON(((0 0,1 0,1 1,0 0)),((5 5,6 5,6 6,5 5)))",
        ),
        ("MULTISURFACE Z(((0 0 7,1 0 7,1 1 7,0 0 7)))", "MULTIPOLYGON Z(((0 0 7,1 0 7,1 1 7,0 0 7)))"),
        ("CURVEPOLYGON((0 0,1 0,1 1,0 0))", "POLYGON((0 0,1 0,1 1,0 0))"),
        ("COMPOUNDCURVE((0 0,1 1))", "LINESTRING(0 0,1 1)"),
        ("MULTICURVE((0 0,1 1),(2 2,3 3))", "MULTILINESTRING((0 0,1 1),(2 2,3 3))"),
        (
            "GEOMETRYCOLLECTION(COMPOUNDCURVE((0 0,1 1)),GEOMETRYCOLLECTION(CURVEPOLYGON((0 0,1 0,1 1,0 0))))",
            "GEOMETRYCOLLECTION(LINESTRING(0 0,1 1),POLYGON((0 0,1 0,1 1,0 0)))",
        ),
    ],
)
def test_types_of_curves_whose_parts_are_all_straight_are_read_too(query: Any, curved: str, straight: str) -> None:
    """As importers of GML write them, which have them for every surface."""
    (found,) = geometries(query(f"SELECT ST_GeomFromText('{curved}', 4326) AS g"))

    assert found == shapely.from_wkt(straight)


def test_curves_that_are_empty_are_dropped(query: Any) -> None:
    rows = query(
        "SELECT ST_GeomFromText(kind || ' EMPTY', 4326) AS g FROM unnest(ARRAY['CURVEPOLYGON', 'COMPOUNDCURVE', "
        "'MULTISURFACE', 'GEOMETRYCOLLECTION']) AS kind UNION ALL SELECT ST_SetSRID(ST_Point(1, 2), 4326)"
    )

    document, report = streamed(rows)

    assert len(document["features"]) == 1
    assert report.dropped == {"empty geometry": 4}


@pytest.mark.parametrize(
    ("surface", "name", "polygon"),
    [
        ("POLYHEDRALSURFACE(((0 0,1 0,1 1,0 0)),((0 0,1 1,0 1,0 0)))", "polyhedral surface", "geom"),
        ("TIN(((0 0,1 0,1 1,0 0)),((0 0,1 1,0 1,0 0)))", "TIN", "ST_MakePolygon(ST_ExteriorRing(geom))"),
        ("TRIANGLE((0 0,1 0,1 1,0 0))", "triangle", "ST_MakePolygon(ST_ExteriorRing(geom))"),
    ],
)
def test_surfaces_of_faces_are_named_and_what_the_error_advises_helps(
    query: Any, surface: str, name: str, polygon: str
) -> None:
    value = f"ST_GeomFromText('{surface}', 4326)"
    advised = f"(SELECT ST_Collect({polygon}) FROM ST_Dump(…))"

    for whole in (value, f"ST_ForceCollection(ST_Collect(ARRAY[{value}, ST_SetSRID(ST_Point(1, 2), 4326)]))"):
        with pytest.raises(UnreadableSourceError, match=f"(?s) a {name} .*{re.escape(advised)}"):
            features(query(f"SELECT {whole} AS g"))
    (found,) = geometries(query(f"SELECT {advised.replace('…', value)} AS g"))
    assert found.area == (0.5 if name == "triangle" else 1)


def test_geography_is_read_as_geometry(query: Any) -> None:
    assert geometries(query("SELECT * FROM spheres")) == [Point(13.4, 52.5)]


def test_of_several_geometries_one_is_named(query: Any) -> None:
    with pytest.raises(UnreadableSourceError, match=r"(?s)it returns a, b.*geometry="):
        features(query("SELECT * FROM two"))
    (only,) = features(query("SELECT * FROM two", geometry="b"))
    assert only["geometry"]["coordinates"] == [3, 4]
    assert only["properties"] == {"n": 5}


@pytest.mark.parametrize(
    ("sql", "error", "match"),
    [
        ("SELECT 1 AS n", UnreadableSourceError, "it returns none"),
        ("SELECT * FROM nothing", UnreadableSourceError, 'PostgreSQL refused the query: relation "nothing"'),
        (
            "SELECT n, ST_SetSRID(ST_Point(1 / (n - 5000), 0), 4326) g FROM generate_series(1, 9000) n",
            UnreadableSourceError,
            "division by zero",
        ),
        ("DELETE FROM ids RETURNING *", UnreadableSourceError, "PostgreSQL refused the query"),
        ("SELECT geom FROM raw", ValueError, "crs="),
        ("SELECT ST_SetSRID(geom, 4326) g, photo FROM raw", AttributeValueError, "Column 'photo'"),
    ],
)
def test_what_cannot_be_exported_says_why(query: Any, sql: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        features(query(sql))


def test_an_airflow_connection_is_enough(
    server: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"postgres://{server['user']}:unused@127.0.0.1:{server['port']}/postgres?connect_timeout=5"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", uri)

    report = write_mbtiles(
        postgis_query("SELECT id, geom FROM places", postgres_conn_id="warehouse"), tmp_path / "x.mbtiles", maxzoom=3
    )

    assert report.features == ROWS - ROWS // 10
    assert shapely.box(*report.bounds).area > 1000
