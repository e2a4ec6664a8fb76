"""Published tilesets over HTTP: TileJSON and tiles as Mapbox serves them, and the emulator's own open pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator import pages
from airflow_mapbox.emulator.access import authenticate, check_tileset_access
from airflow_mapbox.emulator.calls import is_local, refused
from airflow_mapbox.emulator.edge import EdgeCache
from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.figures import READ_ERRORS
from airflow_mapbox.emulator.mbtiles import TilesetFacts, format_of_tile, read_facts, read_tile
from airflow_mapbox.emulator.request_log import RequestLog, RequestRecord
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, timestamp
from airflow_mapbox.emulator.tilesets import Tileset

VECTOR_TILE = "application/vnd.mapbox-vector-tile"
MEDIA_TYPES = {"pbf": VECTOR_TILE, "png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
SUFFIXES = {
    "pbf": ("mvt", "vector.pbf", "pbf"),
    "png": ("png", "png32", "png256"),
    "jpg": ("jpg", "jpg70", "jpg80", "jpg90"),
    "webp": ("webp",),
}
NUMBER = re.compile(r"[0-9]{1,10}\Z")
MAX_LISTED_UPLOADS = 100
# How long browsers keep TileJSON and tiles, in seconds: Mapbox's documentation, "Caching".
DEVICE_SECONDS = 43_200
CACHED_FACTS_BYTES = 20_000


T = TypeVar("T")


class TilesetPages:
    """The endpoints that serve tilesets: TileJSON, tiles and HTML pages.

    :param store: all state.
    :param request_log: records the requests to Mapbox's endpoints.
    :param clock: Unix time in seconds.
    """

    def __init__(
        self, store: Store, *, settings: EmulatorSettings, request_log: RequestLog, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._settings = settings
        self._request_log = request_log
        self._clock = clock
        self._cache = EdgeCache(seconds=settings.cache_seconds, clock=clock)

    def routes(self) -> list[Route]:
        """Return the routes for the application."""
        return [
            Route("/", self._home),
            Route("/v4/{tileset}.json", self._recorded(self._mapbox_tilejson)),
            Route("/v4/{tileset}/{z}/{x}/{file}", self._recorded(self._mapbox_tile)),
            Route("/tilesets/{tileset}.json", self._own_tilejson),
            Route("/tilesets/{tileset}", self._page),
            Route("/tilesets/{tileset}/{z}/{x}/{file}", self._own_tile),
        ]

    # Mapbox's endpoints, which need a token and are cached

    def _recorded(self, endpoint: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def handle(request: Request) -> Response:
            try:
                response = endpoint(request)
            except RefusedError as refusal:
                response = refused(refusal)
            self._request_log.add(RequestRecord(request.method, request.url.path, response.status_code, self._clock()))
            return response

        return handle

    def _mapbox_tilejson(self, request: Request) -> Response:
        token = request.query_params.get("access_token")
        tileset, facts = self._cached(request, self._facts, size=lambda _facts: CACHED_FACTS_BYTES)
        suffix = "vector.pbf" if facts.format == "pbf" else facts.format
        return JSONResponse(
            _tilejson(
                tileset, facts, f"{request.base_url}v4/{tileset.id}/{{z}}/{{x}}/{{y}}.{suffix}?access_token={token}"
            ),
            headers=self._cache_headers(),
        )

    def _mapbox_tile(self, request: Request) -> Response:
        _, (data, headers) = self._cached(
            request, lambda tileset: self._read_tile(request, tileset), size=lambda tile: len(tile[0])
        )
        return Response(data, headers=headers | self._cache_headers())

    def _cached(self, request: Request, read: Callable[[Tileset], T], *, size: Callable[[T], int]) -> tuple[Tileset, T]:
        """Return the tileset of a URL and what ``read`` returned for it, both as they were when the URL was cached."""
        record = authenticate(self._store, request.query_params.get("access_token"))
        path = request.url.path
        cached: tuple[Tileset, T] | None = self._cache.get(path)
        tileset = self._find(request) if cached is None else cached[0]
        check_tileset_access(record, tileset)
        if cached is None:
            cached = tileset, read(tileset)
            self._cache.put(path, cached, size=size(cached[1]))
        return cached

    def _cache_headers(self) -> dict[str, str]:
        seconds = self._settings.cache_seconds
        control = f"max-age={DEVICE_SECONDS},s-maxage={seconds:g}" if seconds else "no-cache"
        return {"Cache-Control": control, "Access-Control-Allow-Origin": "*"}

    # The emulator's own endpoints, without a token

    def _home(self, request: Request) -> Response:
        uploads = [
            upload.as_json(failed_complete=self._settings.failed_complete)
            for upload in self._store.list_uploads(self._settings.account, count=MAX_LISTED_UPLOADS)
        ]
        tilesets = self._store.tilesets.all()
        return HTMLResponse(pages.home_page(self._settings.account, uploads, tilesets, may_delete=is_local(request)))

    def _page(self, request: Request) -> Response:
        try:
            tileset = self._find(request)
            return HTMLResponse(pages.tileset_page(tileset, self._facts(tileset), may_delete=is_local(request)))
        except RefusedError as refusal:
            return refused(refusal)

    def _own_tilejson(self, request: Request) -> Response:
        try:
            tileset = self._find(request)
            facts = self._facts(tileset)
        except RefusedError as refusal:
            return refused(refusal)
        suffix = SUFFIXES.get(facts.format, (facts.format,))[-1]
        content = _tilejson(tileset, facts, f"{request.base_url}tilesets/{tileset.id}/{{z}}/{{x}}/{{y}}.{suffix}")
        content["feature_counts"] = facts.features
        content["tile_counts"] = {str(zoom): count for zoom, count in facts.tiles.items()}
        return JSONResponse(content)

    def _own_tile(self, request: Request) -> Response:
        try:
            data, headers = self._read_tile(request, self._find(request))
            return Response(data, headers=headers | {"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"})
        except RefusedError as refusal:
            return refused(refusal)

    # Helpers of both

    def _find(self, request: Request) -> Tileset:
        tileset = self._store.tilesets.find(request.path_params["tileset"])
        if tileset is None or not self._store.tilesets.file(tileset).is_file():
            raise RefusedError(404, ApiMessage.TILESET_MISSING)
        return tileset

    def _facts(self, tileset: Tileset) -> TilesetFacts:
        try:
            return read_facts(self._store.tilesets.file(tileset))
        except READ_ERRORS:
            raise RefusedError(500, ApiMessage.INTERNAL) from None

    def _read_tile(self, request: Request, tileset: Tileset) -> tuple[bytes, dict[str, str]]:
        """Return a tile and the headers that describe it."""
        y, _, suffix = request.path_params["file"].partition(".")
        numbers = [request.path_params["z"], request.path_params["x"], y]
        if not all(NUMBER.match(number) for number in numbers):
            raise RefusedError(404, ApiMessage.TILE_MISSING)
        zoom, column, row = map(int, numbers)
        try:
            data = read_tile(self._store.tilesets.file(tileset), zoom, column, row)
        except READ_ERRORS:
            raise RefusedError(500, ApiMessage.INTERNAL) from None
        tile_format = format_of_tile(data or b"") or "pbf"
        if data is None or suffix not in SUFFIXES[tile_format]:
            raise RefusedError(404, ApiMessage.TILE_MISSING)
        headers = {"Content-Type": MEDIA_TYPES[tile_format]}
        if data[:2] == b"\x1f\x8b":
            headers["Content-Encoding"] = "gzip"
        elif data[:1] == b"\x78" and tile_format == "pbf":
            headers["Content-Encoding"] = "deflate"
        return data, headers


def _tilejson(tileset: Tileset, facts: TilesetFacts, tiles: str) -> dict[str, Any]:
    content = {
        "tilejson": "2.2.0",
        "id": tileset.id,
        "name": tileset.name,
        "format": facts.format,
        "scheme": "xyz",
        "description": tileset.description,
        "filesize": tileset.filesize,
        "private": tileset.private,
        "minzoom": facts.minzoom,
        "maxzoom": facts.maxzoom,
        "bounds": list(facts.bounds),
        "center": list(facts.center),
        "created": int(tileset.created * 1000),
        "modified": int(tileset.modified * 1000),
        "mapbox_logo": False,
        "tiles": [tiles],
        "vector_layers": [
            {"source": tileset.id, "source_name": tileset.name, **layer} for layer in facts.vector_layers
        ],
        "last_modified": timestamp(tileset.modified),
    }
    if tileset.attribution:
        content["attribution"] = " ".join(
            f'<a href="{escape(item["link"])}" target="_blank">{escape(item["text"])}</a>'
            for item in tileset.attribution
        )
    return content
