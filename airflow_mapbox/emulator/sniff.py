"""The format of a staged file, told from its content as Mapbox does, and its size limit."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from airflow_mapbox.emulator.errors import DataError, Failed

HEAD = 400
MIB = 1 << 20


@dataclass(frozen=True)
class Format:
    """A format.

    :param limit: the most bytes of it that are processed.
    :param least: bytes of the smallest file of it.
    """

    name: str
    limit: int
    least: int = 1


class Formats(Enum):
    """What the emulator tells apart."""

    GEOJSON = Format("geojson", 1024 * MIB)
    TOPOJSON = Format("topojson", 260 * MIB)
    TILEJSON = Format("tilejson", 260 * MIB)
    CSV = Format("csv", 1024 * MIB)
    KML = Format("kml", 260 * MIB)
    GPX = Format("gpx", 260 * MIB)
    # The limit is on the unzipped .shp and .dbf.
    SHAPEFILE = Format("shapefile", 260 * MIB, least=22)
    MBTILES = Format("mbtiles", 25 * 1024 * MIB, least=512)
    TIFF = Format("tiff", 10 * 1000**3, least=8)


TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# The first element and no other: GDAL would follow the references of some of the formats it knows.
XML_ROOT = re.compile(r"(?:\s|<\?[^>]*\?>|<!--.*?-->)*<(?:\w+:)?(\w+)", re.DOTALL)
# Of CSV; the most frequent in the header wins.
SEPARATORS = (",", "\t", "|", ";")
WHOLE_GEOMETRY = frozenset({"wkt", "geom", "geometry", "geojson"})
GEOJSON_MEMBER = re.compile(r'"(type|features|geometry|geometries|coordinates|properties)"\s*:')


def sniff(path: Path) -> Formats:
    """Return a file's format.

    :param path: the file; its name says nothing.
    :raises DataError: with Mapbox's message for an empty, unknown or too large file.
    """
    size = path.stat().st_size
    if size == 0:
        raise DataError(Failed.ZERO_BYTES)
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    found = _of_head(head, path)
    if found is None:
        raise DataError(Failed.UNKNOWN_FILETYPE)
    if size < found.value.least:
        raise DataError(Failed.TOO_SMALL)
    if found is not Formats.SHAPEFILE:
        check_size(found, size)
    return found


def check_size(found: Formats, size: int) -> None:
    """Refuse what is larger than its format's limit.

    :param size: bytes.
    :raises DataError: with Mapbox's message.
    """
    limit = found.value.limit
    if size > limit:
        unit, name = (1024 * MIB, "GB") if limit >= 1024 * MIB else (MIB, "MB")
        if found is Formats.TIFF:
            unit = 1000**3
        raise DataError(Failed.TOO_LARGE.format(f"{limit // unit} {name}"))


def _of_head(head: bytes, path: Path) -> Formats | None:
    if head.startswith(b"SQLite format 3\x00"):
        return Formats.MBTILES
    if head.startswith(TIFF_MAGIC):
        return Formats.TIFF
    if head.startswith(b"PK\x03\x04"):
        small = path.stat().st_size < Formats.SHAPEFILE.value.least
        return Formats.SHAPEFILE if small or zipfile.is_zipfile(path) else None
    if b"\x00" in head:
        return None
    text = head.decode("utf-8-sig", errors="replace").lstrip()
    if text.startswith("{"):
        return _of_json(text)
    if text.startswith("<"):
        root = XML_ROOT.match(text)
        return {"kml": Formats.KML, "gpx": Formats.GPX}.get(root[1]) if root else None
    first = text.splitlines()[0] if text else ""
    is_table = any(separator in first for separator in SEPARATORS) or first.strip('"').lower() in WHOLE_GEOMETRY
    is_readable = first.replace("\t", " ").isprintable() and "\ufffd" not in first[:-1]
    return Formats.CSV if is_table and is_readable else None


def _of_json(text: str) -> Formats | None:
    if '"tilejson":' in text:
        return Formats.TILEJSON
    if '"arcs":' in text or '"objects":' in text:
        return Formats.TOPOJSON
    return Formats.GEOJSON if GEOJSON_MEMBER.search(text) else None
