"""The formats that Mapbox takes: how each is recognised, what it is called, how large it may be."""

from __future__ import annotations

import re
from dataclasses import dataclass

# The service decides by about the first 400 characters (uploads-api.md, "Names and limits").
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

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"SQLite format 3\x00", MBTILES),
    (b"PK\x03\x04", SHAPEFILE),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"II+\x00", TIFF),
    (b"MM\x00+", TIFF),
)
# As Mapnik, which reads CSV at Mapbox, recognises columns: whole names, or a word that is part of one.
_CSV_GEOMETRY = re.compile(r"wkt|geojson|.*geom.*", re.IGNORECASE)
_CSV_X = re.compile(r"x|lon|lng|long|.*longitude.*", re.IGNORECASE)
_CSV_Y = re.compile(r"y|lat|.*latitude.*", re.IGNORECASE)


def format_of_suffix(suffix: str) -> Format | None:
    """
    Give the format that a file's ending promises.

    :param suffix: lower case, with the dot.
    """
    return next((known for known in FORMATS if suffix in known.suffixes), None)


def format_of_content(head: bytes) -> Format | None:
    """
    Give the format that a file's first bytes show.

    :param head: at least the first 400 characters, where the file has as many.
    """
    for magic, known in _MAGIC:
        if head.startswith(magic):
            return known
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if text.startswith("{"):
        return GEOJSON
    if text.startswith("<"):
        return KML if "<kml" in text else GPX if "<gpx" in text else None
    columns = [column.strip(' "\r') for column in text.partition("\n")[0].split(",")]
    located = any(map(_CSV_X.fullmatch, columns)) and any(map(_CSV_Y.fullmatch, columns))
    return CSV if located or any(map(_CSV_GEOMETRY.fullmatch, columns)) else None
