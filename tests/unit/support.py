"""What the unit tests share: a server that follows a script, time that is passed in, canaries to look for."""

from __future__ import annotations

import base64
import io
import json
import logging
import secrets
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

ACCOUNT = "orion"
# Longer than pytest lets a test take, so that a client which waits for the end of a hang fails.
LONGEST_HANG = 600.0


def make_token(account: str = ACCOUNT, kind: str = "sk") -> str:
    """Make a token of Mapbox's shape that no other run has."""
    payload = base64.urlsafe_b64encode(json.dumps({"u": account, "a": secrets.token_hex(8)}).encode()).decode()
    return ".".join((kind, payload.rstrip("="), secrets.token_urlsafe(16)))


@dataclass(frozen=True)
class Reply:
    """
    One answer of the script, or one fault in its place.

    :param json: what the body encodes, unless ``body`` is given.
    :param raw: sent as it is, in place of everything else.
    :param fault: ``refuse to read``, ``drop``, ``reset``, ``half`` (of the body), ``hang``.
    :param pause: seconds between the bytes of whatever is sent.
    """

    status: int = 200
    json: Any = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    fault: str = ""
    pause: float = 0.0

    def encoded(self) -> bytes:
        if self.raw is not None:
            return self.raw
        body = self.body if self.body is not None else b"" if self.json is None else json.dumps(self.json).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"{name}: {value}" for name, value in (headers | dict(self.headers)).items() if value]
        head = "\r\n".join([f"HTTP/1.1 {self.status} Scripted", *lines, "", ""]).encode("latin-1")
        return head + (body[: len(body) // 2] if self.fault == "half" else body)


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """An HTTP server on a free port of the loopback that answers what it was told to, in order."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Seen] = []
        self.unscripted: list[str] = []
        self._script: deque[Reply] = deque()
        self._over = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def handle(self) -> None:
                owner._handle(self)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that has gone is what half of the tests are about."""

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def script(self, *replies: Reply) -> None:
        self._script.extend(replies)

    @property
    def left(self) -> int:
        return len(self._script)

    def stop(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        if self._script and self._script[0].fault == "refuse to read":
            self._script.popleft()
            return
        line = handler.rfile.readline(65537).decode("latin-1").split()
        if len(line) != 3:
            return
        headers: dict[str, str] = {}
        while header := handler.rfile.readline(65537).decode("latin-1").strip():
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("expect") == "100-continue":
            handler.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = handler.rfile.read(int(headers.get("content-length", "0")))
        parts = urlsplit(line[1])
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.requests.append(Seen(line[0], parts.path, query, headers, body))
        if not self._script:
            self.unscripted.append(f"{line[0]} {parts.path}")
            reply = Reply(418, {"message": "not in the script"})
        else:
            reply = self._script.popleft()
        self._send(handler.connection, reply)

    def _send(self, connection: socket.socket, reply: Reply) -> None:
        if reply.fault == "drop":
            return
        if reply.fault == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            return
        if reply.fault == "hang":
            self._over.wait(LONGEST_HANG)
            return
        data = reply.encoded()
        if not reply.pause:
            connection.sendall(data)
            return
        for start in range(len(data)):
            if self._over.wait(reply.pause):
                return
            connection.sendall(data[start : start + 1])


@contextmanager
def closed_port() -> Iterator[str]:
    """Give the URL of a port that nobody listens on, and nobody will while the block lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@dataclass
class FakeTime:
    """Time that passes only while somebody sleeps."""

    now: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 <= seconds < float("inf")
        self.slept.append(seconds)
        self.now += seconds


class FakeStore:
    """The task state store: JSON, kept for as long as the task instance, through retries and clears."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def get(self, key: str) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else None

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = json.dumps(value)


class FixedRandom:
    """A source of jitter that always gives the same share of the range."""

    def __init__(self, share: float) -> None:
        self.share = share

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.share


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """Collect what any logger says at any level, as a plain handler at the root writes it."""
    buffer = io.StringIO()
    handler = logging.StreamHandler(buffer)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield buffer
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def chain(error: BaseException) -> list[BaseException]:
    """Give an error and all that hangs on it: causes, contexts, members of groups, errors among the arguments."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        item = todo.pop()
        if not isinstance(item, BaseException) or any(item is known for known in found):
            continue
        found.append(item)
        todo += [item.__cause__, item.__context__, *item.args, *vars(item).values()]
        todo += getattr(item, "exceptions", ())
    return found


def all_text_of(error: BaseException) -> str:
    """Write out everything that could be shown of an error."""
    return "\n".join(
        "\n".join(map(repr, (str(item), repr(item), item.args, vars(item), getattr(item, "__notes__", None))))
        for item in chain(error)
    )


def upload_json(**changed: Any) -> dict[str, Any]:
    """Give an upload object as the API sends it."""
    return {
        "id": "cifzrlur163cyuikrm5gm9yyv",
        "name": None,
        "complete": False,
        "error": None,
        "created": "2023-11-14T22:13:20.000Z",
        "modified": "2023-11-14T22:13:20.000Z",
        "tileset": f"{ACCOUNT}.harbours",
        "owner": ACCOUNT,
        "progress": 0,
    } | changed
