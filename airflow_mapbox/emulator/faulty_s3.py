"""Faults at the staging bucket: a WSGI layer that spoils the answers that it was asked to spoil."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.sax.saxutils import escape

from werkzeug.wsgi import get_input_stream

from airflow_mapbox.emulator.faults import Fault, Faults, RequestFault, Where

_BLOCK = 1 << 16
_HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"


def with_s3_faults(app: WSGIApplication, faults: Faults, *, sleep: Callable[[float | None], object]) -> WSGIApplication:
    """
    Put the faults before the bucket.

    :param app: what answers where nothing goes wrong.
    :param faults: what is to go wrong; ``path`` is looked for in the path with its query.
    :param sleep: waits for seconds, for None until the emulator stops, and never longer than that.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        path = environ["PATH_INFO"] + (f"?{query}" if query else "")
        fault = faults.take(Where.S3, environ["REQUEST_METHOD"], path)
        if fault is None:
            return app(environ, start_response)
        match RequestFault(fault.kind):
            case RequestFault.DELAY:
                sleep(fault.seconds)
                return app(environ, start_response)
            case RequestFault.DROP_AFTER:
                _run(app, environ)
                return _cut(environ)
            case RequestFault.HANG:
                sleep(fault.seconds or None)
                return _cut(environ)
            case RequestFault.DROP_BEFORE:
                return _cut(environ)
            case RequestFault.GARBAGE:
                _run(app, environ)
                return _say(start_response, 200, b"\x00\xff<Err")
            case RequestFault.HTML:
                _read(environ)
                return _say(start_response, fault.status, _HTML, "text/html")
            case RequestFault.EXPIRE:
                raise AssertionError("the gate ends credentials")
            case RequestFault.STATUS:
                _read(environ)
                return _say(start_response, fault.status, _error(fault))

    return answer


def _run(app: WSGIApplication, environ: WSGIEnvironment) -> None:
    def start_response(
        _status: str, _headers: list[tuple[str, str]], _exc_info: object = None
    ) -> Callable[[bytes], object]:
        return lambda _data: None

    answer = app(environ, start_response)
    with contextlib.ExitStack() as stack:
        if hasattr(answer, "close"):
            stack.callback(answer.close)
        for _ in answer:
            pass


def _read(environ: WSGIEnvironment) -> None:
    # A client that is still sending would not see the answer.
    source = get_input_stream(environ)
    while source.read(_BLOCK):
        pass


def _cut(environ: WSGIEnvironment) -> Iterable[bytes]:
    connection: socket.socket = environ["werkzeug.socket"]
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("cut by a fault")


def _say(
    start_response: StartResponse, status: int, body: bytes, media_type: str = "application/xml"
) -> Iterable[bytes]:
    headers = [("Content-Type", media_type), ("Content-Length", str(len(body))), ("Connection", "close")]
    start_response(f"{status} Fault", headers)
    return [body]


def _error(fault: Fault) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message>"
        f"<RequestId>{secrets.token_hex(8).upper()}</RequestId></Error>"
    ).encode()
