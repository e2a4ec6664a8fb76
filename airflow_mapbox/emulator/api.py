"""The Uploads API and the tokens endpoint over HTTP: routes, statuses and messages."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator.access import authorize, describe_token
from airflow_mapbox.emulator.calls import TILESET, Answering, Call, Endpoint, refused, take_page
from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.ratelimit import RateLimiter
from airflow_mapbox.emulator.request_log import RequestLog
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, Upload
from airflow_mapbox.emulator.tokens import Token
from airflow_mapbox.emulator.urls import parse_source

PROPERTIES = ("tileset", "url", "name")
NAME_LENGTH = 64
PAGE_UPLOADS = 100


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
        self._clock = clock
        self._on_created = on_created
        self._answering = Answering(account=settings.account, request_log=request_log, clock=clock)
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

    def _route(self, path: str, handlers: dict[str, tuple[str, Callable[[Call], Response]]]) -> Route:
        return self._answering.route(
            path,
            {
                method: Endpoint(self._limiter, functools.partial(self._authorize, scope), handler)
                for method, (scope, handler) in handlers.items()
            },
        )

    def _authorize(self, scope: str, call: Call) -> Token:
        return authorize(self._store, call.query.get("access_token"), account=call.account, scope=scope)

    # Endpoints

    def _credentials(self, call: Call) -> Response:
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

    def _create(self, call: Call) -> Response:
        fields = call.json()
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

    def _status(self, call: Call) -> Response:
        upload = self._store.find_upload(call.account, call.path["upload_id"])
        if upload is None or self._clock() < upload.created + self._settings.unseen_seconds:
            raise RefusedError(404, ApiMessage.NOT_FOUND)
        return JSONResponse(self._as_json(upload))

    def _list(self, call: Call) -> Response:
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
        objects = [self._as_json(upload) for upload in uploads]
        page = take_page(objects, count=limit, max_bytes=self._settings.page_bytes)
        response = JSONResponse(page)
        if len(uploads) > len(page):
            query = {"start": str(page[-1]["id"]), "limit": str(limit), **({"reverse": "true"} if reverse else {})}
            response.headers["Link"] = f'<{call.base_url}uploads/v1/{call.account}?{urlencode(query)}>; rel="next"'
        return response

    def _delete(self, call: Call) -> Response:
        if not self._store.remove_upload(call.account, call.path["upload_id"]):
            raise RefusedError(self._settings.early_delete_status, ApiMessage.INCOMPLETE)
        return Response(status_code=204)

    async def _token(self, request: Request) -> Response:
        token = request.query_params.get("access_token")
        response = (
            JSONResponse(await run_in_threadpool(describe_token, self._store, token))
            if token
            else refused(RefusedError(401, ApiMessage.UNAUTHORIZED))
        )
        self._answering.record(request, response)
        return response

    def _as_json(self, upload: Upload) -> dict[str, object]:
        return upload.as_json(failed_complete=self._settings.failed_complete)


def _limit(value: str | None) -> int:
    if value is None:
        return PAGE_UPLOADS
    if not re.fullmatch(r"[0-9]{1,3}", value) or not 1 <= int(value) <= PAGE_UPLOADS:
        raise RefusedError(422, ApiMessage.INVALID_VALUE.format("limit"))
    return int(value)
