"""What tests of the export share: frames, and features as any JSON decoder reads them."""

from __future__ import annotations

import json
from typing import Any

import geopandas
import shapely

from airflow_mapbox.export import ExportReport, stream_geojson

WGS84 = "EPSG:4326"
PRECISION = 1e-7


def frame(geometries: Any, crs: Any = WGS84, **columns: Any) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(columns, geometry=geometries, crs=crs)


def streamed(source: Any, **options: Any) -> tuple[dict[str, Any], ExportReport]:
    """Give the document that a source becomes, and the report."""
    stream = stream_geojson(source, **options)
    document = json.loads(b"".join(stream), parse_constant=_refuse_constant)
    assert stream.report.features == len(document["features"])
    return document, stream.report


def features(source: Any, **options: Any) -> list[dict[str, Any]]:
    return list(streamed(source, **options)[0]["features"])


def geometries(source: Any, **options: Any) -> list[Any]:
    return [shapely.from_geojson(json.dumps(feature["geometry"])) for feature in features(source, **options)]


def geometry(source: Any, **options: Any) -> Any:
    (only,) = geometries(source, **options)
    return only


def _refuse_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")
