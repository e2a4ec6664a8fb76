"""Random requests to all endpoints of the emulator: each gets a valid response, and none crashes it."""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.emulator.conftest import TOWNS, Account

REQUESTS = 400
# Set FUZZ_SEED to the seed that a failed test prints to repeat it.
SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(2**32))

METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE", "BREW"]
ODD = [
    "",
    "..",
    ".",
    "%00",
    "%2e%2e%2f",
    "..%2f..%2ftoken",
    "a b",
    "\u00e9",
    "\U0001f600",
    "'",
    '"',
    "<b>",
    "*",
    "\\",
    "~",
]
WORDS = [
    *("uploads", "v1", "v4", "tokens", "v2", "credentials", "tilesets", "_emulator", "faults", "clock", "requests"),
    *("tiling-service", "static", "map.js", "acme", "acme.places", "acme.places.json", "0", "0.pbf", "0.mvt", "99999"),
    *("recipe", "publish", "jobs", "delete"),
]
NAMES = [
    *("access_token", "limit", "start", "reverse", "uploads", "uploadId", "partNumber", "x-id", "acl", "versionId"),
    *("type", "visibility", "sortby", "secure"),
]
HEADERS = [
    *("Content-Type", "Content-Encoding", "Content-MD5", "Range", "If-Match", "If-None-Match", "If-Modified-Since"),
    *("X-Forwarded-For", "X-Forwarded-Proto", "Accept-Encoding", "x-amz-acl", "x-amz-tagging", "x-amz-storage-class"),
    *("x-amz-meta-x", "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm", "x-amz-decoded-content-length"),
    *("x-amz-server-side-encryption", "x-amz-website-redirect-location", "x-amz-checksum-mode", "x-amz-trailer"),
]
CALLS_WITH_BODY = [
    ("POST", "/uploads/v1/acme"),
    ("PATCH", "/tilesets/v1/acme.places"),
    ("POST", "/_emulator/tilesets"),
]
NUMBERS = [0, -1, 1, 1.5, 2**31, 2**63, 1e308, True, False, None]
KEYS = [
    *("url", "tileset", "name", "private", "kind", "where", "status", "times", "after", "seconds", "progress"),
    *("path", "method", "bytes", "advance", "speed", "message", "code"),
    *("description", "attribution", "id", "created", "modified", "filesize", "visibility", "type"),
]
PLAUSIBLE = [
    "acme.places",
    "https://x/y",
    "s3://a/b",
    "mapbox://datasets/acme/x",
    "status",
    "expire",
    "api",
    "s3",
    "processing",
]


class Chance:
    """A random mix of unusual and valid parts of requests."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self) -> str:
        kind = self.random.randrange(4)
        if kind == 0:
            return self.random.choice(ODD)
        if kind == 1:
            return self.random.choice(PLAUSIBLE)
        letters = string.printable if kind == 2 else string.ascii_letters
        return "".join(self.random.choices(letters, k=self.random.choice([1, 5, 33, 300])))

    def path(self) -> str:
        parts = [
            self.random.choice(WORDS) if self.random.random() < 0.7 else self.text()
            for _ in range(self.random.randrange(6))
        ]
        return "/" + "/".join(quote(part, safe="%.~*'") for part in parts)

    def query(self, token: str) -> str:
        pairs = [(self.random.choice(NAMES), self.text()) for _ in range(self.random.randrange(4))]
        if self.random.random() < 0.7:
            pairs.append(("access_token", token))
        return "&".join(quote(name) + (f"={quote(value)}" if value else "") for name, value in pairs)

    def value(self, depth: int = 0) -> Any:
        kind = self.random.randrange(5 if depth < 3 else 2)
        if kind == 0:
            return self.text()
        if kind == 1:
            return self.random.choice(NUMBERS)
        if kind == 2:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return {self.random.choice(KEYS): self.value(depth + 1) for _ in range(self.random.randrange(5))}

    def body(self) -> bytes:
        kind = self.random.randrange(5)
        if kind == 0:
            return self.random.randbytes(self.random.choice([0, 1, 50, 5000]))
        text = json.dumps(self.value()).encode()
        return text[: self.random.randrange(len(text) + 1)] if kind == 1 else text

    def headers(self) -> dict[str, str]:
        chosen = self.random.sample(HEADERS, self.random.randrange(4))
        return {name: quote(self.text(), safe=" /=,-*")[:200] for name in chosen}


@pytest.fixture
def chance(record_property: Callable[[str, object], None]) -> Chance:
    print(f"FUZZ_SEED={SEED}")
    record_property("seed", SEED)
    return Chance(SEED)


@pytest.fixture(autouse=True)
def _nothing_crashes(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING)
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def send(url: str, method: str, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    host = urlsplit(url)
    connection = http.client.HTTPConnection(str(host.hostname), int(host.port or 0), timeout=30)
    try:
        connection.request(method, target, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def is_valid_response(status: int, body: bytes) -> bool:
    if b"Traceback" in body:
        return False
    if status < 400 or not body:
        return True
    content = json.loads(body)
    if status == 500:
        # Documented only for URLs outside of the bucket.
        return bool(content == {"message": "Internal Server Error"})
    return status < 500 and list(content) == ["message"]


def files_of(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_random_requests_to_the_api_and_its_control_never_crash(acme: Account, chance: Chance) -> None:
    acme.upload(TOWNS)
    secret = acme.emulator.token.encode()
    database = (acme.emulator.folder / "emulator.sqlite3").read_bytes()[:16]
    internal = 0
    for number in range(REQUESTS):
        method = chance.random.choice(METHODS)
        target = chance.path() + "?" + chance.query(acme.emulator.token)
        body, headers = chance.body(), chance.headers()
        if chance.random.random() < 0.4:
            method, path = chance.random.choice(CALLS_WITH_BODY)
            target = f"{path}?access_token={acme.emulator.token}"

        status, response = send(acme.emulator.url, method, target, body, headers)

        request_parts = (number, SEED, method, target, body, headers)
        assert is_valid_response(status, response), (request_parts, status, response)
        assert database not in response, request_parts
        # TileJSON repeats the request's own token.
        assert secret not in response or acme.emulator.token in target, request_parts
        internal += status == 500
        # A random request may have added a fault, which must not affect the next request.
        acme.emulator.faults.clear()
    assert internal < REQUESTS / 4
    assert acme.call("GET").status_code == 200


def test_random_requests_to_the_bucket_never_crash(acme: Account, chance: Chance) -> None:
    issued = acme.credentials()
    credentials = Credentials(issued["accessKeyId"], issued["secretAccessKey"], issued["sessionToken"])
    own = f"/{issued['bucket']}/{issued['key']}"
    before = files_of(acme.emulator.folder)
    for number in range(REQUESTS):
        method = chance.random.choice(METHODS)
        target = own if chance.random.random() < 0.7 else chance.path()
        query = chance.query("x")
        url = f"{acme.emulator.s3_url}{target}" + (f"?{query}" if query else "")
        body, headers = chance.body(), chance.headers()
        # Half of the requests have a valid signature.
        if chance.random.random() < 0.5:
            request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
            S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
            headers = dict(request.headers.items())

        status, response = send(acme.emulator.s3_url, method, url.removeprefix(acme.emulator.s3_url), body, headers)

        request_parts = (number, SEED, method, url, body, headers)
        assert status < 500, (request_parts, status, response)
        assert b"Traceback" not in response, request_parts
        if status >= 400 and response:
            assert ElementTree.fromstring(response).tag == "Error", (request_parts, response)
    created = {name for name in files_of(acme.emulator.folder) - before if not name.startswith("emulator.sqlite3")}
    # Only the staged object has a file. Parts are in unnamed temporary files.
    assert {name.partition("/")[0] for name in created} <= {"staged"}
    assert acme.upload(TOWNS)["error"] is None
