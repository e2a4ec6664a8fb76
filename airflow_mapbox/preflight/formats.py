"""The formats that Mapbox accepts: name, size limit, file extensions."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_mapbox import limits


@dataclass(frozen=True)
class Format:
    """
    A format that Mapbox accepts.

    :param name: its usual name.
    :param limit: Mapbox's limit in bytes (Uploads API, "Restrictions and limits").
    :param suffixes: its usual file extensions.
    """

    name: str
    limit: int
    suffixes: tuple[str, ...]


GEOJSON = Format("GeoJSON", limits.GEOJSON_BYTES, (".geojson", ".json"))
CSV = Format("CSV", limits.CSV_BYTES, (".csv",))
KML = Format("KML", limits.KML_BYTES, (".kml",))
GPX = Format("GPX", limits.GPX_BYTES, (".gpx",))
SHAPEFILE = Format("zipped shapefile", limits.SHAPEFILE_BYTES, (".zip",))
MBTILES = Format("MBTiles", limits.MBTILES_BYTES, (".mbtiles",))
TIFF = Format("TIFF", limits.TIFF_BYTES, (".tif", ".tiff"))

FORMATS = (GEOJSON, CSV, KML, GPX, SHAPEFILE, MBTILES, TIFF)
TEXTS = (GEOJSON, CSV, KML, GPX)


def format_of_suffix(suffix: str) -> Format | None:
    """
    Return the format of a file extension, or None.

    :param suffix: the extension in lower case, with the dot.
    """
    return next((candidate for candidate in FORMATS if suffix in candidate.suffixes), None)
