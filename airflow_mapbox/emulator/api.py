"""The Uploads API and the tokens endpoint over HTTP: routes, statuses and messages."""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator.access import authorize, describe_token
from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.ratelimit import RateLimiter
from airflow_mapbox.emulator.request_log import RequestLog, RequestRecord
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, Upload
from airflow_mapbox.emulator.urls import parse_source

log = logging.getLogger(__name__)

TILESET = re.compile(r"([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]{1,32})\Z")
PROPERTIES = ("tileset", "url", "name")
NAME_LENGTH = 64
PAGE_UPLOADS = 100
BODY_BYTES = 1 << 20
RATE_LIMITED = RefusedError(429, ApiMessage.RATE_LIMITED)


@dataclass(frozen=True)
class _Call:
    """The parts of one request that the handlers need."""

    method: str
    account: str
    upload_id: str
    query: QueryParams
    body: bytes
    base_url: str


class UploadsApi:
    """The endpoints under ``/uploads/v1`` and ``/tokens/v2``.

    :param store: all state.
    :param request_log: records every answered request.
    :param clock: Unix time in seconds.
    :param on_created: called with every new upload.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: EmulatorSettings,
        request_log: RequestLog,
        clock: Callable[[], float],
        on_created: Callable[[Upload], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._request_log = request_log
        self._clock = clock
        self._on_created = on_created
        self._limiter = RateLimiter(limit=settings.rate_limit, window=settings.rate_window, clock=clock)

    def routes(self) -> list[Route]:
        """Return the routes for the application."""
        user = "/uploads/v1/{account}"
        return [
            self._route(user + "/credentials", {"POST": ("uploads:write", self._credentials)}),
            self._route(user, {"POST": ("uploads:write", self._create), "GET": ("uploads:list", self._list)}),
            self._route(
                user + "/{upload_id}",
                {"GET": ("uploads:read", self._status), "DELETE": ("uploads:write", self._delete)},
            ),
            Route("/tokens/v2", self._token, methods=["GET"]),
        ]

    def _route(self, path: str, handlers: dict[str, tuple[str, Callable[[_Call], Response]]]) -> Route:
        async def endpoint(request: Request) -> Response:
            scope, handler = handlers["GET" if request.method == "HEAD" else request.method]
            body = b""
            try:
                body = await read_body(request)
            except RefusedError as refusal:
                # The handler raises it, so that the rate limit and the token are checked first.
                handler = functools.partial(_refuse, refusal)
            call = _Call(
                method=request.method,
                account=request.path_params["account"],
                upload_id=request.path_params.get("upload_id", ""),
                query=request.query_params,
                body=body,
                base_url=str(request.base_url),
            )
            response = await run_in_threadpool(self._respond, call, scope, handler)
            self._record(request, response)
            return response

        return Route(path, endpoint, methods=list(handlers))

    def _respond(self, call: _Call, scope: str, handler: Callable[[_Call], Response]) -> Response:
        # Unknown accounts share one window, so that guessed names don't fill the memory.
        rate = self._limiter.check(call.account if call.account == self._settings.account else "")
        try:
            response = self._authorize_and_handle(call, scope, handler) if rate.allowed else refused(RATE_LIMITED)
        except RefusedError as refusal:
            response = refused(refusal)
        except Exception:
            log.exception("%s of an upload failed", call.method)
            response = refused(RefusedError(500, ApiMessage.INTERNAL))
        response.headers.update(rate.headers)
        return response

    def _authorize_and_handle(self, call: _Call, scope: str, handler: Callable[[_Call], Response]) -> Response:
        authorize(self._store, call.query.get("access_token"), account=call.account, scope=scope)
        return handler(call)

    def _record(self, request: Request, response: Response) -> None:
        self._request_log.add(RequestRecord(request.method, request.url.path, response.status_code, self._clock()))

    # Endpoints

    def _credentials(self, call: _Call) -> Response:
        credentials = self._store.issue_credentials(
            call.account, bucket=self._settings.bucket, lifetime=self._settings.credentials_lifetime
        )
        return JSONResponse(
            {
                "accessKeyId": credentials.access_key,
                "bucket": credentials.bucket,
                "key": credentials.key,
                "secretAccessKey": credentials.secret,
                "sessionToken": credentials.session,
                "url": f"https://{credentials.bucket}.s3.amazonaws.com/{credentials.key}",
            }
        )

    def _create(self, call: _Call) -> Response:
        fields = _parse_object(call.body)
        for required in ("tileset", "url"):
            if fields.get(required) is None:
                raise RefusedError(self._settings.name_status, ApiMessage.MISSING.format(required))
        for field in fields:
            if field not in PROPERTIES:
                raise RefusedError(self._settings.name_status, ApiMessage.INVALID_PROPERTY.format(field))
        tileset, url, name = fields["tileset"], fields["url"], fields.get("name")
        match = TILESET.match(tileset) if isinstance(tileset, str) else None
        if match is None or match[1] != call.account:
            raise RefusedError(self._settings.name_status, ApiMessage.INVALID_VALUE.format("tileset"))
        if name is not None and (not isinstance(name, str) or len(name) > NAME_LENGTH or "\0" in name):
            raise RefusedError(self._settings.name_status, ApiMessage.INVALID_VALUE.format("name"))
        if not isinstance(url, str):
            raise RefusedError(self._settings.name_status, ApiMessage.INVALID_VALUE.format("url"))
        source = parse_source(url, bucket=self._settings.bucket)
        upload = self._store.create_upload(
            owner=call.account,
            tileset=tileset,
            name=name,
            url=url,
            key=source.key,
            first_check=self._settings.create_looks_first,
        )
        self._on_created(upload)
        return JSONResponse(self._as_json(upload), status_code=201)

    def _status(self, call: _Call) -> Response:
        upload = self._store.find_upload(call.account, call.upload_id)
        if upload is None or self._clock() < upload.created + self._settings.unseen_seconds:
            raise RefusedError(404, ApiMessage.NOT_FOUND)
        return JSONResponse(self._as_json(upload))

    def _list(self, call: _Call) -> Response:
        limit = _limit(call.query.get("limit"))
        # @mapbox/mapbox-sdk sends `?reverse` without a value.
        reverse = call.query.get("reverse", "false").lower() in ("", "true", "1")
        uploads = self._store.list_uploads(
            call.account,
            until=self._clock() - self._settings.unlisted_seconds,
            after=call.query.get("start") or None,
            reverse=reverse,
            count=limit + 1,
        )
        page: list[Upload] = []
        size = 2
        for upload in uploads[:limit]:
            size += len(json.dumps(self._as_json(upload), ensure_ascii=False).encode()) + 1
            if page and size > self._settings.page_bytes:
                break
            page.append(upload)
        response = JSONResponse([self._as_json(upload) for upload in page])
        if len(uploads) > len(page):
            query = {"start": page[-1].id, "limit": str(limit), **({"reverse": "true"} if reverse else {})}
            response.headers["Link"] = f'<{call.base_url}uploads/v1/{call.account}?{urlencode(query)}>; rel="next"'
        return response

    def _delete(self, call: _Call) -> Response:
        if not self._store.remove_upload(call.account, call.upload_id):
            raise RefusedError(self._settings.early_delete_status, ApiMessage.INCOMPLETE)
        return Response(status_code=204)

    async def _token(self, request: Request) -> Response:
        token = request.query_params.get("access_token")
        response = (
            JSONResponse(await run_in_threadpool(describe_token, self._store, token))
            if token
            else refused(RefusedError(401, ApiMessage.UNAUTHORIZED))
        )
        self._record(request, response)
        return response

    def _as_json(self, upload: Upload) -> dict[str, object]:
        return upload.as_json(failed_complete=self._settings.failed_complete)


def refused(refusal: RefusedError) -> JSONResponse:
    """Return the API's response to a refused request."""
    return JSONResponse({"message": refusal.message}, status_code=refusal.status)


def _refuse(refusal: RefusedError, _call: _Call) -> Response:
    raise refusal


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


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
        # JSON can escape half of a surrogate pair, but UTF-8 cannot encode it.
        json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise RefusedError(400, ApiMessage.NO_JSON) from None
    if not isinstance(content, dict):
        raise RefusedError(400, ApiMessage.NO_OBJECT)
    return content


def _limit(value: str | None) -> int:
    if value is None:
        return PAGE_UPLOADS
    if not re.fullmatch(r"[0-9]{1,3}", value) or not 1 <= int(value) <= PAGE_UPLOADS:
        raise RefusedError(422, ApiMessage.INVALID_VALUE.format("limit"))
    return int(value)
