"""Foreign web pages in a browser on the developer's machine can neither read nor change the emulator's data."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.emulator.conftest import TOWNS, Account

PATHS = [
    "/",
    "/_emulator/faults",
    "/_emulator/clock",
    "/_emulator/requests",
    "/uploads/v1/acme",
    "/tokens/v2",
    "/static/x",
]


def send(url: str, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Send a request with exactly these headers, which may have a foreign ``Host``."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), int(parts.port or 0), timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    all_headers = {"host": parts.netloc, "content_length": str(len(body or b"")), **headers}
    for name, value in all_headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body)
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


class TestHost:
    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8787",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example.",
            "",
            "a b",
            "localhost@evil.example",
            "127.0.0.1:x",
            "127.1.evil.example",
            "face",
            "256.1",
        ],
    )
    def test_unknown_host_name_is_refused(self, shared: Account, host: str, path: str) -> None:
        assert send(shared.emulator.url, path, host=host)[0] in (400, 403)
        assert send(shared.emulator.s3_url, path, host=host)[0] in (400, 403)

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "127.0.0.1:1",
            "localhost",
            "LOCALHOST:99",
            "localhost.",
            "[::1]",
            "[::1]:8787",
            "192.0.2.7:80",
            "127.1:8787",
            "2130706433",
            "0x7f.1",
            "x.localhost",
        ],
    )
    def test_loopback_and_numeric_addresses_are_allowed_with_any_port(self, shared: Account, host: str) -> None:
        assert send(shared.emulator.url, "/", host=host)[0] == 200
        assert send(shared.emulator.url, "/_emulator/faults", host=host)[0] == 200

    def test_host_name_can_be_allowed(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings, allowed_hosts=["emulator"]) as emulator:
            assert send(emulator.url, "/", host="emulator:8787")[0] == 200
            assert send(emulator.url, "/", host="Emulator:8787", origin="http://emulator:8787")[0] == 200
            assert send(emulator.url, "/", host="other:8787")[0] == 403
            assert b"AccessDenied" in send(emulator.s3_url, "/", host="emulator:8788")[1]

    def test_refusal_tells_how_to_allow_a_host_name(self, shared: Account) -> None:
        assert b"--allow-host" in send(shared.emulator.url, "/", host="emulator:8787")[1]


class TestOrigin:
    @pytest.fixture(autouse=True)
    def no_trace(self, shared: Account) -> Iterator[None]:
        """Check that refused requests add no fault and are not recorded."""
        before = len(shared.emulator.requests)
        yield
        assert shared.emulator.faults.all() == []
        assert len(shared.emulator.requests) == before

    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "http://evil.example:8787",
            "null",
            "file://",
            "http://192.0.2.7",
            "http://localhost.evil.example",
            "moz-extension://a",
            "",
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "/_emulator/faults", b'{"kind": "status", "times": 0}'),
            ("POST", "/_emulator/clock", b'{"advance": 3600}'),
            ("POST", "/_emulator/tiling-service", b'{"tileset": "acme.x"}'),
            ("DELETE", "/_emulator/faults", None),
            ("OPTIONS", "/_emulator/faults", None),
            ("GET", "/_emulator/requests", None),
            ("GET", "/", None),
            ("POST", "/uploads/v1/acme/credentials", b""),
        ],
    )
    def test_request_with_a_foreign_origin_is_refused(
        self, shared: Account, origin: str, method: str, path: str, body: bytes | None
    ) -> None:
        status, _ = send(shared.emulator.url, path, method=method, body=body, origin=origin, content_type="text/plain")

        assert status == 403

    @pytest.mark.parametrize("how", ["no-cors", "navigate"])
    @pytest.mark.parametrize("path", ["/uploads/v1/acme", "/_emulator/faults", "/tokens/v2", "/v4/acme.x.json"])
    def test_cross_site_request_is_refused_and_uses_up_no_fault(self, shared: Account, how: str, path: str) -> None:
        fault = shared.emulator.faults.add("status")
        try:
            headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": how, "sec_fetch_dest": "document"}
            assert send(shared.emulator.url, path, **headers)[0] == 403
            assert [fault.id for fault in shared.emulator.faults.all()] == [fault.id]
        finally:
            shared.emulator.faults.clear()

    def test_cross_site_form_without_an_origin_is_refused(self, shared: Account) -> None:
        headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}

        assert send(shared.emulator.url, "/_emulator/faults", method="POST", body=b"{}", **headers)[0] == 403
        assert send(shared.emulator.url, "/", method="POST", body=b"{}", **headers)[0] == 403

    def test_cross_site_frame_and_script_are_refused(self, shared: Account) -> None:
        for mode, dest in (("navigate", "iframe"), ("no-cors", "script"), ("no-cors", "image")):
            headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": mode, "sec_fetch_dest": dest}
            assert send(shared.emulator.url, "/", **headers)[0] == 403

    def test_websocket_is_refused(self, shared: Account) -> None:
        headers = {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec_websocket_key": "eA==",
            "sec_websocket_version": "13",
        }

        assert send(shared.emulator.url, "/", origin="https://evil.example", **headers)[0] == 403

    def test_link_on_another_site_opens_the_pages(self, shared: Account) -> None:
        headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}

        assert send(shared.emulator.url, "/", **headers)[0] == 200

    @pytest.mark.parametrize(
        "origin", ["http://127.0.0.1:8787", "http://localhost:3000", "http://[::1]:8787", "https://localhost"]
    )
    def test_origin_on_this_machine_is_allowed(self, shared: Account, origin: str) -> None:
        assert send(shared.emulator.url, "/_emulator/faults", origin=origin)[0] == 200

    @pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
    def test_pages_of_the_emulator_may_send_requests(self, shared: Account, site: str) -> None:
        assert send(shared.emulator.url, "/", sec_fetch_site=site, sec_fetch_mode="cors")[0] == 200

    def test_origin_equal_to_the_host_is_allowed(self, shared: Account) -> None:
        assert send(shared.emulator.url, "/", host="192.0.2.7:8787", origin="http://192.0.2.7:8787")[0] == 200


def test_bucket_refuses_web_pages_too(shared: Account) -> None:
    shared.emulator.faults.add("status", where="s3")
    try:
        for headers in (
            {"origin": "https://evil.example"},
            {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
        ):
            status, body = send(shared.emulator.s3_url, "/x", **headers)
            assert (status, b"another site" in body) == (403, True)
        assert len(shared.emulator.faults.all()) == 1
    finally:
        shared.emulator.faults.clear()


def test_page_on_this_machine_can_read_tiles(acme: Account) -> None:
    acme.upload(TOWNS)
    url = f"{acme.emulator.url}/tilesets/acme.places/0/0/0.pbf"

    assert requests.get(url, headers={"Origin": "http://localhost:3000"}, timeout=10).status_code == 200
    assert requests.get(url, headers={"Origin": "https://evil.example"}, timeout=10).status_code == 403
