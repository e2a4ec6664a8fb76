"""The files that the pages load: own scripts, the map library from `maplibre`, the countries from `pyogrio`."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from airflow_mapbox.emulator.errors import ApiMessage

PREFIX = "/static"

_OWN = Path(__file__).parent / "static"
_FROM_MAPLIBRE = ("maplibre-gl.js", "maplibre-gl.css")
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
_COUNTRIES = "countries.geojson"
# Natural Earth, 1:110 million, public domain. pyogrio's wheels contain it for their own tests.
_NATURAL_EARTH = Path("tests", "fixtures", "naturalearth_lowres", "naturalearth_lowres.shp")


@functools.cache
def asset_file(name: str) -> Path | None:
    """
    Return the file of an asset, or None if the name is not listed here.

    :param name: the last part of the asset's URL.
    """
    if name in _FROM_MAPLIBRE:
        # Not imported: that would load pydantic and other large packages.
        return _in_package("maplibre", Path("srcjs", name))
    return next((file for file in _OWN.iterdir() if file.name == name), None)


@functools.cache
def countries() -> str:
    """
    Return the world's countries as GeoJSON, the background of the map.

    The collection is empty if pyogrio has no test data, which only its wheels contain.
    """
    import geopandas

    file = _in_package("pyogrio", _NATURAL_EARTH)
    if file is None or not file.is_file():
        return '{"type": "FeatureCollection", "features": []}'
    frame = geopandas.read_file(file, columns=["name"])
    frame.geometry = frame.geometry.set_precision(0.01)  # about a kilometre: finer than the data's accuracy
    return str(frame.to_json())


def _in_package(name: str, path: Path) -> Path | None:
    spec = find_spec(name)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return next((Path(folder) / path for folder in folders), None)


def routes() -> list[Route]:
    """Return the routes for the application."""
    return [Route(f"{PREFIX}/{{name}}", _serve)]


def _serve(request: Request) -> Response:
    if request.path_params["name"] == _COUNTRIES:
        return Response(countries(), media_type="application/geo+json")
    file = asset_file(request.path_params["name"])
    if file is None or not file.is_file():
        return JSONResponse({"message": ApiMessage.NOT_FOUND}, status_code=404)
    return FileResponse(file, media_type=_MEDIA_TYPES.get(file.suffix))
