from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_mapbox.http.retry import RetryPolicy
from airflow_mapbox.uploads.client import UploadsClient
from tests.unit.support import FakeTime, ScriptedServer, make_token


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()
    assert not server.unscripted, "requests that the test did not expect"


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def token() -> str:
    return make_token()


MakeClient = Callable[..., UploadsClient]


@pytest.fixture
def make_client(server: ScriptedServer, fake_time: FakeTime, token: str) -> Iterator[MakeClient]:
    made: list[UploadsClient] = []

    def make(**changed: Any) -> UploadsClient:
        policy = {
            name: changed.pop(name) for name in ("attempts", "base", "cap", "max_throttle_wait") if name in changed
        }
        options: dict[str, Any] = {
            "access_token": token,
            "base_url": server.url,
            "timeout": (5.0, 5.0, 10.0),
            "retry": RetryPolicy(**policy),
            "sleep": fake_time.sleep,
            "clock": fake_time.clock,
            "monotonic": fake_time.clock,
            "rng": random.Random(7),
        }
        client = UploadsClient(**(options | changed))
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client: MakeClient) -> UploadsClient:
    return make_client()
