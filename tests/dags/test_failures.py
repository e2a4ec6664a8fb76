"""What must go wrong well, seen as a user sees it: the task's state, its log, and what Airflow keeps of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from airflow_mapbox.uploads.client import UploadsClient
from tests.connections import connection
from tests.dags.conftest import Outcome

pytestmark = pytest.mark.usefixtures("database")


def upload(source: object, tileset: str = "points", **options: Any) -> StageAndCreateUploadOperator:
    return StageAndCreateUploadOperator(task_id="upload", source=source, tileset=tileset, **options)  # type: ignore[arg-type]


def sent(emulator: Emulator) -> int:
    return len(emulator.requests)


def test_a_missing_connection_is_named_with_what_to_create(run_dag: Callable[..., Outcome], geojson: Path) -> None:
    outcome = run_dag(lambda: upload(str(geojson), mapbox_conn_id="mapbox_nowhere"))

    assert outcome.states == {"upload": "failed"}
    assert "Airflow finds no connection 'mapbox_nowhere'" in outcome.written


@pytest.mark.slow
def test_a_connection_that_is_missing_for_a_moment_is_retried(
    run_dag: Callable[..., Outcome], geojson: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def get(conn_id: str) -> Any:
        calls.append(conn_id)
        if len(calls) <= 2:
            # As Airflow says it while the secrets backend and its own API server are away.
            raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
        return Connection.from_json(connection(emulator), conn_id=conn_id)

    monkeypatch.setattr("airflow.sdk.BaseHook.get_connection", get)

    outcome = run_dag(lambda: upload(str(geojson), retries=3, retry_delay=0))

    assert (outcome.states, outcome.tries) == ({"upload": "success"}, {"upload": 3})


@pytest.mark.parametrize("scopes", [("uploads:read", "uploads:list"), ("styles:read",)])
def test_a_missing_scope_is_named(
    run_dag: Callable[..., Outcome],
    geojson: Path,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    scopes: tuple[str, ...],
) -> None:
    token = emulator.create_token(scopes=scopes)
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, password=token))

    outcome = run_dag(lambda: upload(str(geojson), retries=3))

    assert (outcome.states, outcome.tries) == ({"upload": "failed"}, {"upload": 1})
    assert "without the scope uploads:write" in outcome.written
    assert token not in outcome.written


def test_a_wrong_token_fails_at_once_and_is_shown_nowhere(
    run_dag: Callable[..., Outcome], geojson: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = emulator.token[:-4] + "WXYZ"
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, password=wrong))

    outcome = run_dag(lambda: upload(str(geojson), retries=3))

    assert (outcome.states, outcome.tries) == ({"upload": "failed"}, {"upload": 1})
    assert "an unknown token" in outcome.written
    assert wrong not in outcome.written


@pytest.mark.parametrize("tileset", ["x" * 33, "quakes\n", "quakes.of.today", "", "caf\u00e9"])
def test_a_literal_tileset_that_mapbox_would_refuse_breaks_the_dag_file(tileset: str) -> None:
    from airflow_mapbox.exceptions import MapboxFailError

    with pytest.raises(MapboxFailError, match="`tileset`"):
        upload("/data/x.geojson", tileset)


@pytest.mark.parametrize("tileset", ["roads-{% if full %}full{% else %}part{% endif %}", "a{# b #}", "{{ x }}"])
def test_a_templated_tileset_is_not_checked_at_import(tileset: str) -> None:
    upload("/data/x.geojson", tileset, name=tileset * 3)


@pytest.mark.usefixtures("mapbox_connection")
@pytest.mark.parametrize("tileset", ["{{ 'x' * 33 }}", "{{ 'quakes\\n' }}", "other.{{ 'quakes' }}"])
def test_a_rendered_tileset_that_mapbox_would_refuse_is_found_before_anything_is_sent(
    run_dag: Callable[..., Outcome], geojson: Path, emulator: Emulator, tileset: str
) -> None:
    before = sent(emulator)

    outcome = run_dag(lambda: upload(str(geojson), tileset, retries=3))

    assert (outcome.states, outcome.tries) == ({"upload": "failed"}, {"upload": 1})
    assert sent(emulator) == before


@pytest.mark.usefixtures("mapbox_connection")
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.geojson", None, "does not exist on this worker"),
        ("empty.geojson", b"", "is empty (0 bytes)"),
        ("not.geojson", b"<html>Service Unavailable</html>", "should be GeoJSON by its name, but begins with '<html>"),
        ("broken.geojson", b'{"type": "FeatureCollection", "features": [', "is not JSON"),
        ("none.geojson", b'{"type": "FeatureCollection", "features": []}', "has no features"),
        (
            "named.geojson",
            b'{"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": '
            b'"urn:ogc:def:crs:EPSG::5070"}}, "features": [{"type": "Feature", "properties": {}, '
            b'"geometry": {"type": "Point", "coordinates": [7, 50]}}]}',
            "declares the reference system urn:ogc:def:crs:EPSG::5070",
        ),
        (
            "unnamed.geojson",
            b'{"type": "Point", "coordinates": [746269.598, 4325134.642]}',
            "has (746269.598, 4325134.642) in feature 0, beyond",
        ),
    ],
)
def test_a_file_that_mapbox_would_refuse_is_named_and_nothing_is_sent(
    run_dag: Callable[..., Outcome],
    tmp_path: Path,
    emulator: Emulator,
    name: str,
    content: bytes | None,
    told: str,
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    before = sent(emulator)

    outcome = run_dag(lambda: upload(str(path), retries=3))

    assert (outcome.states, outcome.tries) == ({"upload": "failed"}, {"upload": 1})
    written = outcome.written.replace('\\"', '"')
    assert str(path) in written
    assert told in written
    assert sent(emulator) == before


@pytest.mark.parametrize(
    "source",
    [
        "https://user:s3cr3t-canary@files.example/x.geojson",
        "s3://key:s3cr3t-canary@bucket/x.geojson",
        "https://bucket.example/x.geojson?X-Amz-Signature=s3cr3t-canary",
        "https://account.example/x.geojson?sv=2020&sig=s3cr3t-canary",
    ],
)
@pytest.mark.usefixtures("mapbox_connection")
def test_a_source_that_carries_a_secret_is_refused_before_airflow_stores_it(
    run_dag: Callable[..., Outcome], source: str
) -> None:
    from airflow_mapbox.exceptions import MapboxFailError

    with pytest.raises(MapboxFailError, match="contains a password, a key or a signature") as literal:
        upload(source)
    assert "s3cr3t-canary" not in str(literal.value)

    rendered = run_dag(lambda: upload("{{ dag_run.conf['source'] }}"), run_conf={"source": source})

    assert rendered.states == {"upload": "failed"}
    assert "contains a password, a key or a signature" in rendered.written
    # The run's own conf is stored by Airflow before any task runs; what the task adds to the database is looked at.
    kept = [line for line in rendered.written.splitlines() if "INSERT INTO" in line and "dag_run" not in line]
    assert not [line for line in kept if "rendered_task_instance_fields" in line and "s3cr3t-canary" in line]


def test_a_server_that_is_down_is_named_with_its_address(
    run_dag: Callable[..., Outcome], geojson: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, host=address))

        outcome = run_dag(lambda: upload(str(geojson)))

    assert outcome.states == {"upload": "failed"}
    assert f"/credentials at {address}: no connection could be made" in outcome.written
    assert "(attempt 2 of 5)" in outcome.written
    assert emulator.token not in outcome.written


@pytest.mark.slow
@pytest.mark.usefixtures("mapbox_connection")
def test_an_upload_that_fails_in_processing_ends_the_wait_with_mapboxs_message_and_no_retry(
    run_dag: Callable[..., Outcome], tmp_path: Path, emulator: Emulator
) -> None:
    empty = tmp_path / "empty.kml"
    empty.write_text('<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document></Document></kml>')

    def make_tasks() -> None:
        made = upload(str(empty), preflight=False)
        UploadCompleteSensor(task_id="wait", upload_id=made.output["id"], retries=3)

    outcome = run_dag(make_tasks)

    assert outcome.states == {"upload": "success", "wait": "failed"}
    assert outcome.tries["wait"] == 1
    for line in ("failed in processing.", 'Mapbox says: "KML does not contain any layers."', "Check the query"):
        assert line in outcome.written
    assert emulator.token not in outcome.written


@pytest.fixture
def slow_emulator(tmp_path: Path, make_settings: Callable[..., EmulatorSettings]) -> Iterator[Emulator]:
    with Emulator(tmp_path / "slow", settings=make_settings(processing_seconds=600)) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "state"), [({}, "failed"), ({"soft_fail": True}, "skipped")], ids=["failed", "skipped"]
)
def test_a_wait_that_takes_too_long_times_out(
    run_dag: Callable[..., Outcome],
    geojson: Path,
    slow_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, bool],
    state: str,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(slow_emulator))

    def make_tasks() -> None:
        made = upload(str(geojson))
        UploadCompleteSensor(task_id="wait", upload_id=made.output["id"], timeout=1, **options)

    outcome = run_dag(make_tasks)

    assert outcome.states == {"upload": "success", "wait": state}
    assert "Sensor has timed out" in outcome.written
    assert slow_emulator.token not in outcome.written


@pytest.mark.slow
@pytest.mark.usefixtures("mapbox_connection")
def test_a_run_at_debug_shows_no_token_and_no_temporary_credential(
    run_dag: Callable[..., Outcome], geojson: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    issued: list[str] = []
    create_credentials = UploadsClient.create_credentials

    def remember(self: UploadsClient) -> Any:
        credentials = create_credentials(self)
        issued.extend(credentials.secrets)
        return credentials

    monkeypatch.setattr(UploadsClient, "create_credentials", remember)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    # A handler of the standard library, which Airflow's masker knows nothing of.
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    root.addHandler(handler)
    try:

        def make_tasks() -> None:
            made = upload(str(geojson), "points-debug")
            UploadCompleteSensor(task_id="wait", upload_id=made.output["id"])

        outcome = run_dag(make_tasks)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)

    assert outcome.states == {"upload": "success", "wait": "success"}
    written = "\n".join((outcome.written, *records))
    assert any("botocore" in record or "x-amz" in record.lower() for record in records), "nothing was logged at DEBUG"
    for secret in (emulator.token, *issued):
        assert secret not in written
    assert len(issued) == 3
