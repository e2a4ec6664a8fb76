"""Geodata into what Mapbox accepts; importing this costs nothing until something is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mapbox.export.errors import ExportError
from airflow_mapbox.export.report import ExportReport

if TYPE_CHECKING:
    from airflow_mapbox.export.geojson import write_geojson

__all__ = ["ExportError", "ExportReport", "write_geojson"]


def __getattr__(name: str) -> Any:
    # geopandas takes about a second to import, which a DAG file that only names the function should not pay.
    if name == "write_geojson":
        from airflow_mapbox.export.geojson import write_geojson

        return write_geojson
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
