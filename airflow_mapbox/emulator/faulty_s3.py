"""Faults at the staging bucket: a WSGI layer that applies the pending faults to requests and responses."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.sax.saxutils import escape

from werkzeug.wsgi import get_input_stream

from airflow_mapbox.emulator.faults import Fault, Faults, RequestFault, Where

_BLOCK_BYTES = 1 << 16
_HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"


def with_s3_faults(app: WSGIApplication, faults: Faults, *, sleep: Callable[[float | None], object]) -> WSGIApplication:
    """
    Return an application that applies faults before the bucket.

    :param app: the application for requests without a fault.
    :param faults: the pending faults; ``path`` is searched for in the path with its query.
    :param sleep: waits for a number of seconds (None: without limit), at most until the emulator stops.
    """

    def handle(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
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
                _run_and_discard(app, environ)
                return _cut_connection(environ)
            case RequestFault.HANG:
                sleep(fault.seconds or None)
                return _cut_connection(environ)
            case RequestFault.DROP_BEFORE:
                return _cut_connection(environ)
            case RequestFault.GARBAGE:
                _run_and_discard(app, environ)
                return _respond(start_response, 200, b"\x00\xff<Err")
            case RequestFault.HTML:
                _read_body(environ)
                return _respond(start_response, fault.status, _HTML, "text/html")
            case RequestFault.EXPIRE:
                raise AssertionError("StagingGate handles this fault")
            case RequestFault.STATUS:
                _read_body(environ)
                return _respond(start_response, fault.status, _error_xml(fault))

    return handle


def _run_and_discard(app: WSGIApplication, environ: WSGIEnvironment) -> None:
    def start_response(
        _status: str, _headers: list[tuple[str, str]], _exc_info: object = None
    ) -> Callable[[bytes], object]:
        return lambda _data: None

    response = app(environ, start_response)
    with contextlib.ExitStack() as stack:
        if hasattr(response, "close"):
            stack.callback(response.close)
        for _ in response:
            pass


def _read_body(environ: WSGIEnvironment) -> None:
    # A client reads the response only after it has sent its whole body.
    source = get_input_stream(environ)
    while source.read(_BLOCK_BYTES):
        pass


def _cut_connection(environ: WSGIEnvironment) -> Iterable[bytes]:
    connection: socket.socket = environ["werkzeug.socket"]
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("cut by a fault")


def _respond(
    start_response: StartResponse, status: int, body: bytes, media_type: str = "application/xml"
) -> Iterable[bytes]:
    headers = [("Content-Type", media_type), ("Content-Length", str(len(body))), ("Connection", "close")]
    start_response(f"{status} Fault", headers)
    return [body]


def _error_xml(fault: Fault) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message>"
        f"<RequestId>{secrets.token_hex(8).upper()}</RequestId></Error>"
    ).encode()
