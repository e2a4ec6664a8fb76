"""Faults at the API's server: an ASGI layer that spoils the answers that it was asked to spoil."""

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
_PACE = 0.05
_GARBAGE = b'\x00\xff{"id": "c\xc3('


class Connections:
    """The open connections of a server by their client's address, so that one can be cut."""

    def __init__(self) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transports: dict[tuple[str, int], Any] = {}
        self._is_stopping = False

    def stop(self) -> None:
        """Let no request wait any longer."""
        self._is_stopping = True

    async def wait(self, scope: Scope, seconds: float) -> None:
        """
        Wait, but not beyond the connection's or the server's end.

        :param scope: of the request that waits.
        :param seconds: by the real clock; 0 for as long as that.
        """
        until = time.monotonic() + (seconds or float("inf"))
        while not self._is_stopping and (left := until - time.monotonic()) > 0:
            transport = self._transport(scope)
            if transport is None or transport.is_closing():
                return
            await asyncio.sleep(min(left, _PACE))

    def _transport(self, scope: Scope) -> Any:
        client = scope["client"]
        return self._transports.get((client[0], client[1])) if client else None

    def protocol(self) -> type[H11Protocol]:
        """Give the protocol class by which a server keeps this list."""
        transports = self._transports

        class Listed(H11Protocol):
            _client: tuple[str, int] | None = None

            def connection_made(self, transport: Any) -> None:
                peer = transport.get_extra_info("peername")
                self._client = (peer[0], peer[1]) if peer else None
                if self._client is not None:
                    transports[self._client] = transport
                # The host program's logging may have switched these lines on again, and they show the token.
                self.access_log = False
                super().connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                if self._client is not None:
                    transports.pop(self._client, None)
                super().connection_lost(exc)

        return Listed

    async def cut(self, scope: Scope, receive: Receive) -> None:
        """End the connection of a request with no further byte, and return when it has ended."""
        transport = self._transport(scope)
        if transport is not None:
            transport.abort()
            # Until the server has noticed, it would take a missing answer for the application's fault.
            while (await receive())["type"] != "http.disconnect":
                pass


# Which of them keep the application from being asked.
_WITHOUT_EFFECT = {RequestFault.STATUS, RequestFault.HTML, RequestFault.DROP_BEFORE, RequestFault.HANG}


def with_faults(
    app: ASGIApp,
    faults: Faults,
    connections: Connections,
    *,
    spared: Callable[[str], bool],
    noted: Callable[[str, str, int], None],
) -> ASGIApp:
    """
    Put the faults before an application.

    :param app: what answers where nothing goes wrong.
    :param faults: what is to go wrong.
    :param connections: of the server.
    :param spared: says of a path that no fault is for it.
    :param noted: told method, path and status of a request that the application does not see; 0 for no answer.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or spared(scope["path"]):
            return await app(scope, receive, send)
        query = scope["query_string"].decode("latin-1")
        fault = faults.take(Where.API, scope["method"], scope["path"] + (f"?{query}" if query else ""))
        if fault is None:
            return await app(scope, receive, send)
        if fault.kind in _WITHOUT_EFFECT:
            answered = fault.kind in (RequestFault.STATUS, RequestFault.HTML)
            noted(scope["method"], scope["path"], fault.status if answered else 0)
        return await _spoil(fault, app, scope, receive, send, connections)

    return answer


async def _spoil(
    fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send, connections: Connections
) -> None:
    async def nowhere(_message: Message) -> None:
        """Drop what the application answers."""

    match RequestFault(fault.kind):
        case RequestFault.DELAY:
            if fault.seconds:
                await connections.wait(scope, fault.seconds)
            await app(scope, receive, send)
        case RequestFault.STATUS:
            await _answer(send, fault.status, "application/json", json.dumps({"message": fault.message}).encode())
        case RequestFault.HTML:
            await _answer(send, fault.status, "text/html", _HTML.replace(b"{0}", str(fault.status).encode()))
        case RequestFault.GARBAGE:
            await app(scope, receive, nowhere)
            await _answer(send, 200, "application/json", _GARBAGE)
        case RequestFault.EXPIRE:
            raise AssertionError("credentials end at S3")
        case RequestFault.DROP_BEFORE:
            await connections.cut(scope, receive)
        case RequestFault.DROP_AFTER:
            await app(scope, receive, nowhere)
            await connections.cut(scope, receive)
        case RequestFault.HANG:
            await connections.wait(scope, fault.seconds)
            await connections.cut(scope, receive)


async def _answer(send: Send, status: int, media_type: str, body: bytes) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
