"""A ``requests`` session for one server. It adds the token last, bounds replies, and keeps secrets out of errors."""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError, NewConnectionError

from airflow_mapbox.errors import ConfigurationError, NoAnswerError, NotSentError, without_frames
from airflow_mapbox.http.environment import route_to, trust_in
from airflow_mapbox.security.endpoints import origin

# Close an idle connection after this many seconds. Load balancers drop one after a minute or more, some of them
# silently. The next request would then wait for its reply in vain.
_IDLE_SECONDS = 30.0
_BLOCK_BYTES = 2**16
# A link and its parameters (RFC 8288, section 3). The parser of requests loses some of them.
_LINK = re.compile(r'<(?P<target>[^>]*)>(?P<parameters>(?:\s*;\s*[^\s=;,"]+(?:\s*=\s*(?:"[^"]*"|[^\s;,"]*))?)*)')
_LINK_PARAMETER = re.compile(r'([^\s=;,"]+)\s*=\s*(?:"([^"]*)"|([^\s;,"]*))')
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Answer:
    """
    A complete reply.

    :param status: the HTTP status.
    :param headers: the headers; names in any case. Several values of one name are separated by commas.
    :param body: the decompressed body; None if it is larger than allowed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None

    @property
    def next_link(self) -> str | None:
        """The target of the ``Link`` header with the relation type ``next`` (RFC 8288), or None."""
        for link in _LINK.finditer(self.headers.get("Link", "")):
            for name, quoted, plain in _LINK_PARAMETER.findall(link["parameters"]):
                if name.lower() == "rel" and "next" in (quoted or plain).lower().split():
                    return link["target"]
        return None


class Transport:
    """
    Sends requests to one server, from any thread.

    The token is added when a request is written to its connection. So no URL of a request, a reply, a log line or an
    exception contains it. The transport follows no redirect, keeps no cookie, and reads no password from a ``.netrc``.

    :param base_url: URL of the server. The transport sends nothing to other servers.
    :param access_token: added to the query of each request.
    :param timeout: seconds to connect, for the next bytes, and for the whole reply, headers included. The last one
        holds even if bytes keep coming slowly.
    :raises ConfigurationError: if the address, the proxy or the certificates of the environment cannot be used.
    """

    @without_frames
    def __init__(self, base_url: str, access_token: str, timeout: tuple[float, float, float]) -> None:
        self._origin = origin(base_url)
        self._timeout = timeout
        self._progress = _Progress()
        try:
            probe = requests.Request("GET", base_url).prepare()
            str(urlsplit(base_url).hostname).encode("ascii").decode().encode("idna")  # as the socket will
        except ValueError:  # the errors of requests and of encoding a host are ValueErrors
            raise ConfigurationError("The address in the connection's host has an invalid host or path.") from None
        route = route_to(base_url)
        trust = trust_in(route) if base_url.startswith("https:") else None
        adapter = _Adapter(urlencode({"access_token": access_token}), self._progress, trust)
        self._through_proxy = route.proxy is not None
        self._session = _session(adapter, route.proxy)
        try:
            adapter.get_connection_with_tls_context(probe, True, proxies=self._session.proxies)
        except (ValueError, HTTPError) as error:
            socks = isinstance(error, requests.exceptions.InvalidSchema)
            raise ConfigurationError(
                "The proxy in HTTPS_PROXY or ALL_PROXY cannot be used.\n"
                + (
                    "SOCKS needs an extra: pip install 'airflow-provider-mapbox[socks]'."
                    if socks
                    else "Check its scheme, host and port."
                )
            ) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @without_frames
    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, max_bytes: int, seconds: float
    ) -> Answer:
        """
        Send a request and read its reply.

        :param method: the method.
        :param url: the URL, without the token.
        :param headers: the headers.
        :param body: the body, or None.
        :param max_bytes: upper bound of the reply's body, both compressed and decompressed.
        :param seconds: upper bound of each of the three timeouts.
        :raises ConfigurationError: if the URL belongs to another server. No request is sent.
        :raises NotSentError: if no connection was made.
        :raises NoAnswerError: if the reply is missing or incomplete.
        """
        if origin(url) != self._origin:
            raise ConfigurationError("The token belongs to another server and is not sent to this one.")
        connect, read, whole = (min(timeout, seconds) for timeout in self._timeout)
        self._progress.begin(whole)
        started = time.monotonic()
        try:
            # Prepared by hand, because the URL is checked already: requests' own way takes a third of a status request.
            request = requests.PreparedRequest()
            request.method, request.url, request.headers, request.body = method, url, CaseInsensitiveDict(headers), body
            request.hooks = {}
            request.prepare_content_length(body)
            with self._session.send(request, stream=True, allow_redirects=False, timeout=(connect, read)) as response:
                self._progress.answered = True
                return Answer(response.status_code, response.headers, _body(response, max_bytes))
        except Exception as error:
            problem: NoAnswerError
            if self._progress.sent:
                problem = NoAnswerError(self._why_no_answer(error, read, whole, time.monotonic() - started))
            else:
                reason, retryable = self._why_not_sent(error, connect)
                problem = NotSentError(reason, retryable=retryable)
        raise problem

    def close(self) -> None:
        """Close the open connections."""
        self._session.close()

    def _why_not_sent(self, error: Exception, connect: float) -> tuple[str, bool]:
        """Return the reason, and whether a retry can help."""
        causes = _causes(error)
        tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
        if isinstance(tls, ssl.SSLCertVerificationError):
            return f"the certificate could not be verified ({tls.verify_message})", False
        if tls is not None:
            transient = isinstance(tls, ssl.SSLEOFError | ssl.SSLZeroReturnError)
            return f"the TLS handshake failed ({tls.reason})", transient
        if isinstance(error, requests.exceptions.ProxyError) or (
            self._through_proxy and any(isinstance(cause, NewConnectionError) for cause in causes)
        ):
            return "the proxy refused the connection", True
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return f"no connection within {connect:g} s", True
        return f"no connection could be made ({type(error).__name__})", True

    def _why_no_answer(self, error: Exception, read: float, whole: float, took: float) -> str:
        if any(isinstance(cause, TimeoutError) for cause in (error, *_causes(error))):
            return f"no complete reply within {whole:g} s" if took >= whole else f"no reply within {read:g} s"
        event = "the reply was cut off" if self._progress.answered else "the connection broke"
        return f"{event} ({type(error).__name__})"


class _Progress(threading.local):
    """The progress of this thread's request."""

    whole = 0.0
    sent = False
    answered = False

    def begin(self, whole: float) -> None:
        self.whole, self.sent, self.answered = whole, False, False


class _Adapter(HTTPAdapter):
    """Adds the token when a request is written to its connection, and tracks the connections."""

    def __init__(self, parameter: str, progress: _Progress, trust: ssl.SSLContext | None) -> None:
        self._parameter = parameter
        self._progress = progress
        self._trust = trust
        self._last_sent = time.monotonic()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._trust)
        _track(self.poolmanager, self._progress)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        exists = proxy in self.proxy_manager
        to_proxy = {} if proxy.lower().startswith("socks") else {"proxy_ssl_context": self._trust}
        manager = super().proxy_manager_for(proxy, **kwargs, ssl_context=self._trust, **to_proxy)
        if not exists:
            _track(manager, self._progress)
        return manager

    def cert_verify(self, conn: Any, *args: Any, **kwargs: Any) -> None:
        # All connections share a context that has the authorities. requests would read them for each connection.
        conn.cert_reqs = "CERT_REQUIRED"

    def request_url(self, request: Any, proxies: Any) -> str:
        target = super().request_url(request, proxies)
        return f"{target}{'&' if '?' in target else '?'}{self._parameter}"

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        now, last_sent = time.monotonic(), self._last_sent
        self._last_sent = now
        if now - last_sent > _IDLE_SECONDS:
            self.close()  # closes the connections; the adapter makes new ones
        return super().send(*args, **kwargs)


class _Connection:
    """A mixin for urllib3's connections: it notes when a request is sent, and bounds the reply's time."""

    progress: _Progress

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.is_closed:  # type: ignore[attr-defined]
            self.connect()  # type: ignore[attr-defined]
        self.progress.sent = True
        super().request(*args, **kwargs)  # type: ignore[misc]

    def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, *args, **kwargs)
        deadline = time.monotonic() + self.progress.whole
        response.fp = io.BufferedReader(_BoundedReader(response.fp.detach(), sock, deadline))
        return response


class _BoundedReader(io.RawIOBase):
    """The bytes of one reply until a deadline. A socket's own timeout starts again with every byte."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._socket = sock
        self._timeout = sock.gettimeout()
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining if self._timeout is None else min(remaining, self._timeout))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _track(manager: Any, progress: _Progress) -> None:
    """Let a pool manager make connections of :class:`_Connection`, with or without a proxy."""
    manager.pool_classes_by_scheme = {
        scheme: type(
            pool.__name__,
            (pool,),
            {"ConnectionCls": type("Connection", (_Connection, pool.ConnectionCls), {"progress": progress})},
        )
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }


def _session(adapter: HTTPAdapter, proxy: str | None) -> requests.Session:
    session = _Session()
    session.trust_env = False  # the route has the environment's settings
    session.proxies = {"https": proxy} if proxy else {}
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: otherwise requests would read the reply's whole body to prepare the next request."""
        return None


def _body(response: requests.Response, max_bytes: int) -> bytes | None:
    compressed = response.headers.get("Content-Encoding", "").lower() in ("gzip", "x-gzip")
    gunzip = zlib.decompressobj(_GZIP) if compressed else None
    received, body = 0, bytearray()
    for block in response.raw.stream(_BLOCK_BYTES, decode_content=False):
        received += len(block)
        body += block if gunzip is None else gunzip.decompress(block, max_bytes + 1)
        if max(received, len(body)) > max_bytes:
            return None
    if gunzip is not None and received and not gunzip.eof:
        raise zlib.error("cut off")
    return bytes(body)


def _causes(error: BaseException) -> list[BaseException]:
    """Return the errors inside an error of requests: its arguments, causes and contexts."""
    causes: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        item = pending.pop()
        if isinstance(item, BaseException) and not any(item is other for other in causes):
            causes.append(item)
            pending += [*item.args, item.__cause__, item.__context__, getattr(item, "reason", None)]
    return causes
