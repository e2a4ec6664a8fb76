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
from airflow_mapbox.emulator.errors import RefusedError, Said
from airflow_mapbox.emulator.mbtiles import (
    EndlessError,
    MetadataTooLargeError,
    TilesetFacts,
    kind_of,
    read_facts,
    read_tile,
)
from airflow_mapbox.emulator.settings import EmulatorSettings
from airflow_mapbox.emulator.store import Store, Tileset, timestamp

VECTOR = "application/vnd.mapbox-vector-tile"
MEDIA_TYPES = {"pbf": VECTOR, "png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
SUFFIX = {
    "pbf": ("mvt", "vector.pbf", "pbf"),
    "png": ("png", "png32", "png256"),
    "jpg": ("jpg", "jpg70", "jpg80", "jpg90"),
    "webp": ("webp",),
}
NUMBER = re.compile(r"[0-9]{1,10}\Z")
LISTED = 100
# A tileset's file was good when it was published, but views in it may be different each time.
UNREADABLE = (sqlite3.Error, EndlessError, MetadataTooLargeError, ValueError, TypeError)


class TilesetPages:
    """Everything about tilesets that can be looked at.

    :param store: all state.
    """

    def __init__(self, store: Store, *, settings: EmulatorSettings) -> None:
        self._store = store
        self._settings = settings

    def routes(self) -> list[Route]:
        """Return the routes for the application."""
        return [
            Route("/", self._home),
            Route("/v4/{tileset}.json", self._tilejson),
            Route("/v4/{tileset}/{z}/{x}/{file}", self._tile),
            Route("/tilesets/{tileset}.json", self._open_json),
            Route("/tilesets/{tileset}", self._page),
            Route("/tilesets/{tileset}/{z}/{x}/{file}", self._open_tile),
        ]

    # As Mapbox serves them, with a token

    def _tilejson(self, request: Request) -> Response:
        try:
            found = self._allowed(request)
            facts = self._facts(found)
        except RefusedError as refusal:
            return refused(refusal)
        token = request.query_params["access_token"]
        suffix = "vector.pbf" if facts.format == "pbf" else facts.format
        return JSONResponse(
            _tilejson(found, facts, f"{request.base_url}v4/{found.id}/{{z}}/{{x}}/{{y}}.{suffix}?access_token={token}")
        )

    def _tile(self, request: Request) -> Response:
        try:
            return self._tile_of(request, self._allowed(request))
        except RefusedError as refusal:
            return refused(refusal)

    def _allowed(self, request: Request) -> Tileset:
        matched = TILESET.match(request.path_params["tileset"])
        account = matched[1] if matched else self._settings.account
        authorize(self._store, request.query_params.get("access_token"), account=account, scope=None)
        return self._find(request)

    # The emulator's own, without one

    def _home(self, request: Request) -> Response:
        uploads = [
            upload.as_json(failed_complete=self._settings.failed_complete)
            for upload in self._store.list_uploads(self._settings.account, count=LISTED)
        ]
        return HTMLResponse(pages.home(self._settings.account, uploads, self._store.list_tilesets()))

    def _page(self, request: Request) -> Response:
        try:
            found = self._find(request)
            return HTMLResponse(
                pages.tileset(found, self._facts(found), size=self._store.tiles_file(found.id).stat().st_size)
            )
        except RefusedError as refusal:
            return refused(refusal)

    def _open_json(self, request: Request) -> Response:
        try:
            found = self._find(request)
            facts = self._facts(found)
        except RefusedError as refusal:
            return refused(refusal)
        suffix = SUFFIX.get(facts.format, (facts.format,))[-1]
        described = _tilejson(found, facts, f"{request.base_url}tilesets/{found.id}/{{z}}/{{x}}/{{y}}.{suffix}")
        described["feature_counts"] = facts.features
        described["tile_counts"] = {str(zoom): count for zoom, count in facts.tiles.items()}
        return JSONResponse(described)

    def _open_tile(self, request: Request) -> Response:
        try:
            return self._tile_of(request, self._find(request))
        except RefusedError as refusal:
            return refused(refusal)

    # Both

    def _find(self, request: Request) -> Tileset:
        wanted = request.path_params["tileset"]
        # Only what is in the database becomes part of a file's name.
        found = self._store.find_tileset(wanted) if TILESET.match(wanted) else None
        if found is None or not self._store.tiles_file(found.id).is_file():
            raise RefusedError(404, Said.TILESET_MISSING)
        return found

    def _facts(self, found: Tileset) -> TilesetFacts:
        try:
            return read_facts(self._store.tiles_file(found.id))
        except UNREADABLE:
            raise RefusedError(500, Said.INTERNAL) from None

    def _tile_of(self, request: Request, found: Tileset) -> Response:
        y, _, wanted = request.path_params["file"].partition(".")
        numbers = [request.path_params["z"], request.path_params["x"], y]
        if not all(NUMBER.match(number) for number in numbers):
            raise RefusedError(404, Said.TILE_MISSING)
        zoom, column, row = map(int, numbers)
        try:
            data = read_tile(self._store.tiles_file(found.id), zoom, column, row)
        except UNREADABLE:
            raise RefusedError(500, Said.INTERNAL) from None
        kind = kind_of(data or b"") or "pbf"
        if data is None or wanted not in SUFFIX[kind]:
            raise RefusedError(404, Said.TILE_MISSING)
        headers = {"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"}
        if data[:2] == b"\x1f\x8b":
            headers["Content-Encoding"] = "gzip"
        elif data[:1] == b"\x78" and kind == "pbf":
            headers["Content-Encoding"] = "deflate"
        return Response(data, media_type=MEDIA_TYPES[kind], headers=headers)


def _tilejson(found: Tileset, facts: TilesetFacts, tiles: str) -> dict[str, Any]:
    return {
        "tilejson": "2.2.0",
        "id": found.id,
        "name": found.name,
        "format": facts.format,
        "scheme": "xyz",
        "private": True,
        "minzoom": facts.minzoom,
        "maxzoom": facts.maxzoom,
        "bounds": list(facts.bounds),
        "center": list(facts.center),
        "created": int(found.created * 1000),
        "modified": int(found.modified * 1000),
        "mapbox_logo": False,
        "tiles": [tiles],
        "vector_layers": [{"source": found.id, "source_name": found.name, **layer} for layer in facts.vector_layers],
        "last_modified": timestamp(found.modified),
    }
