"""The example DAGs, run as they stand."""

from __future__ import annotations

import http.server
import json
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_mapbox.emulator import Emulator
from demo.postgres import Postgres
from tests.conftest import ROOT

FEED = ROOT / "dags" / "data" / "usgs-earthquakes-2018-01-31-to-02-07.geojson"
# dags/data/README.md has the counts by day.
A_DAY = {"2018-01-31": 198, "2018-02-03": 259, "2018-02-07": 14}

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def dags(database: Path) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(ROOT / "dags")
    assert bag.import_errors == {}
    return dict(bag.dags)


def ids_in(path: Path) -> list[str]:
    return sorted(feature["properties"]["id"] for feature in json.loads(path.read_text())["features"])


def ids_of(day: str) -> list[str]:
    def is_that_day(feature: dict[str, Any]) -> bool:
        return f"{datetime.fromtimestamp(feature['properties']['time'] / 1000, UTC):%Y-%m-%d}" == day

    return sorted(feature["id"] for feature in json.loads(FEED.read_text())["features"] if is_that_day(feature))


def run(dag: Any, day_after: str, **options: Any) -> Any:
    # A manual run's interval is the last whole one before its logical date.
    return dag.test(logical_date=datetime.fromisoformat(f"{day_after}T00:00:00+00:00"), **options)


def test_the_example_dags_are_found(dags: dict[str, Any]) -> None:
    assert {Path(dag.fileloc).name for dag in dags.values()} == {path.name for path in (ROOT / "dags").glob("*.py")}


@pytest.mark.usefixtures("mapbox_connection")
@pytest.mark.parametrize(("day", "day_after"), [("2018-01-31", "2018-02-01"), ("2018-02-07", "2018-02-08")])
def test_a_day_becomes_a_tileset_of_that_days_earthquakes(
    dags: dict[str, Any], airflow_home: Path, emulator: Emulator, day: str, day_after: str
) -> None:
    from demo.check import check_tileset

    outcome = run(dags["earthquakes_daily"], day_after)

    assert outcome.state == "success"
    exported = airflow_home / "exports" / "earthquakes_daily" / f"{day}.geojson"
    assert ids_in(exported) == ids_of(day)
    tileset = f"{emulator.account}.earthquakes-{day.replace('-', '')}"
    found = check_tileset(f"{emulator.url}/v4/{tileset}.json", exported, key="id", token=emulator.token)
    assert found.features == A_DAY[day]
    finished = outcome.get_task_instance("wait").xcom_pull(task_ids="wait")
    assert (finished["complete"], finished["error"], finished["progress"]) == (True, None, 1)
    assert finished["name"] == f"Earthquakes of {day}"


@pytest.mark.slow
@pytest.mark.usefixtures("mapbox_connection")
def test_the_tilesets_asset_event_has_the_exports_facts(
    dags: dict[str, Any], airflow_home: Path, database: Path, emulator: Emulator
) -> None:
    run(dags["earthquakes_daily"], "2018-02-03")

    exported = airflow_home / "exports" / "earthquakes_daily" / "2018-02-02.geojson"
    positions = [feature["geometry"]["coordinates"] for feature in json.loads(exported.read_bytes())["features"]]
    xs, ys = [position[0] for position in positions], [position[1] for position in positions]
    with sqlite3.connect(database) as opened:
        events = opened.execute(
            "select asset_event.extra from asset_event join asset on asset.id = asset_id where asset.uri = ?",
            [f"mapbox://tilesets/{emulator.account}.earthquakes-20180202"],
        ).fetchall()
    extra = json.loads(events[-1][0])
    assert extra["features"] == len(positions) > 0
    assert extra["bill"]["bytes"] == extra["bytes"]
    assert extra["bill"]["area_km2"] is not None
    assert extra["bounds"] == [min(xs), min(ys), max(xs), max(ys)]
    assert extra["bytes"] == exported.stat().st_size
    assert extra["upload_id"]


@pytest.mark.slow
@pytest.mark.usefixtures("mapbox_connection")
def test_running_a_day_again_leaves_one_file_and_one_tileset_and_touches_no_other(
    dags: dict[str, Any], airflow_home: Path, emulator: Emulator
) -> None:
    run(dags["earthquakes_daily"], "2018-02-04")
    folder = airflow_home / "exports" / "earthquakes_daily"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    tilesets = sorted((emulator.folder / "tilesets").iterdir())

    run(dags["earthquakes_daily"], "2018-02-04")

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted((emulator.folder / "tilesets").iterdir()) == tilesets


@pytest.mark.usefixtures("mapbox_connection")
def test_a_day_that_the_bundled_file_lacks_is_skipped_and_the_log_says_why(
    dags: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    outcome = run(dags["earthquakes_daily"], "2019-06-02")

    states = {instance.task_id: instance.state for instance in outcome.get_task_instances()}
    assert states == {"export": "skipped", "upload": "skipped", "wait": "skipped"}
    # Airflow itself shows the reason in a collapsed group only.
    (line,) = [record for record in caplog.records if "has no earthquakes of 2019-06-01" in record.getMessage()]
    assert (line.levelname, line.name.startswith("airflow.")) == ("WARNING", False)
    assert "feed" in line.getMessage()


@pytest.mark.slow
@pytest.mark.usefixtures("mapbox_connection")
def test_a_feed_service_is_asked_for_the_interval(dags: dict[str, Any], airflow_home: Path) -> None:
    asked: list[dict[str, list[str]]] = []
    document = FEED.read_bytes()

    class EventService(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(parse_qs(urlsplit(self.path).query))
            self.send_response(200)
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), EventService) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        feed = f"http://127.0.0.1:{service.server_port}/fdsnws/event/1/query"
        outcome = run(dags["earthquakes_daily"], "2018-02-06", run_conf={"feed": feed})
        service.shutdown()

    assert outcome.state == "success"
    assert [query["format"] for query in asked] == [["geojson"]]
    assert asked[0]["starttime"] == ["2018-02-05T00:00:00+00:00"]
    assert asked[0]["endtime"] == ["2018-02-06T00:00:00+00:00"]
    assert ids_in(airflow_home / "exports" / "earthquakes_daily" / "2018-02-05.geojson") == ids_of("2018-02-05")


@pytest.mark.usefixtures("mapbox_connection")
def test_a_projected_polygon_layer_becomes_a_tileset_in_its_place(
    dags: dict[str, Any], airflow_home: Path, emulator: Emulator
) -> None:
    import geopandas

    from demo.check import check_tileset

    outcome = dags["virginia_counties"].test(logical_date=datetime(2018, 2, 1, tzinfo=UTC))

    assert outcome.state == "success"
    exported = airflow_home / "exports" / "virginia_counties.geojson"
    source = geopandas.read_file(ROOT / "dags" / "data" / "virginia-counties-utm17n.zip")
    assert source.crs.to_epsg() == 32617
    west, south, east, north = geopandas.read_file(exported).total_bounds
    assert (round(west, 1), round(south, 1), round(east, 1), round(north, 1)) == (-83.7, 36.5, -75.2, 39.5)
    address = f"{emulator.url}/v4/{emulator.account}.virginia-counties.json"
    assert check_tileset(address, exported, key="POLY_ID", token=emulator.token).features == len(source) == 136


@pytest.mark.usefixtures("mapbox_connection")
def test_an_approved_file_is_uploaded_and_the_person_saw_its_report(dags: dict[str, Any], emulator: Emulator) -> None:
    # The test takes the person's place: it marks the task that asks as successful.
    outcome = dags["counties_approved"].test(
        logical_date=datetime(2018, 2, 2, tzinfo=UTC), mark_success_pattern="approve"
    )

    assert outcome.state == "success"
    shown = outcome.get_task_instance("check").xcom_pull(task_ids="check")
    for words in ("virginia\\-counties\\-approved", "Features", "136", "km²", "Mapbox should accept"):
        assert words.replace("\\-", "-") in shown
    assert outcome.get_task_instance("wait").xcom_pull(task_ids="wait")["complete"] is True


def magnitudes(low: float, high: float) -> int:
    """Return how many earthquakes of the bundled file have a magnitude from `low` until before `high`."""
    quakes = (feature["properties"]["mag"] for feature in json.loads(FEED.read_text())["features"])
    return sum(1 for magnitude in quakes if magnitude is not None and low <= magnitude < high)


def features_of(outcome: Any, task_id: str = "upload") -> dict[str, int]:
    """Return how many features each tileset of a run was made of, by the tileset's name."""
    found = {}
    for instance in outcome.get_task_instances():
        if instance.task_id == task_id:
            upload = instance.xcom_pull(task_ids=task_id, map_indexes=instance.map_index)
            found[upload["tileset"].partition(".")[2]] = upload["source"]["features"]
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("mapbox_connection")
@pytest.mark.parametrize(
    ("dag_id", "task_id", "tilesets"),
    [
        (
            "earthquakes_by_magnitude",
            "upload",
            {f"earthquakes-magnitude-{low}": magnitudes(low, low + 1) for low in (2, 4, 5)},
        ),
        ("earthquakes_decorated", "strong_earthquakes", {"earthquakes-strong": magnitudes(4, 10)}),
        ("counties_as_tiles", "upload", {"virginia-counties-tiles": 136}),
        ("counties_deferred", "upload", {"virginia-counties-deferred": 136}),
        ("counties_approved_above", "upload", {"virginia-counties-limited": 136}),
        ("counties_checked_first", "upload_final", {"virginia-counties-checked": 136}),
    ],
)
def test_an_example_makes_its_tilesets(
    dags: dict[str, Any], dag_id: str, task_id: str, tilesets: dict[str, int]
) -> None:
    outcome = dags[dag_id].test(logical_date=datetime(2018, 2, 1, tzinfo=UTC))

    assert outcome.state == "success"
    assert features_of(outcome, task_id) == tilesets


@pytest.mark.usefixtures("mapbox_connection")
def test_the_weekly_report_has_a_row_for_each_tileset(dags: dict[str, Any], emulator: Emulator) -> None:
    emulator.add_tileset(f"{emulator.account}.weekly", filesize=12_345_678, visibility="public")

    outcome = dags["tilesets_weekly"].test(logical_date=datetime(2018, 2, 1, tzinfo=UTC))

    table = outcome.get_task_instance("report").xcom_pull(task_ids="report")
    (row,) = (line for line in table.splitlines() if ".weekly" in line)
    assert "12.3 MB" in row
    assert "public" in row


@pytest.mark.slow
@pytest.mark.usefixtures("mapbox_connection")
def test_a_mapped_layer_is_named_by_its_tileset(dags: dict[str, Any]) -> None:
    outcome = dags["earthquakes_by_magnitude"].test(logical_date=datetime(2018, 2, 2, tzinfo=UTC))

    names = [instance.rendered_map_index for instance in outcome.get_task_instances() if instance.task_id == "upload"]
    assert sorted(names) == [f"earthquakes-magnitude-{magnitude}" for magnitude in (2, 4, 5)]


@pytest.mark.slow
@pytest.mark.usefixtures("mapbox_connection")
def test_a_person_is_asked_above_the_limit(dags: dict[str, Any]) -> None:
    outcome = dags["counties_approved_above"].test(
        logical_date=datetime(2018, 2, 2, tzinfo=UTC), run_conf={"limit_kilobytes": 1}, mark_success_pattern="approve"
    )

    states = {instance.task_id: instance.state for instance in outcome.get_task_instances()}
    assert states["approve"] == states["upload"] == states["wait"] == "success"


@pytest.mark.slow
@pytest.mark.usefixtures("mapbox_connection")
def test_unchanged_counties_are_skipped_at_the_second_run(dags: dict[str, Any]) -> None:
    first, second = (
        dags["counties_if_changed"].test(logical_date=datetime(2018, 2, day, tzinfo=UTC)) for day in (1, 2)
    )

    assert features_of(first) == {"virginia-counties-if-changed": 136}
    assert {instance.state for instance in second.get_task_instances()} == {"skipped"}


@pytest.mark.slow
@pytest.mark.usefixtures("mapbox_connection")
def test_a_table_of_a_warehouse_becomes_a_tileset(
    dags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shapely

    with sqlite3.connect(tmp_path / "warehouse.db") as database:
        database.execute("CREATE TABLE places (name TEXT, visitors INTEGER, geom BLOB)")
        rows = [(f"place {n}", n, shapely.to_wkb(shapely.Point(n / 10, 50))) for n in range(70)]
        database.executemany("INSERT INTO places VALUES (?, ?, ?)", rows)
    warehouse = {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(warehouse))

    outcome = dags["places_from_warehouse"].test(logical_date=datetime(2018, 2, 1, tzinfo=UTC))

    assert outcome.state == "success"
    assert features_of(outcome, "places") == {"places": 70}


@pytest.mark.slow
@pytest.mark.skipif(not Postgres.is_installed(), reason="PostgreSQL is not installed; .ci/run installs it")
@pytest.mark.usefixtures("mapbox_connection")
def test_a_query_of_postgis_becomes_a_tileset(dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    with Postgres() as server:
        with psycopg.connect(**server.address) as connection:
            connection.execute(
                "CREATE EXTENSION postgis;"
                "CREATE TABLE parcels AS SELECT n AS id, 'owner ' || n AS owner, 10.0 * n AS area_m2,"
                " ST_Transform(ST_Expand(ST_SetSRID(ST_Point(7 + n / 100.0, 50), 4326), 0.001), 25832) AS geom"
                " FROM generate_series(1, 50) AS n;"
            )
        address = server.address
        monkeypatch.setenv(
            "AIRFLOW_CONN_POSTGRES_DEFAULT",
            f"postgres://{address['user']}@{address['host']}:{address['port']}/{address['dbname']}",
        )

        outcome = dags["parcels_from_postgis"].test(logical_date=datetime(2018, 2, 1, tzinfo=UTC))

    assert outcome.state == "success"
    assert features_of(outcome, "parcels") == {"parcels": 40}


def test_the_run_at_midnight_publishes_the_day_that_has_just_ended(dags: dict[str, Any]) -> None:
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import TimeRestriction

    timetable = coerce_to_core_timetable(dags["quakes_by_day"].timetable)
    restriction = TimeRestriction(earliest=datetime(2018, 2, 3, tzinfo=UTC), latest=None, catchup=True)

    info = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=restriction)

    assert (info.run_after.isoformat(), info.partition_key) == ("2018-02-03T00:00:00+00:00", "2018-02-02")
