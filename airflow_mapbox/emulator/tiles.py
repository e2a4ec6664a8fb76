"""Published tilesets over HTTP: TileJSON and tiles as Mapbox serves them, and the emulator's own open pages."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator import pages
from airflow_mapbox.emulator.access import authorize
from airflow_mapbox.emulator.api import TILESET, refused
from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.mbtiles import (
    MetadataTooLargeError,
    QueryTimeoutError,
    TilesetFacts,
    format_of_tile,
    read_facts,
    read_tile,
)
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, Tileset, timestamp

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
# A tileset's file was valid when it was published, but a view in it can return something else each time.
READ_ERRORS = (sqlite3.Error, QueryTimeoutError, MetadataTooLargeError, ValueError, TypeError)


class TilesetPages:
    """The endpoints that serve tilesets: TileJSON, tiles and HTML pages.

    :param store: all state.
    """

    def __init__(self, store: Store, *, settings: EmulatorSettings) -> None:
        self._store = store
        self._settings = settings

    def routes(self) -> list[Route]:
        """Return the routes for the application."""
        return [
            Route("/", self._home),
            Route("/v4/{tileset}.json", self._mapbox_tilejson),
            Route("/v4/{tileset}/{z}/{x}/{file}", self._mapbox_tile),
            Route("/tilesets/{tileset}.json", self._own_tilejson),
            Route("/tilesets/{tileset}", self._page),
            Route("/tilesets/{tileset}/{z}/{x}/{file}", self._own_tile),
        ]

    # Mapbox's endpoints, which need a token

    def _mapbox_tilejson(self, request: Request) -> Response:
        try:
            tileset = self._find_authorized(request)
            facts = self._facts(tileset)
        except RefusedError as refusal:
            return refused(refusal)
        token = request.query_params["access_token"]
        suffix = "vector.pbf" if facts.format == "pbf" else facts.format
        return JSONResponse(
            _tilejson(
                tileset, facts, f"{request.base_url}v4/{tileset.id}/{{z}}/{{x}}/{{y}}.{suffix}?access_token={token}"
            )
        )

    def _mapbox_tile(self, request: Request) -> Response:
        try:
            return self._serve_tile(request, self._find_authorized(request))
        except RefusedError as refusal:
            return refused(refusal)

    def _find_authorized(self, request: Request) -> Tileset:
        match = TILESET.match(request.path_params["tileset"])
        account = match[1] if match else self._settings.account
        authorize(self._store, request.query_params.get("access_token"), account=account, scope=None)
        return self._find(request)

    # The emulator's own endpoints, without a token

    def _home(self, request: Request) -> Response:
        uploads = [
            upload.as_json(failed_complete=self._settings.failed_complete)
            for upload in self._store.list_uploads(self._settings.account, count=MAX_LISTED_UPLOADS)
        ]
        return HTMLResponse(pages.home_page(self._settings.account, uploads, self._store.list_tilesets()))

    def _page(self, request: Request) -> Response:
        try:
            tileset = self._find(request)
            return HTMLResponse(
                pages.tileset_page(
                    tileset, self._facts(tileset), size=self._store.tiles_file(tileset.id).stat().st_size
                )
            )
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
            return self._serve_tile(request, self._find(request))
        except RefusedError as refusal:
            return refused(refusal)

    # Helpers of both

    def _find(self, request: Request) -> Tileset:
        tileset_id = request.path_params["tileset"]
        # Only ids from the database become part of a file's name.
        tileset = self._store.find_tileset(tileset_id) if TILESET.match(tileset_id) else None
        if tileset is None or not self._store.tiles_file(tileset.id).is_file():
            raise RefusedError(404, ApiMessage.TILESET_MISSING)
        return tileset

    def _facts(self, tileset: Tileset) -> TilesetFacts:
        try:
            return read_facts(self._store.tiles_file(tileset.id))
        except READ_ERRORS:
            raise RefusedError(500, ApiMessage.INTERNAL) from None

    def _serve_tile(self, request: Request, tileset: Tileset) -> Response:
        y, _, suffix = request.path_params["file"].partition(".")
        numbers = [request.path_params["z"], request.path_params["x"], y]
        if not all(NUMBER.match(number) for number in numbers):
            raise RefusedError(404, ApiMessage.TILE_MISSING)
        zoom, column, row = map(int, numbers)
        try:
            data = read_tile(self._store.tiles_file(tileset.id), zoom, column, row)
        except READ_ERRORS:
            raise RefusedError(500, ApiMessage.INTERNAL) from None
        tile_format = format_of_tile(data or b"") or "pbf"
        if data is None or suffix not in SUFFIXES[tile_format]:
            raise RefusedError(404, ApiMessage.TILE_MISSING)
        headers = {"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"}
        if data[:2] == b"\x1f\x8b":
            headers["Content-Encoding"] = "gzip"
        elif data[:1] == b"\x78" and tile_format == "pbf":
            headers["Content-Encoding"] = "deflate"
        return Response(data, media_type=MEDIA_TYPES[tile_format], headers=headers)


def _tilejson(tileset: Tileset, facts: TilesetFacts, tiles: str) -> dict[str, Any]:
    return {
        "tilejson": "2.2.0",
        "id": tileset.id,
        "name": tileset.name,
        "format": facts.format,
        "scheme": "xyz",
        "private": True,
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
