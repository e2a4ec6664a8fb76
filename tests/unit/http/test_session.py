"""The client on its way to the server: connections kept, answers packed, proxies, and whom it trusts."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.http.retry import RetryPolicy
from airflow_mapbox.http.session import Transport
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import ConfigurationError, InvalidAnswerError, NotSentError
from tests.unit.conftest import MakeClient
from tests.unit.proxies import Proxy
from tests.unit.support import ACCOUNT, Reply, ScriptedServer, all_text_of, closed_port, everything_logged, upload_json

UPLOAD_ID = upload_json()["id"]
DATASET = f"mapbox://datasets/{ACCOUNT}/cjz0harbours"
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXY_USER = "carrier:proxy%2Fcanary"


class TestConnections:
    def test_a_connection_that_the_server_closed_loses_no_create_call(self, make_client: MakeClient) -> None:
        # Given a server that promises to keep the connection, and closes it.
        reply = Reply(201, upload_json(), headers={"Connection": "keep-alive"}).encoded()
        closed = threading.Semaphore(0)

        def serve() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(reply)
                closed.release()

        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=serve, daemon=True).start()
            client = make_client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", attempts=1)
            client.create_upload("harbours", DATASET)
            assert closed.acquire(timeout=5)

            # When what may not be sent twice is sent next.
            upload = client.create_upload("harbours", DATASET)

        assert upload.id == UPLOAD_ID

    @pytest.mark.slow
    def test_one_client_serves_many_threads(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(*(Reply(json=upload_json(), pause=0.0005) for _ in range(60)))

        with ThreadPoolExecutor(12) as pool:
            uploads = list(pool.map(client.get_upload, [UPLOAD_ID] * 60))

        assert {upload.id for upload in uploads} == {UPLOAD_ID}

    def test_another_server_is_sent_nothing(self, server: ScriptedServer, token: str) -> None:
        other = ScriptedServer()
        transport = Transport(server.url, token, (5, 5, 5))
        try:
            for url in (other.url, server.url.replace("http", "https"), server.url.replace("127.0.0.1", "localhost")):
                with pytest.raises(ConfigurationError, match="another server"):
                    transport.exchange("GET", f"{url}/uploads", {}, None, max_bytes=100, seconds=5)
        finally:
            other.stop()
        assert not other.requests

    @pytest.mark.parametrize("host", [f"{'a' * 64}.example", "a..example", "xn--a.example\u2028"])
    def test_an_invalid_host_is_refused(self, token: str, host: str) -> None:
        with pytest.raises(ConfigurationError, match="connection's host"):
            UploadsClient(token, base_url=f"https://{host}")


class TestBodies:
    @pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
    def test_a_packed_answer_is_unpacked(self, server: ScriptedServer, client: UploadsClient, encoding: str) -> None:
        packed = gzip.compress(json.dumps(upload_json(progress=0.5)).encode())
        server.script(Reply(body=packed, headers={"Content-Encoding": encoding}))

        assert client.get_upload(UPLOAD_ID).progress == 0.5
        assert server.requests[0].headers["accept-encoding"] == "gzip"

    @pytest.mark.parametrize(
        "body", [gzip.compress(b" " * (9 * 2**20)), gzip.compress(b"") + b" " * (9 * 2**20)], ids=["within", "behind"]
    )
    def test_a_packed_answer_without_end_is_not_read_into_memory(
        self, server: ScriptedServer, client: UploadsClient, body: bytes
    ) -> None:
        server.script(Reply(body=body, headers={"Content-Encoding": "gzip"}))

        with pytest.raises(InvalidAnswerError, match="larger than any reply of the API"):
            client.get_upload(UPLOAD_ID)

    def test_a_call_without_a_body_has_content_length_0(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(422, {"message": "No"}), Reply(json=upload_json()))

        with suppress(Exception):
            client.create_credentials()
        client.get_upload(UPLOAD_ID)

        posted, got = (request.headers for request in server.requests)
        assert posted["content-length"] == "0"
        assert not {"content-length", "transfer-encoding"} & got.keys()

    def test_a_name_of_any_characters_arrives(self, server: ScriptedServer, client: UploadsClient) -> None:
        server.script(Reply(201, upload_json()))

        client.create_upload("harbours", DATASET, "Häfen \ud800")

        assert server.requests[0].json["name"] == "Häfen \ud800"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.stop()


@pytest.fixture(autouse=True)
def no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*BUNDLES, "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def secure(tmp_path: Path, make_settings: Callable[..., EmulatorSettings]) -> Iterator[Emulator]:
    with Emulator(tmp_path / "emulator", settings=make_settings(), tls=True) as running:
        yield running


def client_of(emulator: Emulator) -> UploadsClient:
    return UploadsClient(
        emulator.token, emulator.account, base_url=emulator.url, retry=RetryPolicy(attempts=1), timeout=(5.0, 5.0, 10.0)
    )


class TestTrust:
    @pytest.mark.parametrize("name", BUNDLES)
    def test_the_authorities_are_those_that_the_environment_names(
        self, secure: Emulator, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(name, str(secure.ca_file))

        with client_of(secure) as client:
            assert client.check_token().is_valid

    def test_the_first_variable_names_the_authorities(
        self, secure: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secure.ca_file))
        monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "none"))

        with client_of(secure) as client:
            assert client.check_token().is_valid

    @pytest.mark.parametrize("name", BUNDLES)
    def test_missing_authorities_are_an_error_that_names_them(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str, name: str
    ) -> None:
        monkeypatch.setenv(name, str(tmp_path / "none"))

        with pytest.raises(ConfigurationError, match=name):
            UploadsClient(token)

    def test_plain_http_needs_no_authorities(
        self, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_client: MakeClient
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
        server.script(Reply(json=upload_json()))

        assert make_client().get_upload(UPLOAD_ID).id == UPLOAD_ID

    def test_an_untrusted_certificate_sends_nothing_and_is_not_retried(self, secure: Emulator) -> None:
        with client_of(secure) as client, pytest.raises(NotSentError, match="certificate") as caught:
            client.check_token()

        assert not caught.value.retryable
        assert secure.requests == []


class TestProxies:
    @pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
    @pytest.mark.parametrize("scheme", ["http://", ""])
    def test_proxies_of_the_environment_carry_https_and_learn_the_host_only(
        self, secure: Emulator, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secure.ca_file))
        monkeypatch.setenv(name, f"{scheme}{PROXY_USER}@{proxy.address}")

        with everything_logged() as log, client_of(secure) as client:
            assert client.check_token().is_valid
            assert not list(client.list_uploads())

        (head,) = proxy.heads
        assert head.startswith(f"CONNECT {secure.url.removeprefix('https://')} ")
        assert base64.b64encode(b"carrier:proxy/canary").decode() in head
        assert secure.token not in head
        assert "canary" not in log.getvalue()
        assert secure.token not in log.getvalue()

    def test_proxies_are_passed_by_for_what_no_proxy_names(
        self, secure: Emulator, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secure.ca_file))
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")

        for named in ("elsewhere.example,127.0.0.1", "127.0.0.0/8, elsewhere.example", "*"):
            monkeypatch.setenv("NO_PROXY", named)
            with client_of(secure) as client:
                assert client.check_token().is_valid

        assert not proxy.heads

    def test_proxies_that_are_not_there_have_carried_nothing(self, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with closed_port() as url:
            monkeypatch.setenv("HTTPS_PROXY", url.replace("//", f"//{PROXY_USER}@"))
            client = UploadsClient(token, retry=RetryPolicy(attempts=1))

            with pytest.raises(NotSentError, match="proxy refused") as caught:
                client.check_token()

        assert caught.value.retryable
        assert "canary" not in all_text_of(caught.value)

    @pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway", "301 Elsewhere"])
    def test_proxies_that_refuse_have_carried_nothing(
        self, token: str, monkeypatch: pytest.MonkeyPatch, status: str
    ) -> None:
        refusing = Proxy(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nLocation: https://h/\r\n\r\n".encode())
        monkeypatch.setenv("HTTPS_PROXY", f"http://{refusing.address}")
        try:
            with pytest.raises(NotSentError, match="proxy refused"):
                UploadsClient(token, retry=RetryPolicy(attempts=1)).create_upload("harbours", DATASET)
        finally:
            refusing.stop()
        assert all(head.startswith("CONNECT api.mapbox.com:443 ") for head in refusing.heads)

    @pytest.mark.parametrize("url", [f"ftp://{PROXY_USER}@h", f"http://{PROXY_USER}@h:port", "http://:8080"])
    def test_invalid_proxies_are_named(self, token: str, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        monkeypatch.setenv("HTTPS_PROXY", url)

        with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
            UploadsClient(token)
        assert "canary" not in all_text_of(caught.value)
