"""Detect the format of a staged file by its content, as Mapbox does, and check its size limit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from airflow_mapbox.emulator.errors import DataError, FailureMessage

HEAD_BYTES = 512
# Mapbox looks at this many characters of JSON, and of all other formats.
JSON_CHARACTERS, START_CHARACTERS = 400, 100
MAX_TOO_SMALL = 2
MIB = 1 << 20


@dataclass(frozen=True)
class Format:
    """A format and its size limit in bytes (see ``docs/reference/limits.md``, "Sizes")."""

    name: str
    limit: int


class Formats(Enum):
    """The formats that the emulator detects."""

    GEOJSON = Format("geojson", 1024 * MIB)
    TOPOJSON = Format("topojson", 260 * MIB)
    TILEJSON = Format("tilejson", 260 * MIB)
    CSV = Format("csv", 1024 * MIB)
    KML = Format("kml", 260 * MIB)
    GPX = Format("gpx", 260 * MIB)
    # The limit applies to the unzipped .shp and .dbf together.
    SHAPEFILE = Format("shapefile", 260 * MIB)
    MBTILES = Format("mbtiles", 25 * 1024 * MIB)
    TIFF = Format("tiff", 10 * 1000**3)


# Separators of CSV; the most frequent in the header counts.
SEPARATORS = (",", "\t", "|", ";")
WHOLE_GEOMETRY = frozenset({"wkt", "geom", "geometry", "geojson"})
LONGITUDE = frozenset({"longitude", "lon", "lng", "long", "x"})
LATITUDE = frozenset({"latitude", "lat", "y"})
# Mapbox removes these from JSON. Control characters stay, because they are escaped before.
SPACES = re.compile("[ \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]")
# JavaScript's trim() removes these. isspace() counts other characters, too.
JSON_START = re.compile(rf"(?:{SPACES.pattern}|[\t\n\v\f\r])*\{{")
GEOJSON_MEMBERS = ('"features":', '"geometries":', '"coordinates":')
GEOJSON_TYPES = frozenset(
    {
        *("Feature", "FeatureCollection", "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon"),
        *("MultiPolygon", "GeometryCollection"),
    }
)
JSON_TYPE = re.compile(r'"type":\s?"(.+?)"')


def sniff(path: Path) -> Formats:
    """Return a file's format.

    :param path: the file; its name is ignored.
    :raises DataError: with Mapbox's message if the file is empty, too large, or of an unknown format.
    """
    size = path.stat().st_size
    if size == 0:
        raise DataError(FailureMessage.ZERO_BYTES)
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if size <= MAX_TOO_SMALL:
        raise DataError(FailureMessage.TOO_SMALL)
    data_format = _detect(head)
    if data_format is None:
        raise DataError(FailureMessage.UNKNOWN_FILETYPE)
    if data_format is not Formats.SHAPEFILE:
        check_size(data_format, size)
    return data_format


def check_size(data_format: Formats, size: int) -> None:
    """Raise DataError with Mapbox's message if a file exceeds its format's limit.

    :param size: the file's size in bytes.
    """
    limit = data_format.value.limit
    if size > limit:
        unit, name = (1024 * MIB, "GB") if limit >= 1024 * MIB else (MIB, "MB")
        if data_format is Formats.TIFF:
            unit = 1000**3
        raise DataError(FailureMessage.TOO_LARGE.format(f"{limit // unit} {name}"))


def _detect(head: bytes) -> Formats | None:
    """Return the format by the rules of mapbox/mapbox-file-sniff."""
    text = _cut(head.decode("utf-8", errors="replace"), JSON_CHARACTERS)
    if JSON_START.match(text):
        return _detect_json(SPACES.sub("", text))
    start = text[:START_CHARACTERS]
    if start.startswith("SQLite format 3"):
        return Formats.MBTILES
    if start.startswith("PK"):
        return Formats.SHAPEFILE
    # Also BigTIFF, but not one with big-endian numbers: its 43 is in the fourth byte.
    if start[:2] in ("II", "MM") and (head[2:3] in (b"*", b"+") or head[3:4] == b"*"):
        return Formats.TIFF
    # After a byte order mark or any other character.
    if "<?xml" in (start[:5], start[1:6]):
        if "<kml" in start:
            return Formats.KML
        if "<gpx" in start:
            return Formats.GPX
    return Formats.CSV if _has_coordinate_columns(head) else None


def _cut(text: str, length: int) -> str:
    """Return the start of a text, whose length is counted like in JavaScript: in units of UTF-16."""
    return text.encode("utf-16-le")[: 2 * length].decode("utf-16-le", errors="replace")


def _detect_json(text: str) -> Formats | None:
    if '"tilejson":' in text:
        return Formats.TILEJSON
    if '"arcs":' in text or '"objects":' in text:
        return Formats.TOPOJSON
    if any(member in text for member in GEOJSON_MEMBERS):
        return Formats.GEOJSON
    kind = JSON_TYPE.search(text)
    if kind is None:
        return None
    if kind[1] == "Topology":
        return Formats.TOPOJSON
    return Formats.GEOJSON if kind[1] in GEOJSON_TYPES else None


def _has_coordinate_columns(head: bytes) -> bool:
    """Return whether the first line is a CSV header with coordinates, by the rules of mapbox/detect-geocsv."""
    header = next(filter(None, re.split(r"[\r\n]+", head.decode("utf-8", errors="replace"))), "")
    names = [name.replace('"', "").lower() for name in header.split(max(SEPARATORS, key=header.count))]
    has_longitude = any(name in LONGITUDE or "longitude" in name for name in names)
    has_latitude = any(name in LATITUDE or "latitude" in name for name in names)
    return (has_longitude and has_latitude) or any(name in WHOLE_GEOMETRY for name in names)
