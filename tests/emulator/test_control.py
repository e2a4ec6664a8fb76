"""The control endpoint: faults, clock and requests over HTTP, only for this machine, and errors as messages."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
import requests
from starlette.applications import Starlette

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.clock import AdjustableClock
from airflow_mapbox.emulator.control import Control
from airflow_mapbox.emulator.faults import Faults
from airflow_mapbox.emulator.request_log import RequestLog
from airflow_mapbox.emulator.store import Store
from tests.emulator.conftest import TOWNS, Account, Clock


def send(account: Account, method: str, path: str, **kwargs: Any) -> requests.Response:
    return account.session.request(method, f"{account.emulator.url}/_emulator{path}", timeout=10, **kwargs)


class TestFaults:
    def test_fault_can_be_added_and_listed_and_is_gone_after_its_last_request(self, acme: Account) -> None:
        fault = send(acme, "POST", "/faults", json={"kind": "status", "status": 503, "method": "get", "times": 2})

        assert fault.status_code == 201
        assert send(acme, "GET", "/faults").json() == [fault.json()]
        assert [acme.call("GET").status_code for _ in range(3)] == [503, 503, 200]
        assert send(acme, "GET", "/faults").json() == []

    def test_deleting_a_fault_keeps_the_others(self, acme: Account) -> None:
        first, second = (send(acme, "POST", "/faults", json={"kind": kind}).json() for kind in ("status", "html"))

        assert send(acme, "DELETE", f"/faults/{first['id']}").status_code == 204

        assert send(acme, "GET", "/faults").json() == [second]
        assert send(acme, "DELETE", f"/faults/{first['id']}").status_code == 404
        assert send(acme, "DELETE", "/faults").json() == []
        assert acme.call("GET").status_code == 200

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"nonsense",
            b"\xff\xfe",
            b"[]",
            b"null",
            pytest.param(b"[" * 100_000, id="deeply nested"),
            b"{}",
            b'{"kind": "nothing"}',
            b'{"kind": []}',
            b'{"kind": "status", "unknown": 1}',
            b'{"kind": "status", "self": 1}',
            b'{"kind": "status", "id": 1}',
            b'{"kind": "status", "where": "moon"}',
            b'{"kind": "status", "where": []}',
            b'{"kind": "stall", "where": "api"}',
            b'{"kind": "status", "where": "processing"}',
            b'{"kind": "expire", "where": "api"}',
            b'{"kind": "status", "path": "("}',
            b'{"kind": "status", "path": 7}',
            b'{"kind": "status", "method": ["GET"]}',
            b'{"kind": "status", "status": 99}',
            b'{"kind": "status", "status": 500.5}',
            b'{"kind": "status", "status": true}',
            b'{"kind": "status", "times": -1}',
            b'{"kind": "status", "times": 1.5}',
            b'{"kind": "status", "times": "1"}',
            b'{"kind": "status", "message": null}',
            b'{"kind": "hang", "seconds": NaN}',
            b'{"kind": "hang", "seconds": Infinity}',
            b'{"kind": "hang", "seconds": 1e300}',
            b'{"kind": "stall", "where": "processing", "progress": 1.01}',
            pytest.param(b'{"kind": "status", "message": "' + b"x" * (2 << 20) + b'"}', id="too large"),
        ],
    )
    def test_invalid_fault_is_refused_with_a_message(self, shared: Account, body: bytes) -> None:
        response = send(shared, "POST", "/faults", data=body)

        assert response.status_code == 422, response.text
        assert list(response.json()) == ["message"]
        assert "Traceback" not in response.text
        assert shared.emulator.faults.all() == []

    @pytest.mark.parametrize("number", ["x", "-1", "1.5", pytest.param("9" * 5000, id="5,000 digits"), "%00"])
    def test_unknown_fault_id_is_not_found(self, shared: Account, number: str) -> None:
        assert send(shared, "DELETE", f"/faults/{number}").status_code == 404

    def test_control_endpoint_and_pages_get_no_faults(self, acme: Account) -> None:
        acme.emulator.faults.add("status", times=0)

        assert send(acme, "GET", "/faults").status_code == 200
        assert acme.session.get(acme.emulator.url, timeout=10).status_code == 200
        assert acme.call("GET").status_code == 500


class TestClock:
    def test_clock_can_be_advanced_and_sped_up(self, acme: Account) -> None:
        before = send(acme, "GET", "/clock").json()

        after = send(acme, "POST", "/clock", json={"advance": 3600, "speed": 60}).json()

        assert before["speed"] == 1
        assert after["speed"] == 60
        assert after["now"] >= before["now"] + 3600

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b'{"advance": "x"}',
            b'{"advance": null}',
            b'{"advance": -1}',
            b'{"advance": 1e300}',
            b'{"advance": NaN}',
            b'{"speed": 0}',
            b'{"speed": true}',
            b'{"speed": Infinity}',
            b'{"back": 1}',
            b'{"self": 1}',
            pytest.param(b"[" * 100_000, id="deeply nested"),
        ],
    )
    def test_invalid_clock_change_is_refused_and_changes_nothing(self, shared: Account, body: bytes) -> None:
        before = send(shared, "GET", "/clock").json()

        response = send(shared, "POST", "/clock", data=body)

        assert response.status_code == 422, response.text
        assert list(response.json()) == ["message"]
        after = send(shared, "GET", "/clock").json()
        assert after["speed"] == before["speed"]
        assert after["now"] - before["now"] < 10

    def test_external_clock_cannot_be_changed(self, tmp_path: Path) -> None:
        with Emulator(tmp_path, settings=EmulatorSettings(account="acme"), clock=Clock()) as emulator:
            assert send(Account(emulator), "POST", "/clock", json={"advance": 1}).status_code == 409


class TestRequests:
    def test_requests_with_and_without_faults_are_listed_without_the_token(self, acme: Account) -> None:
        acme.emulator.faults.add("status", status=503)
        for _ in range(2):
            acme.call("GET")

        listed = send(acme, "GET", "/requests")

        assert [(record["method"], record["path"], record["status"]) for record in listed.json()] == [
            ("GET", "/uploads/v1/acme", 503),
            ("GET", "/uploads/v1/acme", 200),
        ]
        assert acme.emulator.token not in listed.text


class TestTilingService:
    def test_tileset_of_the_tiling_service_is_not_replaced(self, acme: Account) -> None:
        assert send(acme, "POST", "/tiling-service", json={"tileset": "acme.served"}).json() == ["acme.served"]
        staged = acme.stage(TOWNS)["url"]

        refused = acme.create(staged, "served")

        assert refused.status_code == 422
        assert "Tiling Service" in refused.json()["message"]
        assert acme.create(staged, "other").status_code == 201

    def test_tileset_can_be_marked_in_python_and_stays_marked_after_a_restart(
        self, tmp_path: Path, settings: EmulatorSettings
    ) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            emulator.mark_tiling_service("acme.served")
            with pytest.raises(ValueError, match="tileset"):
                emulator.mark_tiling_service("../x")
        with Emulator(tmp_path, settings=settings) as emulator:
            acme = Account(emulator)
            assert acme.create(acme.stage(TOWNS)["url"], "served").status_code == 422

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"tileset": "x"}', b'{"tileset": 7}', b'{"tileset": "a.b\\n"}'])
    def test_invalid_tileset_id_is_refused(self, shared: Account, body: bytes) -> None:
        assert send(shared, "POST", "/tiling-service", data=body).status_code == 422


@pytest.mark.parametrize(
    "path", ["/faults", "/faults/1", "/clock", "/requests", "/tiling-service", "/tilesets", "/tilesets/a.b/delete"]
)
@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::1", "nonsense"])
def test_other_machines_get_404_from_the_control_endpoint(tmp_path: Path, path: str, client: str) -> None:
    store = Store(tmp_path, clock=Clock())
    control = Control(
        faults=Faults(), clock=AdjustableClock(), request_log=RequestLog(), store=store, add_tileset=print
    )
    app = Starlette(routes=list(control.routes()))

    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "DELETE" if path == "/faults/1" else "POST" if path.startswith("/tilesets") else "GET",
        "path": f"/_emulator{path}",
        "query_string": b"",
        "headers": [],
        "client": (client, 50_000),
    }
    asyncio.run(app(scope, receive, send))
    store.close()

    assert sent[0]["status"] == 404
    assert json.loads(sent[1]["body"]) == {"message": "Not Found"}


def test_request_with_a_truncated_body_changes_nothing(acme: Account) -> None:
    host, port = acme.emulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /_emulator/faults HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")

    assert send(acme, "GET", "/faults").json() == []
