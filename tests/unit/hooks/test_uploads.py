"""The hook: from a connection to a client, and the whole way of an upload against the emulator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.http.retry import RetryPolicy
from airflow_mapbox.uploads.errors import (
    ConfigurationError,
    InvalidTilesetError,
    SourceError,
    StagedUrlNotReadableError,
    StagedUrlUsedError,
    UploadFailedError,
    UploadNotListedError,
    WaitTimeoutError,
)
from tests.connections import connection

Connect = Callable[..., MapboxUploadsHook]


@pytest.fixture(scope="module")
def emulator(
    tmp_path_factory: pytest.TempPathFactory, make_settings: Callable[..., EmulatorSettings]
) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("emulator"), settings=make_settings()) as running:
        yield running


@pytest.fixture
def connect(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Give a hook on a connection to the emulator, with changes."""

    def make(retry: RetryPolicy | None = None, **changes: Any) -> MapboxUploadsHook:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, **changes))
        return MapboxUploadsHook(retry=retry)

    return make


@pytest.fixture
def geojson(tmp_path: Path) -> Path:
    path = tmp_path / "points.geojson"
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7.1, 50.7]}, "properties": {"a": 1}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [point] * 3}))
    return path


def test_a_missing_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_OTHER", "{}")
    with pytest.raises(ConfigurationError, match="Airflow finds no connection 'mapbox_elsewhere'"):
        MapboxUploadsHook("mapbox_elsewhere").get_conn()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"password": None}, "has no password: put the secret Mapbox token there"),
        ({"password": "  "}, "access token is missing"),
        ({"password": "sk.nonsense", "login": None}, "names no account"),
        ({"conn_type": "http"}, "has type 'http', not mapbox"),
        ({"host": "http://api.example"}, "plain http to api.example"),
        ({"host": "ftp://127.0.0.1"}, "is not an http"),
        ({"host": "https://user:pass@127.0.0.1"}, "must be an address only"),
    ],
)
def test_a_connection_that_cannot_be_used_says_what_to_change(
    connect: Connect, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        connect(**changes).get_conn()


def test_the_account_is_read_from_the_token_if_the_login_is_empty(connect: Connect, emulator: Emulator) -> None:
    assert connect(login=None).get_conn().username == emulator.account


@pytest.mark.parametrize("form", ["scheme and port in their fields", "all in the host"])
def test_the_address_may_stand_in_the_host_or_in_its_parts(connect: Connect, emulator: Emulator, form: str) -> None:
    port = int(emulator.url.rpartition(":")[2])
    parts = {"host": "127.0.0.1", "port": port, "schema": "http"} if form.startswith("scheme") else {}
    assert connect(**parts).get_conn().base_url == emulator.url


def test_without_a_host_it_is_mapbox(connect: Connect) -> None:
    assert connect(host=None).get_conn().base_url == "https://api.mapbox.com"


def test_a_plain_http_s3_endpoint_elsewhere_is_refused_before_anything_is_staged(
    connect: Connect, geojson: Path
) -> None:
    hook = connect(extra={"s3_endpoint_url": "http://s3.example"})
    with pytest.raises(ConfigurationError, match=r"s3_endpoint_url is plain http to s3\.example"):
        hook.upload(geojson, "points")


def test_a_file_becomes_a_tileset(connect: Connect, geojson: Path) -> None:
    hook = connect()

    upload = hook.upload(geojson, "points", "Points of interest")
    finished = hook.wait(upload.id, timeout=60, poll_interval=0.1)

    assert (finished.is_successful, finished.progress, finished.name) == (True, 1, "Points of interest")
    assert [listed.id for listed in hook.list_uploads(limit=1)] == [upload.id]
    hook.delete_upload(upload.id)
    assert upload.id not in [listed.id for listed in hook.list_uploads()]


@pytest.mark.slow
def test_an_object_storage_path_is_streamed(connect: Connect, geojson: Path) -> None:
    from airflow.sdk import ObjectStoragePath

    hook = connect()
    for source in (ObjectStoragePath(f"file://{geojson}"), f"file://{geojson}"):
        upload = hook.upload(source, "points-of-a-path")
        assert hook.wait(upload.id, timeout=60, poll_interval=0.1).is_successful


def test_a_dataset_is_uploaded_with_nothing_staged(connect: Connect, emulator: Emulator, geojson: Path) -> None:
    folder = emulator.folder / "datasets" / emulator.account
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "places.geojson").write_bytes(geojson.read_bytes())
    hook = connect()
    before = len(emulator.requests)

    upload = hook.upload(f"mapbox://datasets/{emulator.account}/places", "places")

    assert hook.wait(upload.id, timeout=60, poll_interval=0.1).is_successful
    assert not [seen for seen in emulator.requests[before:] if seen.path.endswith("/credentials")]


@pytest.mark.parametrize(("tileset", "name"), [("x" * 33, None), ("points\n", None), ("points", "n" * 65)])
def test_names_are_refused_before_a_request_is_made(
    connect: Connect, emulator: Emulator, geojson: Path, tileset: str, name: str | None
) -> None:
    hook = connect()
    before = len(emulator.requests)

    with pytest.raises(InvalidTilesetError):
        hook.upload(geojson, tileset, name)

    assert len(emulator.requests) == before


def test_a_file_that_mapbox_would_refuse_costs_no_request(connect: Connect, emulator: Emulator, tmp_path: Path) -> None:
    empty = tmp_path / "empty.geojson"
    empty.touch()
    hook = connect()
    before = len(emulator.requests)

    with pytest.raises(SourceError, match=r"empty\.geojson is empty"):
        hook.stage(empty)

    assert len(emulator.requests) == before


def test_a_staged_url_is_good_for_one_upload(connect: Connect, geojson: Path) -> None:
    hook = connect()
    url = hook.stage(geojson)
    hook.wait(hook.create_upload("points-once", url).id, timeout=60, poll_interval=0.1)

    # Which of the two Mapbox says once it has taken the file, nobody outside has shown.
    with pytest.raises((StagedUrlUsedError, StagedUrlNotReadableError)):
        hook.create_upload("points-twice", url)


@pytest.mark.slow
def test_a_failed_upload_ends_the_wait_with_mapboxs_message_and_a_hint(connect: Connect, tmp_path: Path) -> None:
    empty = tmp_path / "empty.kml"
    empty.write_text('<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document></Document></kml>')
    hook = connect()
    upload = hook.upload(empty, "places", preflight=False)

    with pytest.raises(UploadFailedError, match=r"(?s)KML does not contain any layers\..*Check the query") as failure:
        hook.wait(upload.id, timeout=60, poll_interval=0.1)

    assert failure.value.data_at_fault
    assert failure.value.upload.id == upload.id


def test_a_wait_that_times_out_says_that_processing_continues(
    tmp_path: Path, geojson: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Callable[..., EmulatorSettings]
) -> None:
    with Emulator(tmp_path / "slow", settings=make_settings(processing_seconds=600)) as slow:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(slow))
        hook = MapboxUploadsHook()
        upload = hook.upload(geojson, "points")

        with pytest.raises(WaitTimeoutError, match="Mapbox is still processing it"):
            hook.wait(upload.id, timeout=0, poll_interval=0)


def test_the_connection_test_says_that_all_scopes_work(connect: Connect, geojson: Path) -> None:
    hook = connect()
    hook.wait(hook.upload(geojson, "points-seen").id, timeout=60, poll_interval=0.1)

    works, text = hook.test_connection()

    assert works
    assert "uploads:list works, uploads:write works, uploads:read works" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scopes", "told"),
    [
        (["uploads:read", "uploads:write"], "uploads:list is missing, uploads:write works"),
        (["uploads:list", "uploads:write"], "uploads:write works, uploads:read is missing"),
        (["uploads:list", "uploads:read"], "uploads:write is missing, uploads:read works"),
    ],
)
def test_the_connection_test_names_the_missing_scope(
    connect: Connect, emulator: Emulator, geojson: Path, scopes: list[str], told: str
) -> None:
    full = connect()
    full.wait(full.upload(geojson, "points-seen").id, timeout=60, poll_interval=0.1)

    works, text = connect(password=emulator.create_token(scopes=scopes)).test_connection()

    assert not works
    assert told in text


@pytest.mark.parametrize("state", ["TokenExpired", "TokenRevoked"])
def test_the_connection_test_says_what_is_wrong_with_the_token(
    connect: Connect, emulator: Emulator, state: str
) -> None:
    token = emulator.create_token(state=state)

    works, text = connect(password=token).test_connection()

    assert not works
    assert state in text
    assert token not in text


def test_the_connection_test_makes_no_upload(connect: Connect, emulator: Emulator) -> None:
    hook = connect()
    before = [upload.id for upload in hook.list_uploads()]

    hook.test_connection()

    assert [upload.id for upload in hook.list_uploads()] == before


def test_the_connection_test_of_a_server_that_is_down_is_an_answer(connect: Connect) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        hook = connect(retry=RetryPolicy(attempts=1), host=address)
        works, text = hook.test_connection()

    assert not works
    assert address in text


def test_every_temporary_credential_is_masked(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[str] = []
    monkeypatch.setattr("airflow_mapbox.hooks.uploads.mask_secret", masked.append)

    credentials = connect().create_credentials()

    assert masked == list(credentials.secrets)


@pytest.mark.slow
def test_an_upload_older_than_the_staged_file_is_not_taken_for_its_own(
    tmp_path: Path, geojson: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Callable[..., EmulatorSettings]
) -> None:
    now = [1_800_000_000.0]
    with Emulator(tmp_path / "emulator", settings=make_settings(), clock=lambda: now[0]) as running:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(running))
        hook = MapboxUploadsHook()
        older = hook.upload(geojson, "points")
        hook.wait(older.id, timeout=60, poll_interval=0.1)
        now[0] += 5

        def answer_409(*arguments: object, before_sending: Callable[[], None], **options: object) -> None:
            before_sending()
            raise StagedUrlUsedError("used", status=409, message="used")

        monkeypatch.setattr(hook.get_conn(), "create_upload", answer_409)
        monkeypatch.setattr("airflow_mapbox.uploads.once.one_upload._LIST_RETRY_SECONDS", 0)

        with pytest.raises(UploadNotListedError, match="list does not show it"):
            hook.upload(geojson, "points")


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy for everything that nobody answers at."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.slow
@pytest.mark.usefixtures("dead_proxy")
def test_requests_to_the_loopback_bypass_proxies(connect: Connect, emulator: Emulator, geojson: Path) -> None:
    for host in (emulator.url, emulator.url.replace("http", "HTTP")):
        hook = connect(host=host)
        upload = hook.upload(geojson, "points-unproxied")
        assert hook.wait(upload.id, timeout=60, poll_interval=0.1).is_successful


def test_an_empty_s3_endpoint_is_amazons(connect: Connect) -> None:
    hook = connect(extra={"s3_endpoint_url": ""})
    assert hook.get_conn().username
    assert hook._access.s3_endpoint() is None


def test_the_connection_test_does_not_wait_for_a_rate_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Callable[..., EmulatorSettings]
) -> None:
    settings = make_settings(rate_limit=1, rate_window=3600)
    with Emulator(tmp_path / "limited", settings=settings) as limited:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(limited))
        hook = MapboxUploadsHook()
        list(hook.list_uploads(limit=1))

        works, text = hook.test_connection()

    assert not works
    assert "has reached its rate limit" in text


@pytest.mark.parametrize("source", ["mapbox://datasets/demo", "foo://bucket/x.geojson"])
def test_a_source_of_an_unknown_kind_is_named(connect: Connect, source: str) -> None:
    with pytest.raises(SourceError, match=r"cannot be read|is not a dataset"):
        connect().upload(source, "points")


@pytest.mark.slow
def test_an_object_in_s3_is_streamed_by_its_own_connection(
    connect: Connect, geojson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "own-key", "aws_secret_access_key": "own-secret", "region_name": "us-east-1"}
        own = boto3.client("s3", endpoint_url=endpoint, **keys)
        own.create_bucket(Bucket="exports")
        own.put_object(Bucket="exports", Key="points.geojson", Body=geojson.read_bytes())
        described = {"conn_type": "aws", "login": "own-key", "password": "own-secret"}
        # Airflow keeps file systems by connection, so each server has one of its own.
        conn_id = f"s3_at_{port}"
        monkeypatch.setenv(
            f"AIRFLOW_CONN_{conn_id.upper()}",
            json.dumps(described | {"extra": {"endpoint_url": endpoint, "region_name": "us-east-1"}}),
        )
        hook = connect()

        upload = hook.upload(f"s3://{conn_id}@exports/points.geojson", "points-of-s3")

        assert hook.wait(upload.id, timeout=60, poll_interval=0.1).is_successful
        with pytest.raises(SourceError, match=r"exports/nothing\.geojson does not exist"):
            hook.upload(f"s3://{conn_id}@exports/nothing.geojson", "points-of-s3")
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["another name of the same length", "more bytes"])
def test_a_file_that_changed_after_its_export_makes_no_upload(
    connect: Connect, emulator: Emulator, tmp_path: Path, change: str
) -> None:
    import geopandas
    import shapely

    from airflow_mapbox.export import write_geojson

    frame = geopandas.GeoDataFrame({"name": ["first"]}, geometry=[shapely.Point(7.1, 50.7)], crs=4326)
    report = write_geojson(frame, tmp_path / "approved.geojson").to_json()
    content = (tmp_path / "approved.geojson").read_text()
    changed = content.replace("first", "other") if change.startswith("another") else content + "\n"
    (tmp_path / "approved.geojson").write_text(changed)
    hook = connect()
    before = [upload.id for upload in hook.list_uploads()]

    with pytest.raises(SourceError, match="has changed since it was exported") as raised:
        hook.upload(report, "approved-points")

    assert "give the path alone" in str(raised.value)
    assert [upload.id for upload in hook.list_uploads()] == before
    assert hook.upload(report["path"], "approved-points").tileset.endswith(".approved-points")
