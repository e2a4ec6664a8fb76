"""A web page open on the developer's machine can neither read from the emulator nor change anything in it."""

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


def ask(url: str, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Ask with just these headers, as a browser would that looked a foreign name up."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), int(parts.port or 0), timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    given = {"host": parts.netloc, "content_length": str(len(body or b"")), **headers}
    for name, value in given.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
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
    def test_a_name_that_is_not_ours_is_refused(self, shared: Account, host: str, path: str) -> None:
        assert ask(shared.emulator.url, path, host=host)[0] in (400, 403)
        assert ask(shared.emulator.s3_url, path, host=host)[0] in (400, 403)

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
    def test_the_loopback_and_addresses_are_answered_with_any_port(self, shared: Account, host: str) -> None:
        assert ask(shared.emulator.url, "/", host=host)[0] == 200
        assert ask(shared.emulator.url, "/_emulator/faults", host=host)[0] == 200

    def test_a_name_can_be_allowed(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings, allowed_hosts=["emulator"]) as emulator:
            assert ask(emulator.url, "/", host="emulator:8787")[0] == 200
            assert ask(emulator.url, "/", host="Emulator:8787", origin="http://emulator:8787")[0] == 200
            assert ask(emulator.url, "/", host="other:8787")[0] == 403
            assert b"AccessDenied" in ask(emulator.s3_url, "/", host="emulator:8788")[1]

    def test_the_refusal_says_how_to_allow_a_name(self, shared: Account) -> None:
        assert b"--allow-host" in ask(shared.emulator.url, "/", host="emulator:8787")[1]


class TestOrigin:
    @pytest.fixture(autouse=True)
    def no_trace(self, shared: Account) -> Iterator[None]:
        """Whatever is refused, nothing of it is kept."""
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
    def test_the_origin_of_another_site_is_refused(
        self, shared: Account, origin: str, method: str, path: str, body: bytes | None
    ) -> None:
        status, _ = ask(shared.emulator.url, path, method=method, body=body, origin=origin, content_type="text/plain")

        assert status == 403

    @pytest.mark.parametrize("how", ["no-cors", "navigate"])
    @pytest.mark.parametrize("path", ["/uploads/v1/acme", "/_emulator/faults", "/tokens/v2", "/v4/acme.x.json"])
    def test_a_simple_request_of_another_site_spends_no_fault(self, shared: Account, how: str, path: str) -> None:
        fault = shared.emulator.faults.add("status")
        try:
            sent = {"sec_fetch_site": "cross-site", "sec_fetch_mode": how, "sec_fetch_dest": "document"}
            assert ask(shared.emulator.url, path, **sent)[0] == 403
            assert [left.id for left in shared.emulator.faults.all()] == [fault.id]
        finally:
            shared.emulator.faults.clear()

    def test_a_form_without_an_origin_is_refused(self, shared: Account) -> None:
        sent = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}

        assert ask(shared.emulator.url, "/_emulator/faults", method="POST", body=b"{}", **sent)[0] == 403
        assert ask(shared.emulator.url, "/", method="POST", body=b"{}", **sent)[0] == 403

    def test_a_frame_and_a_script_of_another_site_are_refused(self, shared: Account) -> None:
        for mode, dest in (("navigate", "iframe"), ("no-cors", "script"), ("no-cors", "image")):
            sent = {"sec_fetch_site": "cross-site", "sec_fetch_mode": mode, "sec_fetch_dest": dest}
            assert ask(shared.emulator.url, "/", **sent)[0] == 403

    def test_a_websocket_is_refused(self, shared: Account) -> None:
        sent = {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec_websocket_key": "eA==",
            "sec_websocket_version": "13",
        }

        assert ask(shared.emulator.url, "/", origin="https://evil.example", **sent)[0] == 403

    def test_a_link_on_another_site_leads_to_the_pages(self, shared: Account) -> None:
        sent = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}

        assert ask(shared.emulator.url, "/", **sent)[0] == 200

    @pytest.mark.parametrize(
        "origin", ["http://127.0.0.1:8787", "http://localhost:3000", "http://[::1]:8787", "https://localhost"]
    )
    def test_the_origin_of_this_machine_is_answered(self, shared: Account, origin: str) -> None:
        assert ask(shared.emulator.url, "/_emulator/faults", origin=origin)[0] == 200

    @pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
    def test_the_pages_of_the_emulator_are_answered(self, shared: Account, site: str) -> None:
        assert ask(shared.emulator.url, "/", sec_fetch_site=site, sec_fetch_mode="cors")[0] == 200

    def test_the_origin_of_the_address_that_is_asked_is_answered(self, shared: Account) -> None:
        assert ask(shared.emulator.url, "/", host="192.0.2.7:8787", origin="http://192.0.2.7:8787")[0] == 200


def test_the_bucket_is_not_for_web_pages_either(shared: Account) -> None:
    shared.emulator.faults.add("status", where="s3")
    try:
        for sent in ({"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}):
            status, body = ask(shared.emulator.s3_url, "/x", **sent)
            assert (status, b"another site" in body) == (403, True)
        assert len(shared.emulator.faults.all()) == 1
    finally:
        shared.emulator.faults.clear()


def test_a_page_of_this_machine_reads_tiles(acme: Account) -> None:
    acme.upload(TOWNS)
    url = f"{acme.emulator.url}/tilesets/acme.places/0/0/0.pbf"

    assert requests.get(url, headers={"Origin": "http://localhost:3000"}, timeout=10).status_code == 200
    assert requests.get(url, headers={"Origin": "https://evil.example"}, timeout=10).status_code == 403
