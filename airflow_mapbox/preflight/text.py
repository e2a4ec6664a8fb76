"""Check text for UTF-8 without NUL bytes."""

from __future__ import annotations

import codecs
import re

from airflow_mapbox.preflight.findings import Finding, finding
from airflow_mapbox.rules import files as rules
from airflow_mapbox.rules.remedies import WRITER

_DECLARED = re.compile(rb"""^(?:\xef\xbb\xbf)?<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


def check_text(data: bytes, *, is_whole: bool) -> Finding | None:
    """
    Return the finding for bytes that are not text, or None.

    :param data: the beginning of a file.
    :param is_whole: whether that is the complete file. Otherwise the last character may be cut.
    """
    if declares_other_encoding(data):
        return None
    try:
        text, _ = codecs.utf_8_decode(data, "strict", is_whole)
    except UnicodeDecodeError as error:
        return not_utf8(data, error.start)
    if "\x00" in text:
        where = f"byte {data.index(0):,}"
        return finding(rules.NOT_TEXT, "contains NUL bytes, which text never does.", where=where, remedy=WRITER)
    return None


def declares_other_encoding(head: bytes) -> bool:
    """
    Return whether a file begins with an XML declaration of an encoding other than UTF-8.

    :param head: the first bytes.
    """
    declared = _DECLARED.match(head)
    return declared is not None and declared[1].upper() not in (b"UTF-8", b"UTF8", b"US-ASCII")


def not_utf8(data: bytes, index: int, offset: int = 0) -> Finding:
    """
    Return the finding for a byte that is not UTF-8.

    :param data: bytes of the file.
    :param index: the byte's index in them.
    :param offset: offset of the bytes in the file.
    """
    where = f"byte {offset + index:,}"
    return finding(rules.NOT_TEXT, f"is not UTF-8: {where} is 0x{data[index]:02x}.", where=where)


def without_cut_character(data: bytes) -> bytes:
    """Return UTF-8 without the rest of a character that was cut at the start."""
    start = 0
    while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]
