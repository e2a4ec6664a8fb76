"""Recognise formats that Mapbox does not accept, so that the message can name the remedy."""

from __future__ import annotations

import re

from airflow_mapbox.preflight.problems import EXPORT, Problem

_UNPACK = "Send it unpacked."
_CONVERT = "Send geodata in a format that Mapbox accepts."

# First bytes, description, remedy. A shorter pattern could match the name of a CSV column.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (rb"\x1f\x8b", "is compressed with gzip", _UNPACK),
    (rb"BZh.1AY&SY", "is compressed with bzip2", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "is compressed with Zstandard", _UNPACK),
    (rb"\xfd7zXZ\x00", "is compressed with xz", _UNPACK),
    (rb"SQLite format 3\x00.{52}GPKG", "is a GeoPackage", EXPORT),
    (rb"PAR1\x15", "is a Parquet file", EXPORT),
    (rb"fgb.fgb", "is a FlatGeobuf file", EXPORT),
    (
        rb"\x00\x00\x27\x0a",
        "is one file of a shapefile",
        f"Send one .zip of its .shp, .dbf, .shx and .prj, or export it. {EXPORT}",
    ),
    (rb"ARROW1\x00", "is an Arrow (Feather) file", EXPORT),
    (rb"\x1e\s*\{", "is line-delimited GeoJSON", EXPORT),
    (
        rb"MM\x00\+",
        "is a BigTIFF whose numbers are big-endian",
        "Write it little-endian: gdal_translate -co ENDIANNESS=LITTLE.",
    ),
    (rb"\x89PNG", "is a PNG image", _CONVERT),
    (rb"\xff\xd8\xff", "is a JPEG image", _CONVERT),
    (rb"%PDF-", "is a PDF document", _CONVERT),
)


def foreign_format(head: bytes) -> Problem | None:
    """
    Return the problem of a file in a format that Mapbox does not accept; None for any other file.

    :param head: the file's first bytes.
    """
    for magic, what, remedy in _SIGNATURES:
        if re.match(magic, head, re.DOTALL):
            return Problem(f"{what}, which Mapbox does not accept.", remedy)
    return None
