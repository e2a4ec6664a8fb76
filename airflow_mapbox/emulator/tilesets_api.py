"""The tilesets endpoints over HTTP: list, update and delete the tilesets that uploads made."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator.access import authorize_scope
from airflow_mapbox.emulator.calls import TILESET, Answering, Call, Endpoint, take_page
from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.ratelimit import RateLimiter
from airflow_mapbox.emulator.request_log import RequestLog
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, timestamp
from airflow_mapbox.emulator.tilesets import SORTS, VISIBILITIES, Listing, Tileset
from airflow_mapbox.emulator.tokens import Token

PAGE_TILESETS = 100
MAX_PAGE_TILESETS = 500
# `rasterarray` is a type of the Mapbox Tiling Service, so the emulator has no tileset of it.
LISTED_TYPES = ("vector", "raster", "rasterarray")
# The limits of "Update tileset information" in Mapbox's documentation, in characters.
NAME_LENGTH = 64
DESCRIPTION_LENGTH = 500
MAX_ATTRIBUTIONS = 3
ATTRIBUTION_TEXTS_LENGTH = 80
ATTRIBUTION_LINKS_LENGTH = 1000


class TilesetsApi:
    """The endpoints under ``/tilesets/v1``.

    :param store: all state.
    :param request_log: records every answered request.
    :param clock: Unix time in seconds.
    """

    def __init__(
        self, store: Store, *, settings: EmulatorSettings, request_log: RequestLog, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._answering = Answering(account=settings.account, request_log=request_log, clock=clock)
        window = settings.rate_window
        self._reads = RateLimiter(limit=settings.tilesets_read_limit, window=window, clock=clock)
        self._writes = RateLimiter(limit=settings.tilesets_write_limit, window=window, clock=clock)

    def routes(self) -> list[Route]:
        """Return the routes for the application."""
        target = "/tilesets/v1/{target}"
        tiling_service = {
            "recipe": {"GET": (self._reads, "tilesets:list"), "PATCH": (self._writes, "tilesets:write")},
            "publish": {"POST": (self._writes, "tilesets:write")},
            "jobs": {"GET": (self._reads, "tilesets:list")},
        }
        return [
            self._answering.route(
                target,
                {
                    "GET": self._endpoint(self._reads, "tilesets:list", self._list),
                    "DELETE": self._endpoint(self._writes, "tilesets:write", self._delete),
                    "PATCH": self._endpoint(self._writes, "tilesets:write", self._update),
                },
            ),
            *(
                self._answering.route(
                    f"{target}/{action}",
                    {
                        method: self._endpoint(limiter, scope, self._refuse_tiling_service)
                        for method, (limiter, scope) in methods.items()
                    },
                )
                for action, methods in tiling_service.items()
            ),
        ]

    def _endpoint(self, limiter: RateLimiter, scope: str, handle: Callable[[Call], Response]) -> Endpoint:
        return Endpoint(limiter, functools.partial(self._authorize, scope), handle)

    def _authorize(self, scope: str, call: Call) -> Token:
        return authorize_scope(self._store, call.query.get("access_token"), scope=scope)

    # Endpoints

    def _list(self, call: Call) -> Response:
        account = call.path["target"]
        if account != self._settings.account:
            raise RefusedError(404, ApiMessage.NOT_FOUND)
        limit = _limit(call.query.get("limit"))
        listing = Listing(
            type=_choice(call, "type", LISTED_TYPES),
            visibility=_choice(call, "visibility", VISIBILITIES),
            sort=_choice(call, "sortby", SORTS) or self._settings.tilesets_default_sort,
            after=call.query.get("start") or None,
            shows_pending=self._settings.tilesets_show_pending,
            keeps_deleted=self._settings.start_keeps_deleted,
            only_public=call.token is None or call.token.account != account,
        )
        tilesets = self._store.tilesets.page(account, listing, count=limit + 1)
        page = take_page(
            [self._as_json(tileset) for tileset in tilesets], count=limit, max_bytes=self._settings.page_bytes
        )
        response = JSONResponse(page)
        if len(tilesets) > len(page):
            query = {"start": str(page[-1]["id"]), "limit": str(limit)}
            query |= {name: call.query[name] for name in ("type", "visibility", "sortby") if call.query.get(name)}
            response.headers["Link"] = f'<{call.base_url}tilesets/v1/{account}?{urlencode(query)}>; rel="next"'
        return response

    def _delete(self, call: Call) -> Response:
        self._check_owner(call)
        status = self._settings.active_delete_status
        if not self._store.tilesets.delete(call.path["target"], active_status=status):
            raise self._missing()
        return Response(status_code=self._settings.tileset_delete_status)

    def _update(self, call: Call) -> Response:
        self._check_owner(call)
        changes = _changes(call.json(), status=self._settings.name_status)
        tileset = self._find(call)
        refused_status = self._settings.update_refused_status
        if refused_status is not None and tileset.id not in self._store.tilesets.tiling_service_tilesets():
            raise RefusedError(refused_status, ApiMessage.NOT_MADE_HERE.format(tileset.id))
        if changes and self._settings.update_changes_modified:
            changes["modified"] = self._clock()
        self._store.tilesets.update(tileset.id, changes)
        return Response(status_code=204)

    def _refuse_tiling_service(self, call: Call) -> Response:
        """Refuse a call of the Mapbox Tiling Service for a tileset that an upload made. The message was seen (R)."""
        self._check_owner(call)
        raise RefusedError(400, ApiMessage.NOT_MADE_HERE.format(self._find(call).id))

    # Helpers

    def _check_owner(self, call: Call) -> None:
        """Raise 404 if the path is not the id of a tileset of the token's account."""
        match = TILESET.match(call.path["target"])
        if match is None or call.token is None or match[1] != call.token.account:
            raise self._missing()

    def _find(self, call: Call) -> Tileset:
        tileset = self._store.tilesets.find(call.path["target"])
        if tileset is None:
            raise self._missing()
        return tileset

    def _missing(self) -> RefusedError:
        return RefusedError(404, self._settings.missing_tileset_message)

    def _as_json(self, tileset: Tileset) -> dict[str, Any]:
        content = {
            "type": tileset.type,
            "center": list(tileset.center),
            "created": timestamp(tileset.created),
            "description": tileset.description,
            "filesize": tileset.filesize,
            "id": tileset.id,
            "modified": timestamp(tileset.modified),
            "name": tileset.name,
            "visibility": tileset.visibility,
            "status": tileset.status,
        }
        if self._settings.tileset_costs:
            content["tileset_precisions"] = dict(tileset.precisions)
            content["created_by_client"] = tileset.client
            content["cu"] = tileset.cu
        return content


def _limit(value: str | None) -> int:
    if value is None:
        return PAGE_TILESETS
    if not re.fullmatch(r"[0-9]{1,3}", value) or not 1 <= int(value) <= MAX_PAGE_TILESETS:
        raise RefusedError(422, ApiMessage.INVALID_QUERY.format("limit"))
    return int(value)


def _choice(call: Call, name: str, choices: tuple[str, ...]) -> str | None:
    value = call.query.get(name)
    if value is not None and value not in choices:
        raise RefusedError(422, ApiMessage.INVALID_QUERY.format(name))
    return value


def _changes(fields: dict[str, Any], *, status: int) -> dict[str, Any]:
    """Return the columns that an update changes.

    :param status: the status of the refusal of a field.
    :raises RefusedError: for a field that is unknown, of a wrong type or too long.
    """
    checks: dict[str, Callable[[Any], bool]] = {
        "name": lambda value: _is_string(value, NAME_LENGTH),
        "description": lambda value: _is_string(value, DESCRIPTION_LENGTH),
        "private": lambda value: isinstance(value, bool),
        "attribution": _is_attribution,
    }
    for name, value in fields.items():
        if name not in checks:
            raise RefusedError(status, ApiMessage.INVALID_PROPERTY.format(name))
        if not checks[name](value):
            raise RefusedError(status, ApiMessage.INVALID_VALUE.format(name))
    return dict(fields)


def _is_string(value: Any, length: int) -> bool:
    return isinstance(value, str) and len(value) <= length and "\0" not in value


def _is_attribution(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_ATTRIBUTIONS
        and all(
            isinstance(item, dict)
            and set(item) == {"text", "link"}
            and all(isinstance(part, str) for part in item.values())
            for item in value
        )
        and sum(len(item["text"]) for item in value) <= ATTRIBUTION_TEXTS_LENGTH
        and sum(len(item["link"]) for item in value) <= ATTRIBUTION_LINKS_LENGTH
    )
