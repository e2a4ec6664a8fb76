"""Export geodata to files that Mapbox reads correctly. Heavy packages are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mapbox.errors import ExportError

if TYPE_CHECKING:
    from airflow_mapbox.export.auto import write_auto
    from airflow_mapbox.export.geojson import GeoJSONStream, stream_geojson, write_geojson
    from airflow_mapbox.export.joined import JoinReport, join_mbtiles
    from airflow_mapbox.export.mbtiles import TilesetReport, write_mbtiles
    from airflow_mapbox.export.readers.postgis import PostGISQuery
    from airflow_mapbox.export.report import ExportReport

__all__ = [
    "ExportError",
    "ExportReport",
    "GeoJSONStream",
    "JoinReport",
    "PostGISQuery",
    "TilesetReport",
    "join_mbtiles",
    "stream_geojson",
    "write_auto",
    "write_geojson",
    "write_mbtiles",
]

_MODULES = {
    "ExportReport": "report",
    "GeoJSONStream": "geojson",
    "JoinReport": "joined",
    "PostGISQuery": "readers.postgis",
    "TilesetReport": "mbtiles",
    "join_mbtiles": "joined",
    "stream_geojson": "geojson",
    "write_auto": "auto",
    "write_geojson": "geojson",
    "write_mbtiles": "mbtiles",
}


def __getattr__(name: str) -> Any:
    # geopandas takes about a second to import. A DAG file that only names a function should not import it.
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
