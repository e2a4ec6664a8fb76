"""A bound on the time that a whole answer may take, however steadily its bytes trickle in."""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool


def bound_answers(pool: HTTPConnectionPool, seconds: float) -> None:
    """
    Give up each answer of a pool's connections that has not ended in time.

    A read timeout of a socket begins anew with every byte; this one does not. Late answers raise what a read timeout
    raises.

    :param pool: of one host, or of the proxy to it.
    :param seconds: from the end of the request to the last byte of the answer, status line and headers included.
    """
    kind: Any = pool.ConnectionCls
    if not hasattr(kind, "answers_are_bounded"):

        class BoundedConnection(kind):  # type: ignore[misc]  # http or https, as the pool is
            answers_are_bounded = True

            def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> HTTPResponse:
                response = HTTPResponse(sock, *args, **kwargs)
                response.fp = io.BufferedReader(_BoundedReader(response.fp.detach(), sock, time.monotonic() + seconds))
                return response

        pool.ConnectionCls = BoundedConnection


class _BoundedReader(io.RawIOBase):
    """The bytes of a socket until a deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        between_bytes = self._sock.gettimeout()
        self._sock.settimeout(left if between_bytes is None else min(left, between_bytes))
        try:
            return cast("int | None", self._raw.readinto(buffer))
        finally:
            if self._sock.fileno() != -1:
                self._sock.settimeout(between_bytes)

    def close(self) -> None:
        self._raw.close()
        super().close()
