"""
What GDAL does not tell of a GeoJSON document: which reference system it names, and the ids of its features.

The text is read once, in blocks, for its strings and braces alone; coordinates are passed over.
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
from airflow_mapbox.export.text.attributes import EXACT

_BLOCK = 1 << 20
_VALUE = 1 << 16  # bytes that a `crs` or an id takes, at most
# A string with the colon that makes it a key; one that the block cuts; a brace.
_TOKEN = re.compile(rb'"(?P<text>(?:[^"\\]++|\\.)*+)"\s*+(?P<key>:?)|(?P<cut>")|(?P<brace>[{}])', re.DOTALL)
_SHOWN = 60  # bytes of a geometry that a message shows
_DECODER = json.JSONDecoder()
_RECORD = b"\x1e"  # before each text of a sequence
_ROOT: tuple[bytes, ...] = ()
_FEATURES = (b"features",)


class _Key(NamedTuple):
    """A key with the keys around it, the root's first, and the first bytes of its value."""

    path: tuple[bytes, ...]
    value: bytes


class _End(NamedTuple):
    """The end of an object, by the keys around it."""

    path: tuple[bytes, ...]


def named_crs(opener: Callable[[], IO[bytes]]) -> tuple[bool, CRS | None]:
    """
    Read the reference system that a document names (GeoJSON 2008, section 3), which RFC 7946 has no more.

    GDAL takes one that it does not understand for WGS 84, without a word.

    :param opener: of the document's bytes.
    :return: whether it names one; and which, None for one that nobody knows.
    """
    if not _has(opener, b'"crs"'):
        return False, None
    with opener() as stream:
        for token in _walk(stream, b"crs"):
            if isinstance(token, _Key) and token.path == (b"crs",):
                return True, _parse_crs(_value(token.value))
    return False, None


def has_member_ids(opener: Callable[[], IO[bytes]]) -> bool:
    """
    Say whether the attribute ``id`` that GDAL gives is the member of features, instead of a property of that name.

    GDAL makes an attribute of the first id that is not a positive whole number, if no property is called so before.

    :param opener: of the document's bytes.
    """
    member = False
    with opener() as stream:
        for token in _walk(stream, b"id", b"features"):
            if isinstance(token, _End):
                if member and token.path in (_ROOT, _FEATURES):
                    return True
            elif token.path == _FEATURES:
                member = False
            elif token.path[-2:] == (b"properties", b"id"):
                return False
            elif token.path[:-1] in (_ROOT, _FEATURES):
                found = _value(token.value)
                member = isinstance(found, str | float) or (isinstance(found, int) and found < 0)
    return False


def write_collection(opener: Callable[[], IO[bytes]], target: IO[bytes]) -> None:
    """
    Write features that stand line by line, or in a sequence (RFC 8142), as one collection.

    :param opener: of the features' bytes.
    :param target: of the collection's.
    """
    with opener() as stream:
        target.write(b'{"type":"FeatureCollection","features":[')
        first = stream.readline()
        if first.startswith(_RECORD):
            target.write(first[len(_RECORD) :].replace(_RECORD, b","))
            while block := stream.read(_BLOCK):
                target.write(block.replace(_RECORD, b","))
        else:
            target.write(first)
            for line in stream:
                if line.strip():
                    target.write(b"," + line)
        target.write(b"]}")


class Ids:
    """
    The ids of features (RFC 7946, section 3.2), batch after batch.

    :param name: of the source, for messages.
    :param opener: of the document's bytes.
    """

    def __init__(self, name: str, opener: Callable[[], IO[bytes]]) -> None:
        self._name = name
        # Of one type in all the file, which has to be read for that.
        numbers = all(found is None or _is_exact(found) for found in _ids(opener))
        self._kind = pa.int64() if numbers else pa.string()
        self._ids = _ids(opener)

    def take(self, count: int) -> pa.Array:
        """Give the next ones, None for a feature without one: numbers if all of the file are, else strings."""
        ids = list(islice(self._ids, count))
        if len(ids) < count:
            raise UnreadableSourceError(
                f"{self._name} has features whose ids cannot be told apart.\nExport it without id_attribute=."
            )
        if self._kind == pa.string():
            ids = [found if found is None or isinstance(found, str) else json.dumps(found) for found in ids]
        return pa.array(ids, self._kind)


def geometry_texts(opener: Callable[[], IO[bytes]]) -> Iterator[str | None]:
    """
    Give the beginning of each feature's geometry as it is written, or None for a feature without one.

    :param opener: of the document's bytes.
    """
    for found in _members(opener, b"geometry"):
        text = "" if found is None else found[:_SHOWN].decode("utf-8", "replace").strip()
        yield None if text in ("", "null") or text.startswith(("null,", "null}")) else f"geometry={text} …"


def _ids(opener: Callable[[], IO[bytes]]) -> Iterator[Any]:
    return (None if found is None else _value(found) for found in _members(opener, b"id"))


def _members(opener: Callable[[], IO[bytes]], key: bytes) -> Iterator[bytes | None]:
    """Give the first bytes of a member of each feature, or None for a feature without it."""
    found, collection = None, False
    with opener() as stream:
        for token in _walk(stream, key, b"features"):
            if isinstance(token, _End):
                if token.path == _FEATURES or (token.path == _ROOT and not collection):
                    yield found
                    found = None
            elif token.path == _FEATURES:
                found, collection = None, True
            elif token.path[:-1] in (_ROOT, _FEATURES):
                found = token.value


def _is_exact(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and abs(found) <= EXACT


def _has(opener: Callable[[], IO[bytes]], text: bytes) -> bool:
    with opener() as stream:
        before = b""
        while block := stream.read(_BLOCK):
            if text in before + block:
                return True
            before = block[-len(text) :]
    return False


def _walk(stream: IO[bytes], *wanted: bytes) -> Iterator[_Key | _End]:
    """Give the wanted keys, and the ends of objects, of each document in a stream."""
    path: list[bytes] = []
    key = b""
    buffer = b""
    more = True
    while more:
        block = stream.read(_BLOCK)
        more = bool(block)
        buffer += block
        done = 0
        for token in _TOKEN.finditer(buffer):
            if more and (token["cut"] or token.end() + _VALUE > len(buffer)):
                break  # until the next block has the rest of it, and of its value
            done = token.end()
            if token["brace"] == b"{":
                path.append(key)
                key = b""
            elif token["brace"]:
                around = tuple(path[1:])
                key = path.pop() if path else b""  # of the next object of the same array
                yield _End(around)
            elif token["key"]:
                key = token["text"]
                if key in wanted:
                    yield _Key((*path[1:], key), buffer[done : done + _VALUE])
        buffer = buffer[done:]


def _value(text: bytes) -> Any:
    try:
        return _DECODER.raw_decode(text.decode("utf-8", "replace").lstrip())[0]
    except ValueError:
        return None


def _parse_crs(member: Any) -> CRS | None:
    """Read the member `crs`; a link is not followed, and what is no name is not guessed."""
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
