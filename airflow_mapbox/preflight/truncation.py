"""Check whether KML, GPX or TIFF was cut off, from a few bytes and the size."""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_mapbox.preflight.formats import GPX, KML, Format
from airflow_mapbox.preflight.problems import WRITER, Problem

_CLOSING = {KML: re.compile(rb"</(?:\w+:)?kml\s*>"), GPX: re.compile(rb"</(?:\w+:)?gpx\s*>")}


def check_closed(tail: bytes, kind: Format) -> Iterator[Problem]:
    """
    Check that the root element of KML or GPX is closed.

    :param tail: the last bytes.
    :param kind: KML or GPX.
    """
    if not _CLOSING[kind].search(tail):
        yield Problem(f"does not end with </{kind.name.lower()}>: it is cut off.", WRITER)


def check_tiff(head: bytes, size: int | None) -> Iterator[Problem]:
    """
    Check that the directory of a TIFF is inside the file.

    :param head: the first bytes.
    :param size: the file's size in bytes, or None if it is unknown.
    """
    is_big = 43 in head[2:4]
    start, end = (8, 16) if is_big else (4, 8)
    if len(head) < end:
        yield Problem(f"is a TIFF of {len(head)} bytes and contains no image.", WRITER)
        return
    directory = int.from_bytes(head[start:end], "little" if head.startswith(b"II") else "big")
    if directory < end or (size is not None and directory >= size):
        yield Problem(
            f"is a TIFF whose directory should be at byte {directory:,}, beyond the file's end: it is cut off.", WRITER
        )
