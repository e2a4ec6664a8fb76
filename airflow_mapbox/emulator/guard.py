"""Refuse requests of foreign web pages, which a browser on the developer's machine could send to the emulator.

The check uses headers that a page cannot set. ``Host`` is the name that the browser looked up: an attacker's own name,
even if it resolves to this machine (DNS rebinding). ``Origin``, or else ``Sec-Fetch-Site``, tells which site the page
came from (cross-site requests). Only browsers send these two.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

FOREIGN_PAGE = "A web page of another site must not use the emulator."
UNKNOWN_HOST = (
    "The emulator does not know this host name. Use 127.0.0.1 or localhost, or allow the name with --allow-host."
)
# An IPv4 address in decimal, octal or hexadecimal numbers.
_NUMBERS = re.compile(r"[0-9a-fx.]+")
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>{}</Message></Error>'


class Guard:
    """
    Check whether a request may come from a foreign web page.

    :param names: host names of the emulator, besides ``localhost`` and all numeric addresses.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(name.lower().rstrip(".") for name in names)

    def refusal(self, headers: Mapping[str, str], *, is_page: bool = False) -> str | None:
        """
        Return the reason to refuse a request, or None.

        :param headers: names in lower case.
        :param is_page: whether the request is for a page that other sites may link to.
        """
        host = headers.get("host")
        # Every browser sends `Host`, so a request without it is not from a page.
        if host is not None and not self._is_known_host(_name(host)):
            return UNKNOWN_HOST
        origin = headers.get("origin")
        if origin is not None:
            return None if self._is_our_origin(origin, host) else FOREIGN_PAGE
        if headers.get("sec-fetch-site") == "cross-site":
            is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
            return None if is_page and is_link else FOREIGN_PAGE
        return None

    def _is_known_host(self, name: str | None) -> bool:
        # A numeric address is not looked up, so a name server cannot redirect it.
        return name is not None and (self._is_local_name(name) or _address(name) is not None)

    def _is_local_name(self, name: str) -> bool:
        return name == "localhost" or name.endswith(".localhost") or name in self._names

    def _is_our_origin(self, origin: str, host: str | None) -> bool:
        name = _name(origin.partition("://")[2])
        if name is None:
            return False  # "null" is the origin of any sandboxed page
        address = _address(name)
        return self._is_local_name(name) or (
            address is not None and (address.is_loopback or (host is not None and name == _name(host)))
        )


def guarded(app: ASGIApp, guard: Guard, *, is_page: Callable[[str], bool]) -> ASGIApp:
    """
    Return an ASGI application with a guard before it.

    :param app: the application for allowed requests.
    :param guard: checks each request.
    :param is_page: returns whether a path is a page that other sites may link to.
    """

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        headers = dict(Headers(scope=scope))
        refusal = guard.refusal(headers, is_page=scope.get("method") == "GET" and is_page(scope["path"]))
        if refusal is None:
            await app(scope, receive, send)
        else:
            await JSONResponse({"message": refusal}, status_code=403)(scope, receive, send)

    return handle


def guarded_s3(app: WSGIApplication, guard: Guard, *, bucket: str) -> WSGIApplication:
    """
    Return the staging bucket's application with a guard before it.

    :param app: the application for allowed requests.
    :param guard: checks each request.
    :param bucket: the bucket's name, which clients may put before the host (``bucket.localhost``).
    """

    def handle(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        if "host" in headers:
            headers["host"] = headers["host"].removeprefix(f"{bucket}.")
        refusal = guard.refusal(headers)
        if refusal is None:
            return app(environ, start_response)
        body = _XML.format(refusal).encode()
        start_response(
            "403 Forbidden",
            [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), ("Connection", "close")],
        )
        return [body]

    return handle


def _name(authority: str) -> str | None:
    """Return the host of ``host:port`` in lower case, or None if it is invalid."""
    try:
        parts = urlsplit(f"//{authority}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if not name or parts.path or parts.query or parts.username is not None:
        return None
    return name.rstrip(".")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    try:
        # Browsers and curl accept 127.1 and 2130706433, too. The pattern is needed because inet_aton ignores all after
        # a space.
        return ipaddress.IPv4Address(socket.inet_aton(name)) if _NUMBERS.fullmatch(name) else None
    except OSError:
        return None
