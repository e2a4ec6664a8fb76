"""Text as Mapbox reads it: UTF-8 without NUL."""

from __future__ import annotations

import codecs
import re

from airflow_mapbox.preflight.problems import WRITER, Problem

_DECLARED = re.compile(rb"""^(?:\xef\xbb\xbf)?<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


def check_text(data: bytes, *, is_whole: bool) -> Problem | None:
    """
    Return what keeps bytes from being text.

    :param data: the beginning of a file.
    :param is_whole: whether that is the whole file; otherwise a character may be cut at the end.
    """
    declared = _DECLARED.match(data)
    if declared is not None and declared[1].upper() not in (b"UTF-8", b"UTF8", b"US-ASCII"):
        return None  # XML says its own encoding
    try:
        text, _ = codecs.utf_8_decode(data, "strict", is_whole)
    except UnicodeDecodeError as error:
        at = error.start
        byte = data[at]
        return Problem(
            f"is not UTF-8: byte {at:,} is 0x{byte:02x}.",
            'Write it with encoding="utf-8", whatever its extension says; a binary file is no text at all.',
        )
    if "\x00" in text:
        return Problem("has NUL bytes in it, which no text has.", WRITER)
    return None


def trimmed(data: bytes) -> bytes:
    """Return bytes without the rest of a character that was cut at their start."""
    at = 0
    while at < min(3, len(data)) and data[at] & 0xC0 == 0x80:
        at += 1
    return data[at:]
