"""Check text for UTF-8 without NUL bytes."""

from __future__ import annotations

import codecs
import re

from airflow_mapbox.preflight.problems import WRITER, Problem

_DECLARED = re.compile(rb"""^(?:\xef\xbb\xbf)?<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


def check_text(data: bytes, *, is_whole: bool) -> Problem | None:
    """
    Return the problem of bytes that are not text, or None.

    :param data: the beginning of a file.
    :param is_whole: whether that is the complete file. Otherwise the last character may be cut.
    """
    declared = _DECLARED.match(data)
    if declared is not None and declared[1].upper() not in (b"UTF-8", b"UTF8", b"US-ASCII"):
        return None  # XML declares its encoding
    try:
        text, _ = codecs.utf_8_decode(data, "strict", is_whole)
    except UnicodeDecodeError as error:
        return Problem(
            f"is not UTF-8: byte {error.start:,} is 0x{data[error.start]:02x}.",
            'Write it with encoding="utf-8". A binary file must be in a format that Mapbox accepts.',
        )
    if "\x00" in text:
        return Problem("contains NUL bytes, which text never does.", WRITER)
    return None


def without_cut_character(data: bytes) -> bytes:
    """Return UTF-8 without the rest of a character that was cut at the start."""
    start = 0
    while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]
