"""
Recognise a file's format from its first bytes, by the rules of mapbox-file-sniff and detect-geocsv.

The rules are copied with their gaps, because Mapbox applies them: it reports "Unknown filetype" only after the whole
file was sent.
"""

from __future__ import annotations

import re

from airflow_mapbox.limits import SNIFFED_BYTES, SNIFFED_CHARACTERS
from airflow_mapbox.preflight.formats import (
    CSV,
    GEOJSON,
    GPX,
    KML,
    MBTILES,
    SHAPEFILE,
    TIFF,
    Format,
)

MIN_BYTES = 3
# For all formats but JSON.
_START_CHARACTERS = 100

# JavaScript's \s without the control characters: JSON.stringify escapes those before the spaces are removed.
_SPACES = re.compile("[ \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]")
# What JavaScript's trim() removes before it.
_JSON_START = re.compile(rf"(?:{_SPACES.pattern}|[\t\n\v\f\r])*\{{")
_GEOJSON_MEMBERS = ('"features":', '"geometries":', '"coordinates":')
_TYPE = re.compile(r'"type":\s?"(.+?)"')
GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")
GEOJSON_TYPES = ("FeatureCollection", "Feature", *GEOMETRIES)

SEPARATORS = (",", "\t", "|", ";")
GEOMETRY_COLUMNS = frozenset({"wkt", "geom", "geometry", "geojson"})
_X = frozenset({"x", "lon", "lng", "long"})
_Y = frozenset({"y", "lat"})


def sniff(head: bytes) -> Format | None:
    """
    Return the format that Mapbox recognises, or None if Mapbox would report an unknown file type.

    The result is None for TopoJSON and TileJSON, too. :func:`mistaken_for` names them.

    :param head: the first bytes; 512 are enough.
    """
    head = head[:SNIFFED_BYTES]
    text = _text(head)
    if is_json(head):
        return GEOJSON if mistaken_for(head) is None and _is_geojson(_without_spaces(text)) else None
    start = text[:_START_CHARACTERS]
    if start.startswith("SQLite format 3"):
        return MBTILES
    if start.startswith("PK"):
        return SHAPEFILE
    if start[:2] in ("II", "MM") and (head[2:3] in (b"*", b"+") or head[3:4] == b"*"):
        return TIFF
    if start.startswith("<?xml") or start[1:].startswith("<?xml"):
        if "<kml" in start:
            return KML
        if "<gpx" in start:
            return GPX
    columns = columns_of(head)
    has_both = bool(x_columns(columns) and y_columns(columns))
    return CSV if has_both or geometry_columns(columns) else None


def is_json(head: bytes) -> bool:
    """Return whether Mapbox recognises a file as any kind of JSON."""
    return _JSON_START.match(_text(head[:SNIFFED_BYTES])) is not None


def mistaken_for(head: bytes) -> tuple[str, str] | None:
    """
    Return the token that makes Mapbox read JSON as another format, and that format's name; None without such a token.

    :param head: the first bytes.
    """
    text = _without_spaces(_text(head[:SNIFFED_BYTES]))
    for token, name in (('"tilejson":', "TileJSON"), ('"arcs":', "TopoJSON"), ('"objects":', "TopoJSON")):
        if token in text:
            return token, name
    kind = _TYPE.search(text)
    if kind and kind[1] == "Topology" and not any(member in text for member in _GEOJSON_MEMBERS):
        return '"type":"Topology"', "TopoJSON"
    return None


def separator_of(line: str) -> str:
    """Return the separator of a CSV header: the most frequent of the four, and the first of them in a tie."""
    return max(SEPARATORS, key=line.count)


def columns_of(head: bytes) -> list[str]:
    """Return the column names of a CSV header. Like Mapbox, change them to lower case, drop quotes and keep spaces."""
    lines = [line for line in re.split(r"\r\n|\r|\n", head[:SNIFFED_BYTES].decode("utf-8", "replace")) if line]
    return [name.replace('"', "").lower() for name in lines[0].split(separator_of(lines[0]))] if lines else []


def geometry_columns(columns: list[str]) -> list[int]:
    """Return the indexes of the columns of geometries."""
    return [index for index, name in enumerate(columns) if name in GEOMETRY_COLUMNS]


def x_columns(columns: list[str]) -> list[int]:
    """Return the indexes of the columns of longitudes."""
    return [index for index, name in enumerate(columns) if name in _X or "longitude" in name]


def y_columns(columns: list[str]) -> list[int]:
    """Return the indexes of the columns of latitudes."""
    return [index for index, name in enumerate(columns) if name in _Y or "latitude" in name]


def _text(head: bytes) -> str:
    """Decode like JavaScript: keep a byte order mark, and cut after 400 units of UTF-16."""
    units = head.decode("utf-8", "replace").encode("utf-16-le")
    return units[: 2 * SNIFFED_CHARACTERS].decode("utf-16-le", "replace")


def _without_spaces(text: str) -> str:
    return _SPACES.sub("", text)


def _is_geojson(text: str) -> bool:
    if any(member in text for member in _GEOJSON_MEMBERS):
        return True
    kind = _TYPE.search(text)
    return kind is not None and kind[1] in GEOJSON_TYPES
