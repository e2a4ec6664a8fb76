"""The formats that Mapbox takes: what each is called, and how large it may be."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_mapbox import limits


@dataclass(frozen=True)
class Format:
    """
    A format.

    :param name: what people call it.
    :param limit: the most bytes that Mapbox takes (Uploads API, "Restrictions and limits").
    :param suffixes: the usual endings of its files.
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
    Return the format that a file's ending promises.

    :param suffix: lower case, with the dot.
    """
    return next((known for known in FORMATS if suffix in known.suffixes), None)
