"""Faults at the API's server: an ASGI layer that applies the pending faults to requests and responses."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_mapbox.emulator.faults import Fault, Faults, RequestFault, Where

_HTML = (
    b"<html><head><title>{0} Bad Gateway</title></head><body><center><h1>Bad Gateway</h1></center>"
    b"<hr><center>nginx</center></body></html>\r\n"
)
_POLL_SECONDS = 0.05
_GARBAGE = b'\x00\xff{"id": "c\xc3('


class Connections:
    """The open connections of a server by client address, so that a fault can cut one."""

    def __init__(self) -> None:
        # `Any`: uvloop's transports are not a subclass of asyncio's.
        self._transports: dict[tuple[str, int], Any] = {}
        self._is_stopping = False

    def stop(self) -> None:
        """End all waits, and begin no new ones."""
        self._is_stopping = True

    async def wait(self, scope: Scope, seconds: float) -> None:
        """
        Wait until the time is over, the connection closes, or the server stops.

        :param scope: the waiting request's scope.
        :param seconds: seconds by the real clock; 0 for no limit.
        """
        until = time.monotonic() + (seconds or float("inf"))
        while not self._is_stopping and (remaining := until - time.monotonic()) > 0:
            transport = self._transport(scope)
            if transport is None or transport.is_closing():
                return
            await asyncio.sleep(min(remaining, _POLL_SECONDS))

    def _transport(self, scope: Scope) -> Any:
        client = scope["client"]
        return self._transports.get((client[0], client[1])) if client else None

    def protocol(self) -> type[H11Protocol]:
        """Return a protocol class for uvicorn that keeps this list of connections."""
        transports = self._transports

        class TrackedProtocol(H11Protocol):
            _client: tuple[str, int] | None = None

            def connection_made(self, transport: Any) -> None:
                peer = transport.get_extra_info("peername")
                self._client = (peer[0], peer[1]) if peer else None
                if self._client is not None:
                    transports[self._client] = transport
                # The host program's logging may have enabled the access log again, and its lines contain the token.
                self.access_log = False
                super().connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                if self._client is not None:
                    transports.pop(self._client, None)
                super().connection_lost(exc)

        return TrackedProtocol

    async def cut(self, scope: Scope, receive: Receive) -> None:
        """Cut a request's connection without sending anything, and return once it is closed."""
        transport = self._transport(scope)
        if transport is not None:
            transport.abort()
            # If this returned earlier, uvicorn would report a missing response as an error of the application.
            while (await receive())["type"] != "http.disconnect":
                pass


# Faults that keep the request from the application.
_WITHOUT_EFFECT = {RequestFault.STATUS, RequestFault.HTML, RequestFault.DROP_BEFORE, RequestFault.HANG}


def with_faults(
    app: ASGIApp,
    faults: Faults,
    connections: Connections,
    *,
    is_exempt: Callable[[str], bool],
    record: Callable[[str, str, int], None],
) -> ASGIApp:
    """
    Return an application that applies faults before another application.

    :param app: the application for requests without a fault.
    :param faults: the pending faults.
    :param connections: the server's connections.
    :param is_exempt: returns whether a path never gets a fault.
    :param record: called with method, path and status of each request that does not reach the application; the status
        is 0 if there is no response.
    """

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_exempt(scope["path"]):
            return await app(scope, receive, send)
        query = scope["query_string"].decode("latin-1")
        fault = faults.take(Where.API, scope["method"], scope["path"] + (f"?{query}" if query else ""))
        if fault is None:
            return await app(scope, receive, send)
        if fault.kind in _WITHOUT_EFFECT:
            has_response = fault.kind in (RequestFault.STATUS, RequestFault.HTML)
            record(scope["method"], scope["path"], fault.status if has_response else 0)
        return await _apply(fault, app, scope, receive, send, connections)

    return handle


async def _apply(
    fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send, connections: Connections
) -> None:
    async def discard(_message: Message) -> None:
        """Discard the application's response."""

    match RequestFault(fault.kind):
        case RequestFault.DELAY:
            if fault.seconds:
                await connections.wait(scope, fault.seconds)
            await app(scope, receive, send)
        case RequestFault.STATUS:
            await _send_response(
                send, fault.status, "application/json", json.dumps({"message": fault.message}).encode()
            )
        case RequestFault.HTML:
            await _send_response(send, fault.status, "text/html", _HTML.replace(b"{0}", str(fault.status).encode()))
        case RequestFault.GARBAGE:
            await app(scope, receive, discard)
            await _send_response(send, 200, "application/json", _GARBAGE)
        case RequestFault.EXPIRE:
            raise AssertionError("this fault exists only at S3")
        case RequestFault.DROP_BEFORE:
            await connections.cut(scope, receive)
        case RequestFault.DROP_AFTER:
            await app(scope, receive, discard)
            await connections.cut(scope, receive)
        case RequestFault.HANG:
            await connections.wait(scope, fault.seconds)
            await connections.cut(scope, receive)


async def _send_response(send: Send, status: int, media_type: str, body: bytes) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
