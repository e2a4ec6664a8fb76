"""Detect the format of a staged file by its content, as Mapbox does, and check its size limit."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from airflow_mapbox.emulator.errors import DataError, FailureMessage

HEAD_BYTES = 400
MIB = 1 << 20


@dataclass(frozen=True)
class Format:
    """A format and its sizes (see ``docs/reference/limits.md``, "Sizes").

    :param limit: size limit in bytes.
    :param min_size: size of the smallest valid file in bytes.
    """

    name: str
    limit: int
    min_size: int = 1


class Formats(Enum):
    """The formats that the emulator detects."""

    GEOJSON = Format("geojson", 1024 * MIB)
    TOPOJSON = Format("topojson", 260 * MIB)
    TILEJSON = Format("tilejson", 260 * MIB)
    CSV = Format("csv", 1024 * MIB)
    KML = Format("kml", 260 * MIB)
    GPX = Format("gpx", 260 * MIB)
    # The limit applies to the unzipped .shp and .dbf together.
    SHAPEFILE = Format("shapefile", 260 * MIB, min_size=22)
    MBTILES = Format("mbtiles", 25 * 1024 * MIB, min_size=512)
    TIFF = Format("tiff", 10 * 1000**3, min_size=8)


TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# The root element decides. GDAL gets only KML and GPX: in other XML formats it would follow references to files.
XML_ROOT = re.compile(r"(?:\s|<\?[^>]*\?>|<!--.*?-->)*<(?:\w+:)?(\w+)", re.DOTALL)
# Separators of CSV; the most frequent in the header counts.
SEPARATORS = (",", "\t", "|", ";")
WHOLE_GEOMETRY = frozenset({"wkt", "geom", "geometry", "geojson"})
GEOJSON_MEMBER = re.compile(r'"(type|features|geometry|geometries|coordinates|properties)"\s*:')


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
    data_format = _detect(head, path)
    if data_format is None:
        raise DataError(FailureMessage.UNKNOWN_FILETYPE)
    if size < data_format.value.min_size:
        raise DataError(FailureMessage.TOO_SMALL)
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


def _detect(head: bytes, path: Path) -> Formats | None:
    if head.startswith(b"SQLite format 3\x00"):
        return Formats.MBTILES
    if head.startswith(TIFF_MAGIC):
        return Formats.TIFF
    if head.startswith(b"PK\x03\x04"):
        is_too_small = path.stat().st_size < Formats.SHAPEFILE.value.min_size
        return Formats.SHAPEFILE if is_too_small or zipfile.is_zipfile(path) else None
    if b"\x00" in head:
        return None
    start = head.decode("utf-8-sig", errors="replace").lstrip()
    if start.startswith("{"):
        return _detect_json(start)
    if start.startswith("<"):
        root = XML_ROOT.match(start)
        return {"kml": Formats.KML, "gpx": Formats.GPX}.get(root[1]) if root else None
    first = start.splitlines()[0] if start else ""
    is_table = any(separator in first for separator in SEPARATORS) or first.strip('"').lower() in WHOLE_GEOMETRY
    is_readable = first.replace("\t", " ").isprintable() and "\ufffd" not in first[:-1]
    return Formats.CSV if is_table and is_readable else None


def _detect_json(start: str) -> Formats | None:
    if '"tilejson":' in start:
        return Formats.TILEJSON
    if '"arcs":' in start or '"objects":' in start:
        return Formats.TOPOJSON
    return Formats.GEOJSON if GEOJSON_MEMBER.search(start) else None
