"""
Read parts of a GeoJSON document that GDAL does not return: its reference system, and the ids of its features.

The document is read in blocks, only for its strings and braces. Coordinates are skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import IO, Any, NamedTuple

import pyarrow as pa
from pyproj import CRS
from pyproj.exceptions import CRSError

from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.text.attributes import MAX_EXACT_INTEGER

_BLOCK_BYTES = 1 << 20
_MAX_VALUE_BYTES = 1 << 16  # of a `crs` or an id
# A string, and the colon if it is a key; a string that the end of the block cuts; a brace.
_TOKEN = re.compile(rb'"(?P<text>(?:[^"\\]++|\\.)*+)"\s*+(?P<key>:?)|(?P<cut>")|(?P<brace>[{}])', re.DOTALL)
_SHOWN_BYTES = 60  # of a geometry in a message
_DECODER = json.JSONDecoder()
_RECORD_SEPARATOR = b"\x1e"  # of RFC 8142
_ROOT: tuple[bytes, ...] = ()
_FEATURES = (b"features",)


class _Key(NamedTuple):
    """
    A key.

    :param path: the keys around it, outermost first, and the key itself.
    :param value: the first bytes of its value.
    """

    path: tuple[bytes, ...]
    value: bytes


class _End(NamedTuple):
    """
    The end of an object.

    :param path: the keys around the object, outermost first.
    """

    path: tuple[bytes, ...]


def named_crs(opener: Callable[[], IO[bytes]]) -> tuple[bool, CRS | None]:
    """
    Read the reference system that a document names (GeoJSON 2008, section 3; RFC 7946 removed the member).

    GDAL silently reads a system that it does not know as WGS 84.

    :param opener: opens the document's bytes.
    :return: whether it names a system, and the system; None if PROJ does not know it.
    """
    if not _contains(opener, b'"crs"'):
        return False, None
    with opener() as stream:
        for token in _walk(stream, b"crs"):
            if isinstance(token, _Key) and token.path == (b"crs",):
                return True, _parse_crs(_value(token.value))
    return False, None


def has_member_ids(opener: Callable[[], IO[bytes]]) -> bool:
    """
    Return whether GDAL's attribute ``id`` is the features' member, and not a property of that name.

    GDAL makes an attribute of the first id that is not a positive integer, unless a property of that name came before.

    :param opener: opens the document's bytes.
    """
    is_member = False
    with opener() as stream:
        for token in _walk(stream, b"id", b"features"):
            if isinstance(token, _End):
                if is_member and token.path in (_ROOT, _FEATURES):
                    return True
            elif token.path == _FEATURES:
                is_member = False
            elif token.path[-2:] == (b"properties", b"id"):
                return False
            elif token.path[:-1] in (_ROOT, _FEATURES):
                value = _value(token.value)
                is_member = isinstance(value, str | float) or (isinstance(value, int) and value < 0)
    return False


def write_collection(opener: Callable[[], IO[bytes]], target: IO[bytes]) -> None:
    """
    Write a file of one feature a line, or a sequence (RFC 8142), as a FeatureCollection.

    :param opener: opens the features' bytes.
    :param target: the file to write.
    """
    with opener() as stream:
        target.write(b'{"type":"FeatureCollection","features":[')
        first = stream.readline()
        if first.startswith(_RECORD_SEPARATOR):
            target.write(first[len(_RECORD_SEPARATOR) :].replace(_RECORD_SEPARATOR, b","))
            while block := stream.read(_BLOCK_BYTES):
                target.write(block.replace(_RECORD_SEPARATOR, b","))
        else:
            target.write(first)
            for line in stream:
                if line.strip():
                    target.write(b"," + line)
        target.write(b"]}")


class Ids:
    """
    The ids of features (RFC 7946, section 3.2), batch by batch.

    :param name: the source's name in messages.
    :param opener: opens the document's bytes.
    """

    def __init__(self, name: str, opener: Callable[[], IO[bytes]]) -> None:
        self._name = name
        # The type is the same in the whole file, which must be read to know it.
        are_numbers = all(value is None or _is_exact(value) for value in _ids(opener))
        self._kind = pa.int64() if are_numbers else pa.string()
        self._ids = _ids(opener)

    def take(self, count: int) -> pa.Array:
        """
        Return the next ids: integers if all ids of the file are integers up to 2^53, else strings.

        :param count: number of features.
        :return: null for a feature without an id.
        :raises UnreadableSourceError: if there are fewer features.
        """
        ids = list(islice(self._ids, count))
        if len(ids) < count:
            raise UnreadableSourceError(
                f"{self._name} has features whose ids cannot be assigned.\nExport it without id_attribute=."
            )
        if self._kind == pa.string():
            ids = [value if value is None or isinstance(value, str) else json.dumps(value) for value in ids]
        return pa.array(ids, self._kind)


def geometry_excerpts(opener: Callable[[], IO[bytes]]) -> Iterator[str | None]:
    """
    Yield the beginning of each feature's geometry as it is written, or None for a feature without a geometry.

    :param opener: opens the document's bytes.
    """
    for value in _members(opener, b"geometry"):
        excerpt = "" if value is None else value[:_SHOWN_BYTES].decode("utf-8", "replace").strip()
        is_null = excerpt in ("", "null") or excerpt.startswith(("null,", "null}"))
        yield None if is_null else f"geometry={excerpt} …"


def _ids(opener: Callable[[], IO[bytes]]) -> Iterator[Any]:
    return (None if value is None else _value(value) for value in _members(opener, b"id"))


def _members(opener: Callable[[], IO[bytes]], key: bytes) -> Iterator[bytes | None]:
    """Yield the first bytes of a member of each feature, or None for a feature without it."""
    value, in_collection = None, False
    with opener() as stream:
        for token in _walk(stream, key, b"features"):
            if isinstance(token, _End):
                if token.path == _FEATURES or (token.path == _ROOT and not in_collection):
                    yield value
                    value = None
            elif token.path == _FEATURES:
                value, in_collection = None, True
            elif token.path[:-1] in (_ROOT, _FEATURES):
                value = token.value


def _is_exact(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_EXACT_INTEGER


def _contains(opener: Callable[[], IO[bytes]], text: bytes) -> bool:
    with opener() as stream:
        before = b""
        while block := stream.read(_BLOCK_BYTES):
            if text in before + block:
                return True
            before = block[-len(text) :]
    return False


def _walk(stream: IO[bytes], *wanted: bytes) -> Iterator[_Key | _End]:
    """Yield the wanted keys and the ends of objects, of each document in a stream."""
    path: list[bytes] = []
    key = b""
    buffer = b""
    more = True
    while more:
        block = stream.read(_BLOCK_BYTES)
        more = bool(block)
        buffer += block
        done = 0
        for token in _TOKEN.finditer(buffer):
            if more and (token["cut"] or token.end() + _MAX_VALUE_BYTES > len(buffer)):
                break  # the next block has the rest of it, and of its value
            done = token.end()
            if token["brace"] == b"{":
                path.append(key)
                key = b""
            elif token["brace"]:
                outer = tuple(path[1:])
                key = path.pop() if path else b""  # also the key of the next object in the same array
                yield _End(outer)
            elif token["key"]:
                key = token["text"]
                if key in wanted:
                    yield _Key((*path[1:], key), buffer[done : done + _MAX_VALUE_BYTES])
        buffer = buffer[done:]


def _value(text: bytes) -> Any:
    try:
        return _DECODER.raw_decode(text.decode("utf-8", "replace").lstrip())[0]
    except ValueError:
        return None


def _parse_crs(member: Any) -> CRS | None:
    """Read the member ``crs``. A link is not followed, and an unknown type is not guessed."""
    kind = member.get("type") if isinstance(member, dict) else None
    properties = member.get("properties") if isinstance(member, dict) else None
    if not isinstance(kind, str) or not isinstance(properties, dict):
        return None
    name = f"EPSG:{properties.get('code')}" if kind.upper() == "EPSG" else properties.get("name", properties.get("urn"))
    if not isinstance(name, str) or kind.lower() not in ("name", "epsg", "ogc"):
        return None
    try:
        return CRS.from_user_input("OGC:CRS84" if name.upper() in ("CRS84", "CRS:84") else name)
    except CRSError:
        return None
