"""The files that the pages load: our own scripts, the map library of `maplibre`, the countries of `pyogrio`."""

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
_COUNTRIES = "countries.geojson"
# Natural Earth, 1:110 million, public domain. pyogrio's wheels carry it for their own tests.
_NATURAL_EARTH = Path("tests", "fixtures", "naturalearth_lowres", "naturalearth_lowres.shp")


@functools.cache
def asset_file(name: str) -> Path | None:
    """
    Give the file of an asset: only names that are listed here lead to one.

    :param name: the last part of its URL.
    """
    if name in _FROM_MAPLIBRE:
        # Found without importing it, which would take pydantic and more.
        return _in_package("maplibre", Path("srcjs", name))
    return next((file for file in _OWN.iterdir() if file.name == name), None)


@functools.cache
def countries() -> str:
    """
    Return the world's countries as GeoJSON, so that a map shows where its features lie.

    The collection is empty if pyogrio comes from elsewhere than its wheel and has no test data.
    """
    import geopandas

    file = _in_package("pyogrio", _NATURAL_EARTH)
    if file is None or not file.is_file():
        return '{"type": "FeatureCollection", "features": []}'
    frame = geopandas.read_file(file, columns=["name"])
    frame.geometry = frame.geometry.set_precision(0.01)  # a kilometre, which is less than the data is off
    return str(frame.to_json())


def _in_package(name: str, path: Path) -> Path | None:
    spec = find_spec(name)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return next((Path(folder) / path for folder in folders), None)


def routes() -> list[Route]:
    """Give the routes for the application."""
    return [Route(f"{PREFIX}/{{name}}", _serve)]


def _serve(request: Request) -> Response:
    if request.path_params["name"] == _COUNTRIES:
        return Response(countries(), media_type="application/geo+json")
    file = asset_file(request.path_params["name"])
    if file is None or not file.is_file():
        return JSONResponse({"message": Said.NOT_FOUND}, status_code=404)
    return FileResponse(file, media_type=_MEDIA_TYPES.get(file.suffix))
