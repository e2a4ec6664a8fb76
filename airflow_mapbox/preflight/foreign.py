"""Recognise formats that Mapbox does not accept, so that the message can name the remedy."""

from __future__ import annotations

import re
from typing import NamedTuple

from airflow_mapbox.preflight.findings import Finding, finding
from airflow_mapbox.rules import files, geojson, tiff
from airflow_mapbox.rules.remedies import EXPORT
from airflow_mapbox.rules.rule import Rule

_UNPACK = "Send it unpacked."
_CONVERT = "Send geodata in a format that Mapbox accepts."


class _Signature(NamedTuple):
    """
    The first bytes of a format.

    :param magic: a pattern. A shorter one could match the name of a CSV column.
    :param what: the rest of the sentence that begins with the file's name.
    :param remedy: what to do; by default the rule's remedy.
    :param rule: the broken rule.
    """

    magic: bytes
    what: str
    remedy: str | None = None
    rule: Rule = files.UNKNOWN_FORMAT


_SIGNATURES = (
    _Signature(rb"\x1f\x8b", "is compressed with gzip", _UNPACK),
    _Signature(rb"BZh.1AY&SY", "is compressed with bzip2", _UNPACK),
    _Signature(rb"\x28\xb5\x2f\xfd", "is compressed with Zstandard", _UNPACK),
    _Signature(rb"\xfd7zXZ\x00", "is compressed with xz", _UNPACK),
    _Signature(rb"SQLite format 3\x00.{52}GPKG", "is a GeoPackage", EXPORT),
    _Signature(rb"PAR1\x15", "is a Parquet file", EXPORT),
    _Signature(rb"fgb.fgb", "is a FlatGeobuf file", EXPORT),
    _Signature(
        rb"\x00\x00\x27\x0a",
        "is one file of a shapefile",
        f"Send one .zip of its .shp, .dbf, .shx and .prj, or export it. {EXPORT}",
    ),
    _Signature(rb"ARROW1\x00", "is an Arrow (Feather) file", EXPORT),
    _Signature(rb"\x1e\s*\{", "is line-delimited GeoJSON", rule=geojson.LINES),
    _Signature(rb"MM\x00\+", "is a BigTIFF whose numbers are big-endian", rule=tiff.BIG_ENDIAN_BIGTIFF),
    _Signature(rb"\x89PNG", "is a PNG image", _CONVERT),
    _Signature(rb"\xff\xd8\xff", "is a JPEG image", _CONVERT),
    _Signature(rb"%PDF-", "is a PDF document", _CONVERT),
)


def foreign_format(head: bytes) -> Finding | None:
    """
    Return the finding for a file in a format that Mapbox does not accept; None for any other file.

    :param head: the file's first bytes.
    """
    for magic, what, remedy, rule in _SIGNATURES:
        if re.match(magic, head, re.DOTALL):
            return finding(rule, f"{what}, which Mapbox does not accept.", remedy=remedy)
    return None
