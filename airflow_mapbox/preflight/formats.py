"""The formats that Mapbox takes: what each is called, and how large it may be."""

from __future__ import annotations

from dataclasses import dataclass

# Mapbox tells JSON apart by its first 400 characters (mapbox/mapbox-file-sniff).
SNIFFED_CHARACTERS = 400

WEB_MERCATOR_LATITUDE = 85.0511287798066  # atan(sinh(pi)) in degrees: the edge of the square map


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


GEOJSON = Format("GeoJSON", 1_073_741_824, (".geojson", ".json"))
CSV = Format("CSV", 1_073_741_824, (".csv",))
KML = Format("KML", 272_629_760, (".kml",))
GPX = Format("GPX", 272_629_760, (".gpx",))
# Counted as unzipped .shp + .dbf by Mapbox, so the zip alone cannot tell.
SHAPEFILE = Format("zipped shapefile", 272_629_760, (".zip",))
MBTILES = Format("MBTiles", 26_843_545_600, (".mbtiles",))
TIFF = Format("TIFF", 10_000_000_000, (".tif", ".tiff"))

FORMATS = (GEOJSON, CSV, KML, GPX, SHAPEFILE, MBTILES, TIFF)
TEXTS = (GEOJSON, CSV, KML, GPX)


def format_of_suffix(suffix: str) -> Format | None:
    """
    Return the format that a file's ending promises.

    :param suffix: lower case, with the dot.
    """
    return next((known for known in FORMATS if suffix in known.suffixes), None)
