"""The files that the pages load: our own scripts, and the map library out of the package `maplibre`."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator.errors import Said

PREFIX = "/static"

_OWN = Path(__file__).parent / "static"
_FROM_MAPLIBRE = ("maplibre-gl.js", "maplibre-gl.css")
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}


@functools.cache
def asset_file(name: str) -> Path | None:
    """
    Give the file of an asset: only names that are listed here lead to one.

    :param name: the last part of its URL.
    """
    if name in _FROM_MAPLIBRE:
        # Found without importing it, which would take pydantic and more.
        spec = find_spec("maplibre")
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        return next((Path(folder) / "srcjs" / name for folder in folders), None)
    return next((file for file in _OWN.iterdir() if file.name == name), None)


def routes() -> list[Route]:
    """Give the routes for the application."""
    return [Route(f"{PREFIX}/{{name}}", _serve)]


def _serve(request: Request) -> Response:
    file = asset_file(request.path_params["name"])
    if file is None or not file.is_file():
        return JSONResponse({"message": Said.NOT_FOUND}, status_code=404)
    return FileResponse(file, media_type=_MEDIA_TYPES.get(file.suffix))
