"""Random requests to every door of the emulator: each is answered in the door's own words, and none is a crash."""

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
# A failure is repeated by the seed that it prints.
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
]
NAMES = ["access_token", "limit", "start", "reverse", "uploads", "uploadId", "partNumber", "x-id", "acl", "versionId"]
HEADERS = [
    *("Content-Type", "Content-Encoding", "Content-MD5", "Range", "If-Match", "If-None-Match", "If-Modified-Since"),
    *("X-Forwarded-For", "X-Forwarded-Proto", "Accept-Encoding", "x-amz-acl", "x-amz-tagging", "x-amz-storage-class"),
    *("x-amz-meta-x", "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm", "x-amz-decoded-content-length"),
    *("x-amz-server-side-encryption", "x-amz-website-redirect-location", "x-amz-checksum-mode", "x-amz-trailer"),
]
NUMBERS = [0, -1, 1, 1.5, 2**31, 2**63, 1e308, True, False, None]
KEYS = [
    *("url", "tileset", "name", "private", "kind", "where", "status", "times", "after", "seconds", "progress"),
    *("path", "method", "bytes", "advance", "speed", "message", "code"),
]
MEANT = [
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
    """Things as nobody sends them, and in between such as everybody does."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self) -> str:
        kind = self.random.randrange(4)
        if kind == 0:
            return self.random.choice(ODD)
        if kind == 1:
            return self.random.choice(MEANT)
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
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def in_the_apis_words(status: int, body: bytes) -> bool:
    if b"Traceback" in body:
        return False
    if status < 400 or not body:
        return True
    said = json.loads(body)
    if status == 500:
        # Documented for addresses outside of the bucket, and for nothing else.
        return bool(said == {"message": "Internal Server Error"})
    return status < 500 and list(said) == ["message"]


def files_of(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_the_api_and_its_control(acme: Account, chance: Chance) -> None:
    acme.upload(TOWNS)
    secret = acme.emulator.token.encode()
    database = (acme.emulator.folder / "emulator.sqlite3").read_bytes()[:16]
    internal = 0
    for number in range(REQUESTS):
        method = chance.random.choice(METHODS)
        target = chance.path() + "?" + chance.query(acme.emulator.token)
        body, headers = chance.body(), chance.headers()
        if chance.random.random() < 0.3:
            method, target = "POST", f"/uploads/v1/acme?access_token={acme.emulator.token}"

        status, answer = send(acme.emulator.url, method, target, body, headers)

        sent = (number, SEED, method, target, body, headers)
        assert in_the_apis_words(status, answer), (sent, status, answer)
        assert database not in answer, sent
        # TileJSON hands the token back to who sent it.
        assert secret not in answer or acme.emulator.token in target, sent
        internal += status == 500
        # A fault that chance has made is met by no other request.
        acme.emulator.faults.clear()
    assert internal < REQUESTS / 4
    assert acme.call("GET").status_code == 200


def test_the_bucket(acme: Account, chance: Chance) -> None:
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
        # Half of the requests are signed as they ought to be.
        if chance.random.random() < 0.5:
            request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
            S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
            headers = dict(request.headers.items())

        status, answer = send(acme.emulator.s3_url, method, url.removeprefix(acme.emulator.s3_url), body, headers)

        sent = (number, SEED, method, url, body, headers)
        assert status < 500, (sent, status, answer)
        assert b"Traceback" not in answer, sent
        if status >= 400 and answer:
            assert ElementTree.fromstring(answer).tag == "Error", (sent, answer)
    made = {name for name in files_of(acme.emulator.folder) - before if not name.startswith("emulator.sqlite3")}
    # What was put is the one object, and parts are in no file with a name.
    assert {name.partition("/")[0] for name in made} <= {"staged"}
    assert acme.upload(TOWNS)["error"] is None
