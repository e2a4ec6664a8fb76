"""Answer calls of Mapbox's APIs: rate limit, token, body and handler in this order, and one shape for every refusal."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.ratelimit import RateLimiter
from airflow_mapbox.emulator.request_log import RequestLog, RequestRecord
from airflow_mapbox.emulator.tokens import Token

log = logging.getLogger(__name__)

TILESET = re.compile(r"([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]{1,32})\Z")
BODY_BYTES = 1 << 20
RATE_LIMITED = RefusedError(429, ApiMessage.RATE_LIMITED)


@dataclass(frozen=True)
class Call:
    """The parts of one request that the handlers need.

    :param body: the request's body, or the reason why it cannot be read.
    :param token: the token's record, once it was authorized.
    """

    method: str
    path: Mapping[str, str]
    query: QueryParams
    body: bytes | RefusedError
    base_url: str
    token: Token | None = None

    @property
    def account(self) -> str:
        """The account in the path, also of a tileset's id."""
        return str(self.path.get("account") or self.path["target"]).partition(".")[0]

    def json(self) -> dict[str, Any]:
        """Return the body's JSON object.

        :raises RefusedError: 400 if the body is not a JSON object.
        """
        if isinstance(self.body, RefusedError):
            raise self.body
        try:
            content = json.loads(self.body)
            # JSON can escape half of a surrogate pair, but UTF-8 cannot encode it.
            json.dumps(content, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise RefusedError(400, ApiMessage.NO_JSON) from None
        if not isinstance(content, dict):
            raise RefusedError(400, ApiMessage.NO_OBJECT)
        return content


@dataclass(frozen=True)
class Endpoint:
    """One method of one path.

    :param limiter: counts the calls.
    :param authorize: returns the token's record, or raises ``RefusedError``.
    :param handle: answers an authorized call.
    """

    limiter: RateLimiter
    authorize: Callable[[Call], Token]
    handle: Callable[[Call], Response]


class Answering:
    """Turns endpoints into routes.

    :param account: the emulator's account. All other names share one window of a rate limit, so that guessed names
        don't fill the memory.
    :param request_log: records every answered request.
    :param clock: Unix time in seconds.
    """

    def __init__(self, *, account: str, request_log: RequestLog, clock: Callable[[], float]) -> None:
        self._account = account
        self._request_log = request_log
        self._clock = clock

    def route(self, path: str, endpoints: Mapping[str, Endpoint]) -> Route:
        """Return the route of a path.

        :param path: its parameter is ``account``, or ``target`` for an account or a tileset's id. The calls count
            against this account's window.
        :param endpoints: by method.
        """

        async def endpoint(request: Request) -> Response:
            body: bytes | RefusedError
            try:
                body = await read_body(request)
            except RefusedError as refusal:
                # Raised later, so that the rate limit and the token are checked first.
                body = refusal
            call = Call(
                method=request.method,
                path=request.path_params,
                query=request.query_params,
                body=body,
                base_url=str(request.base_url),
            )
            chosen = endpoints["GET" if request.method == "HEAD" else request.method]
            response = await run_in_threadpool(self._respond, call, chosen)
            self.record(request, response)
            return response

        return Route(path, endpoint, methods=list(endpoints))

    def record(self, request: Request, response: Response) -> None:
        """Record an answered request."""
        self._request_log.add(RequestRecord(request.method, request.url.path, response.status_code, self._clock()))

    def _respond(self, call: Call, endpoint: Endpoint) -> Response:
        rate = endpoint.limiter.check(call.account if call.account == self._account else "")
        try:
            response = _handle(call, endpoint) if rate.allowed else refused(RATE_LIMITED)
        except RefusedError as refusal:
            response = refused(refusal)
        except Exception:
            log.exception("the emulator failed to answer a %s call", call.method)
            response = refused(RefusedError(500, ApiMessage.INTERNAL))
        response.headers.update(rate.headers)
        return response


def _handle(call: Call, endpoint: Endpoint) -> Response:
    token = endpoint.authorize(call)
    if isinstance(call.body, RefusedError):
        raise call.body
    return endpoint.handle(dataclasses.replace(call, token=token))


def refused(refusal: RefusedError) -> JSONResponse:
    """Return the API's response to a refused request."""
    return JSONResponse({"message": refusal.message}, status_code=refusal.status)


def is_local(request: Request) -> bool:
    """Return whether a request comes from this machine."""
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def read_body(request: Request) -> bytes:
    """
    Return the body of a request.

    :raises RefusedError: 413 if the body is too large, 400 if it is cut short.
    """
    blocks = bytearray()
    try:
        async for block in request.stream():
            blocks += block
            if len(blocks) > BODY_BYTES:
                raise RefusedError(413, ApiMessage.BODY_TOO_LARGE)
    except ClientDisconnect:
        raise RefusedError(400, ApiMessage.NO_JSON) from None
    return bytes(blocks)


def take_page(objects: list[Any], *, count: int, max_bytes: int) -> list[Any]:
    """Return the objects of one page of a list: at most ``count``, and fewer if their JSON would be too long.

    :param max_bytes: bytes of JSON after which a page ends. A page has at least one object.
    """
    page: list[Any] = []
    size = 2
    for item in objects[:count]:
        size += len(json.dumps(item, ensure_ascii=False).encode()) + 1
        if page and size > max_bytes:
            break
        page.append(item)
    return page
