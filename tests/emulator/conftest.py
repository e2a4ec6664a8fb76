from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config

from airflow_mapbox.emulator import Emulator, EmulatorSettings

PATIENCE = 30.0
# Loading the description of S3 takes longer than most tests.
SESSION = boto3.session.Session()


@dataclass
class Clock:
    """Time that stands still until it is told to go on."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Account:
    """A user of the emulator who knows HTTP and S3 and nothing of this project."""

    emulator: Emulator
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def name(self) -> str:
        return self.emulator.account

    def call(self, method: str, path: str = "", *, token: str | None = "", **kwargs: Any) -> requests.Response:
        params = dict(kwargs.pop("params", {}))
        if token is not None:
            params["access_token"] = token or self.emulator.token
        url = f"{self.emulator.url}/uploads/v1/{self.name}{path}"
        return self.session.request(method, url, params=params, timeout=PATIENCE, allow_redirects=False, **kwargs)

    def credentials(self) -> dict[str, str]:
        answer = self.call("POST", "/credentials")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def s3(self, issued: dict[str, str], *, style: str = "path", **changed: Any) -> Any:
        options = {
            "aws_access_key_id": issued["accessKeyId"],
            "aws_secret_access_key": issued["secretAccessKey"],
            "aws_session_token": issued["sessionToken"],
            "region_name": "us-east-1",
            "endpoint_url": self.emulator.s3_url,
            "config": Config(s3={"addressing_style": style}, retries={"total_max_attempts": 1}),
        }
        return SESSION.client("s3", **{**options, **changed})

    def stage(self, data: bytes | dict[str, Any]) -> dict[str, str]:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        issued = self.credentials()
        self.s3(issued).put_object(Bucket=issued["bucket"], Key=issued["key"], Body=body)
        return issued

    def create(self, url: str, tileset: str = "places", **more: Any) -> requests.Response:
        return self.call("POST", json={"url": url, "tileset": f"{self.name}.{tileset}", **more})

    def upload(self, data: bytes | dict[str, Any], tileset: str = "places", **more: Any) -> dict[str, Any]:
        """Stage, create, wait: the finished upload object."""
        answer = self.create(self.stage(data)["url"], tileset, **more)
        assert answer.status_code == 201, answer.text
        return self.wait(answer.json()["id"])

    def wait(self, upload_id: str, until: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            upload = self.call("GET", f"/{upload_id}").json()
            if until(upload) if until else upload["complete"] or upload["error"] is not None:
                return dict(upload)
            time.sleep(0.02)
        raise AssertionError(f"still waiting for {upload_id}: {upload}")

    def tileset(self, tileset: str = "places") -> requests.Response:
        return self.session.get(f"{self.emulator.url}/tilesets/{self.name}.{tileset}.json", timeout=PATIENCE)


@pytest.fixture
def settings() -> EmulatorSettings:
    return EmulatorSettings(
        account="acme", processing_seconds=0, rate_limit=0, tilesets_read_limit=0, tilesets_write_limit=0
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """One emulator for the tests of a module that leave nothing behind which the next would notice."""
    settings = EmulatorSettings(
        account="acme", processing_seconds=0, rate_limit=0, tilesets_read_limit=0, tilesets_write_limit=0
    )
    with Emulator(tmp_path_factory.mktemp("shared"), settings=settings) as running:
        yield Account(running)


@pytest.fixture
def emulator(tmp_path: Path, settings: EmulatorSettings) -> Iterator[Emulator]:
    with Emulator(tmp_path / "emulator", settings=settings) as running:
        yield running


@pytest.fixture
def acme(emulator: Emulator) -> Account:
    return Account(emulator)


def points(*positions: tuple[float, float], **more: Any) -> dict[str, Any]:
    """A FeatureCollection of points numbered from 0."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {"number": number},
                "geometry": {"type": "Point", "coordinates": list(position)},
            }
            for number, position in enumerate(positions)
        ],
        **more,
    }


TOWNS = points((13.4, 52.5), (2.35, 48.85), (-0.12, 51.5))
