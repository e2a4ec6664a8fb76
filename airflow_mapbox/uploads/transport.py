"""The way to one server: proxy and trust from the environment, the token added last, answers bounded."""

from __future__ import annotations

import os
import ssl
import time
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from airflow_mapbox.uploads.errors import ConfigurationError

# Seconds after which an idle connection is not used again. Load balancers drop one after a minute or more, and some
# without a word, which a request would learn by waiting in vain.
_IDLE = 30.0
_GZIP = 16 + zlib.MAX_WBITS


class Transport:
    """
    Sends requests to one server, from any thread.

    The wire is httpcore's, which is httpx's own: every task process has it loaded. An ``httpx.Client`` is not used,
    since it logs each URL, keeps cookies, and reads a redirect's target even where it must not follow. The token is
    added at the last moment, so no URL that the caller or httpx holds, logs or puts into an exception has it.

    :param base_url: of the server; nothing is sent to another.
    :param access_token: added to each request's query.
    :param whole_answer: seconds from the end of a request to the last byte of its answer, status line and headers
        included, however steadily the bytes trickle in.
    :raises ConfigurationError: where the address is none, or the environment names a proxy or certificates that cannot
        be used.
    """

    def __init__(self, base_url: str, access_token: str, *, whole_answer: float) -> None:
        address = _address(base_url)
        self._server = address.raw_scheme, address.netloc
        self._parameter = urlencode({"access_token": access_token}).encode()
        # Plain http goes to the loopback only, which is for no proxy that the environment names.
        trust = _trust() if address.scheme == "https" else None
        proxy = None if trust is None else _proxy(address, trust)
        self.through_proxy = proxy is not None
        self._pool = httpcore.ConnectionPool(
            trust,
            proxy,
            max_connections=None,
            keepalive_expiry=_IDLE,
            network_backend=_BoundedBackend(whole_answer),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def send(self, request: httpx.Request) -> httpcore.Response:
        """
        Send a request and read the head of its answer; whoever gets the answer closes it.

        :param request: without the token.
        :raises ConfigurationError: where it is for another server; nothing is sent.
        :raises httpcore.ConnectError: and others of httpcore's, as the network has it.
        """
        url = request.url
        if (url.raw_scheme, url.netloc) != self._server:
            raise ConfigurationError("The token is not sent to another server than the one it is for.")
        target = b"%b%b%b" % (url.raw_path, b"&" if url.query else b"?", self._parameter)
        return self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=target),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._pool.close()


def body_of(answer: httpcore.Response, encoding: str, most: int) -> bytes | None:
    """
    Read an answer's body to its end.

    :param answer: as :meth:`Transport.send` gave it.
    :param encoding: its ``Content-Encoding``; gzip is unpacked.
    :param most: bytes, packed or unpacked.
    :return: the body; None where it is larger.
    :raises zlib.error: where it cannot be unpacked.
    """
    gunzip = zlib.decompressobj(_GZIP) if encoding.lower() in ("gzip", "x-gzip") else None
    received, body = 0, bytearray()
    for chunk in answer.iter_stream():
        received += len(chunk)
        body += chunk if gunzip is None else gunzip.decompress(chunk, most + 1)
        if received > most or len(body) > most:
            return None
    return bytes(body)


class _BoundedBackend(httpcore.SyncBackend):
    """Opens connections whose answers are given up in time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _BoundedStream(super().connect_tcp(*args, **kwargs), self._seconds)


class _BoundedStream(httpcore.NetworkStream):
    """A connection that is read for so long after what was last written: a timeout begins anew with every byte."""

    def __init__(self, stream: httpcore.NetworkStream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer took too long")
        return self._stream.read(max_bytes, left if timeout is None else min(left, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._stream.write(buffer, timeout)
        finally:
            self._deadline = time.monotonic() + self._seconds

    def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _BoundedStream(self._stream.start_tls(*args, **kwargs), self._seconds)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def _address(base_url: str) -> httpx.URL:
    try:
        address = httpx.URL(base_url)
        address.raw_host.decode("ascii").encode("idna")  # as the socket will, which has no error of httpcore's for it
    except (httpx.InvalidURL, UnicodeError):
        pass
    else:
        return address
    raise ConfigurationError("The address in the connection's host has a host or path that cannot be used.")


def _trust() -> ssl.SSLContext:
    """Make what servers are verified with: what requests and boto3 are told first, then what httpx is told."""
    path = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    try:
        if not path:
            return httpx.create_ssl_context()
        folder = Path(path).is_dir()
        return ssl.create_default_context(capath=path) if folder else ssl.create_default_context(cafile=path)
    except OSError:
        pass
    raise ConfigurationError(
        "The certificates that the environment names in REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE or SSL_CERT_FILE cannot be "
        "read: check the path, and that they are PEM."
    )


def _proxy(address: httpx.URL, trust: ssl.SSLContext) -> httpcore.Proxy | None:
    """Make the proxy that the environment names for an https address (HTTPS_PROXY, ALL_PROXY), save by NO_PROXY."""
    named = getproxies()
    url = named.get("https") or named.get("all")
    if not url or proxy_bypass(address.host) or proxy_bypass(address.netloc.decode("ascii")):
        return None
    try:
        proxy = httpx.Proxy(url if "://" in url else f"http://{url}")
    except (httpx.InvalidURL, ValueError):
        pass
    else:
        if proxy.url.scheme in ("http", "https"):
            trusted = trust if proxy.url.scheme == "https" else None
            return httpcore.Proxy(str(proxy.url), proxy.raw_auth, ssl_context=trusted)
    raise ConfigurationError("The proxy that the environment names for https (HTTPS_PROXY) is no http(s) address.")
