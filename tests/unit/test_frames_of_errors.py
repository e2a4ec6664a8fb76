"""No secret is in the local variables of an error's frames, which rich and Sentry show."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace, TracebackType
from typing import Any

import pytest

from airflow_mapbox.hooks.postgis import _connect
from airflow_mapbox.hooks.staging import staging_s3_client
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.http.retry import ONE_TRY, RetryPolicy
from airflow_mapbox.limits import STAGING_REGION
from airflow_mapbox.sources.resolve import open_source
from airflow_mapbox.tasks.connection import client_for
from airflow_mapbox.tilesets.client import TilesetsClient
from airflow_mapbox.triggers.connector import Connector
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.models import StagingCredentials
from airflow_mapbox.uploads.staging.bucket import Bucket
from tests.unit.conftest import MakeClient
from tests.unit.support import ACCOUNT, Reply, ScriptedServer, all_text_of, chain, closed_port, make_token, upload_json

UPLOAD_ID = upload_json()["id"]


class Interrupted(BaseException):
    """What Airflow raises from a signal's handler when a task times out or is told to end."""


@contextmanager
def interrupted_soon() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def everything_shown_of(error: BaseException) -> str:
    """What a traceback with local variables shows of an error and all that hangs on it, but for this file's frames."""
    shown = [all_text_of(error)]
    for item in chain(error):
        traceback: TracebackType | None = item.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename != __file__:
                shown += [_deeply(value) for value in traceback.tb_frame.f_locals.values()]
            traceback = traceback.tb_next
    return "\n".join(shown)


def _deeply(value: Any) -> str:
    """Both of what a value says of itself, and what containers hold, as Sentry serialises them."""
    if isinstance(value, dict):
        return "\n".join(f"{_deeply(key)} {_deeply(item)}" for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return "\n".join(map(_deeply, value))
    try:
        return f"{value!r} {value!s}"
    except Exception as error:
        pytest.fail(f"repr of a {type(value).__name__} raises {error!r}")


def raised_by(call: Callable[[], object]) -> str:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        call()
    assert not isinstance(caught.value, pytest.fail.Exception)
    return everything_shown_of(caught.value)


class TestTheToken:
    @pytest.mark.parametrize(
        "reply",
        [
            Reply(fault="drop"),
            Reply(fault="reset"),
            Reply(json=upload_json(), fault="half"),
            Reply(raw=b"no HTTP\r\n\r\n"),
            Reply(401, {"message": "Unauthorized"}),
            Reply(404, {"message": "Not Found"}),
            Reply(302, headers={"Location": "https://elsewhere.example/"}),
            Reply(body=b"<html>"),
            Reply(json=upload_json(id="another")),
            Reply(body=b"x", headers={"Content-Encoding": "gzip"}),
        ],
        ids=lambda reply: reply.fault or str(reply.status),
    )
    def test_the_token_is_not_in_the_frames_of_an_answer_that_is_an_error(
        self, server: ScriptedServer, make_client: MakeClient, token: str, reply: Reply
    ) -> None:
        server.script(reply)

        assert token not in raised_by(lambda: make_client(attempts=1).get_upload(UPLOAD_ID))

    def test_the_token_is_not_in_the_frames_of_a_server_that_is_away(self, make_client: MakeClient, token: str) -> None:
        with closed_port() as url:
            assert token not in raised_by(lambda: make_client(base_url=url, attempts=1).get_upload(UPLOAD_ID))

    @pytest.mark.parametrize(
        "reply", [Reply(fault="hang"), Reply(json=upload_json(), pause=0.05)], ids=["hang", "trickle"]
    )
    def test_the_token_is_not_in_the_frames_of_an_interrupt_while_an_answer_is_awaited(
        self, server: ScriptedServer, make_client: MakeClient, token: str, reply: Reply
    ) -> None:
        server.script(reply)

        with interrupted_soon(), pytest.raises(Interrupted) as caught:
            make_client().get_upload(UPLOAD_ID)

        assert token not in everything_shown_of(caught.value)
        assert token.split(".")[2] not in everything_shown_of(caught.value)

    @pytest.mark.parametrize(
        "call",
        [
            lambda client: list(client.list_tilesets()),
            lambda client: client.delete_tileset("harbours"),
            lambda client: client.update_tileset("harbours", private=True),
            lambda client: client.get_tile("harbours", 0, 0, 0),
        ],
        ids=["list", "delete", "update", "tile"],
    )
    @pytest.mark.parametrize("reply", [Reply(fault="drop"), Reply(403, {"message": "No"}), Reply(302)])
    def test_the_token_is_not_in_the_frames_of_an_error_of_the_tilesets_client(
        self,
        server: ScriptedServer,
        make_client: MakeClient,
        token: str,
        call: Callable[[TilesetsClient], object],
        reply: Reply,
    ) -> None:
        client = TilesetsClient.sharing(make_client(attempts=1))
        server.script(reply)

        assert token not in raised_by(lambda: call(client))

    @pytest.mark.parametrize(
        "options",
        [
            {"base_url": "http://example.com"},
            {"base_url": "https://a..b"},
            {"base_url": "no url"},
            {"username": "not/a/name"},
            {"retry": 7, "rng": object, "timeout": None, "base_url": "https://[::1"},
        ],
        ids=str,
    )
    def test_the_token_is_not_in_the_frames_of_a_client_that_cannot_be_made(
        self, token: str, options: dict[str, Any]
    ) -> None:
        assert token not in raised_by(lambda: UploadsClient(token, **options))

    def test_the_token_is_not_in_the_frames_of_authorities_that_cannot_be_read(
        self, token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))

        assert token not in raised_by(lambda: UploadsClient(token))

    def test_a_client_that_is_half_built_can_be_shown(self) -> None:
        assert repr(UploadsClient.__new__(UploadsClient)) == "UploadsClient(username=None, base_url=None)"

    @pytest.mark.parametrize(
        "changes",
        [
            {"conn_type": "http"},
            {"host": "http://example.com"},
            {"host": "https://h:1", "port": 2},
            {"login": "not/a/name"},
            {"extra": {"s3_endpoint_url": "http://example.com"}},
            {"extra": "no JSON"},
        ],
        ids=str,
    )
    def test_the_token_is_not_in_the_frames_of_a_connection_that_cannot_be_used(
        self, token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        described = {"conn_type": "mapbox", "login": ACCOUNT, "password": token, "host": "http://127.0.0.1:9"}
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", json.dumps(described | changes))
        source = tmp_path / "point.geojson"
        source.write_text('{"type": "Point", "coordinates": [7.1, 50.7]}')
        no_waiting = RetryPolicy(attempts=1, max_throttle_wait=0)

        for call in (
            lambda: MapboxUploadsHook(retry=no_waiting).upload(source, "points"),
            lambda: client_for("mapbox_default", ONE_TRY).get_upload(UPLOAD_ID),
            lambda: asyncio.run(_client()).get_upload(UPLOAD_ID),
        ):
            assert token not in raised_by(call)


async def _client() -> UploadsClient:
    return await Connector("mapbox_default").client()


CREDENTIALS = StagingCredentials("b", "k", "https://b.example/k", "an-id", "a-canary-secret", "a-canary-session")


class TestTheStagingCredentials:
    @pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://127.0.0.1:port", "no url"])
    def test_the_staging_credentials_are_not_in_the_frames_of_a_bucket_that_is_away(
        self, endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))  # between its tries

        def put() -> None:
            client = staging_s3_client(CREDENTIALS, endpoint, region=STAGING_REGION)
            client.meta.events.register("needs-retry.s3", lambda **_: None)
            Bucket(client, "b", "k", "the file").put(b"x")

        assert "canary" not in raised_by(put)

    def test_the_staging_credentials_are_not_in_the_frames_of_an_interrupt_while_a_part_is_sent(
        self, server: ScriptedServer
    ) -> None:
        server.script(Reply(fault="hang"))
        bucket = Bucket(staging_s3_client(CREDENTIALS, server.url, region=STAGING_REGION), "b", "k", "the file")

        with interrupted_soon(), pytest.raises(Interrupted) as caught:
            bucket.put(b"x")

        assert "canary" not in everything_shown_of(caught.value)


def test_the_signature_of_a_redirect_is_not_in_the_frames_of_its_error(server: ScriptedServer) -> None:
    signed = f"{server.url}/signed?X-Amz-Signature=c4nary"
    server.script(Reply(302, headers={"Location": signed}), Reply(fault="reset"))

    assert "c4nary" not in raised_by(lambda: open_source(f"{server.url}/x.geojson"))


def test_the_password_of_a_database_is_not_in_the_frames_of_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    described = {"conn_type": "postgres", "host": "127.0.0.1", "port": 9, "login": "me", "password": "c4nary"}
    monkeypatch.setenv("AIRFLOW_CONN_GIS", json.dumps(described))

    assert "c4nary" not in raised_by(lambda: _connect("gis"))


def test_the_frames_of_an_error_without_protection_show_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    token = make_token()

    def show(held: list[str]) -> None:
        raise ValueError("no secret in it")

    monkeypatch.setitem(show.__globals__, "__file__", "another file")
    assert token in raised_by(lambda: show([token]))
