"""The control endpoint: faults, clock and requests over HTTP, for this machine only, and never a traceback."""

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
from airflow_mapbox.emulator.requests_seen import RequestLog
from airflow_mapbox.emulator.store import Store
from tests.emulator.conftest import TOWNS, Account, Clock


def ask(account: Account, method: str, path: str, **kwargs: Any) -> requests.Response:
    return account.session.request(method, f"{account.emulator.url}/_emulator{path}", timeout=10, **kwargs)


class TestFaults:
    def test_a_fault_is_added_listed_met_and_removed(self, acme: Account) -> None:
        added = ask(acme, "POST", "/faults", json={"kind": "status", "status": 503, "method": "get", "times": 2})

        assert added.status_code == 201
        assert ask(acme, "GET", "/faults").json() == [added.json()]
        assert [acme.call("GET").status_code for _ in range(3)] == [503, 503, 200]
        assert ask(acme, "GET", "/faults").json() == []

    def test_one_fault_is_removed_and_the_others_stay(self, acme: Account) -> None:
        first, second = (ask(acme, "POST", "/faults", json={"kind": kind}).json() for kind in ("status", "html"))

        assert ask(acme, "DELETE", f"/faults/{first['id']}").status_code == 204

        assert ask(acme, "GET", "/faults").json() == [second]
        assert ask(acme, "DELETE", f"/faults/{first['id']}").status_code == 404
        assert ask(acme, "DELETE", "/faults").json() == []
        assert acme.call("GET").status_code == 200

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"nonsense",
            b"\xff\xfe",
            b"[]",
            b"null",
            b"[" * 100_000,
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
            b'{"kind": "status", "message": "' + b"x" * (2 << 20) + b'"}',
        ],
    )
    def test_an_invalid_fault_is_refused_with_a_message(self, shared: Account, body: bytes) -> None:
        answer = ask(shared, "POST", "/faults", data=body)

        assert answer.status_code == 422, answer.text
        assert list(answer.json()) == ["message"]
        assert "Traceback" not in answer.text
        assert shared.emulator.faults.all() == []

    @pytest.mark.parametrize("number", ["x", "-1", "1.5", "9" * 5000, "%00"])
    def test_an_invalid_fault_number_is_not_found(self, shared: Account, number: str) -> None:
        assert ask(shared, "DELETE", f"/faults/{number}").status_code == 404

    def test_control_itself_has_no_faults(self, acme: Account) -> None:
        acme.emulator.faults.add("status", times=0)

        assert ask(acme, "GET", "/faults").status_code == 200
        assert acme.session.get(acme.emulator.url, timeout=10).status_code == 200
        assert acme.call("GET").status_code == 500


class TestClock:
    def test_the_clock_is_advanced_and_sped_up(self, acme: Account) -> None:
        before = ask(acme, "GET", "/clock").json()

        after = ask(acme, "POST", "/clock", json={"advance": 3600, "speed": 60}).json()

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
            b"[" * 100_000,
        ],
    )
    def test_an_invalid_time_is_refused_and_changes_nothing(self, shared: Account, body: bytes) -> None:
        before = ask(shared, "GET", "/clock").json()

        answer = ask(shared, "POST", "/clock", data=body)

        assert answer.status_code == 422, answer.text
        assert list(answer.json()) == ["message"]
        after = ask(shared, "GET", "/clock").json()
        assert after["speed"] == before["speed"]
        assert after["now"] - before["now"] < 10

    def test_a_clock_that_was_passed_in_is_not_changed(self, tmp_path: Path) -> None:
        with Emulator(tmp_path, settings=EmulatorSettings(account="acme"), clock=Clock()) as emulator:
            assert ask(Account(emulator), "POST", "/clock", json={"advance": 1}).status_code == 409


class TestRequests:
    def test_requests_are_listed_with_those_that_met_a_fault_and_without_the_token(self, acme: Account) -> None:
        acme.emulator.faults.add("status", status=503)
        for _ in range(2):
            acme.call("GET")

        listed = ask(acme, "GET", "/requests")

        assert [(one["method"], one["path"], one["status"]) for one in listed.json()] == [
            ("GET", "/uploads/v1/acme", 503),
            ("GET", "/uploads/v1/acme", 200),
        ]
        assert acme.emulator.token not in listed.text


class TestTilingService:
    def test_a_tileset_of_the_tiling_service_is_not_replaced(self, acme: Account) -> None:
        assert ask(acme, "POST", "/tiling-service", json={"tileset": "acme.served"}).json() == ["acme.served"]
        staged = acme.stage(TOWNS)["url"]

        refused = acme.create(staged, "served")

        assert refused.status_code == 422
        assert "Tiling Service" in refused.json()["message"]
        assert acme.create(staged, "other").status_code == 201

    def test_python_marks_it_too_and_a_restart_does_not_forget(
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
    def test_an_invalid_tileset_is_refused(self, shared: Account, body: bytes) -> None:
        assert ask(shared, "POST", "/tiling-service", data=body).status_code == 422


@pytest.mark.parametrize("path", ["/faults", "/faults/1", "/clock", "/requests", "/tiling-service"])
@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::1", "nonsense"])
def test_other_machines_find_nothing_here(tmp_path: Path, path: str, client: str) -> None:
    store = Store(tmp_path, clock=Clock())
    control = Control(faults=Faults(), clock=AdjustableClock(), seen=RequestLog(), store=store)
    app = Starlette(routes=list(control.routes()))

    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "http",
        "method": "DELETE" if path == "/faults/1" else "GET",
        "path": f"/_emulator{path}",
        "query_string": b"",
        "headers": [],
        "client": (client, 50_000),
    }
    asyncio.run(app(scope, receive, send))
    store.close()

    assert said[0]["status"] == 404
    assert json.loads(said[1]["body"]) == {"message": "Not Found"}


def test_the_server_survives_a_truncated_body(acme: Account) -> None:
    host, port = acme.emulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /_emulator/faults HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")

    assert ask(acme, "GET", "/faults").json() == []
