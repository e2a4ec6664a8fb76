"""What Mapbox would refuse in a GeoJSON document: the whole of a small one, the beginning and the end of any other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from airflow_mapbox.limits import SNIFFED_CHARACTERS
from airflow_mapbox.preflight.crs import check_crs
from airflow_mapbox.preflight.features import Features
from airflow_mapbox.preflight.jsonprefix import BrokenJSONError, EndOfPart, JSONPart
from airflow_mapbox.preflight.problems import EXPORT, WRITER, Problem
from airflow_mapbox.preflight.sniff import GEOJSON_TYPES, GEOMETRIES, mistaken_for, sniff

_FEATURE = re.compile(r'\{\s*"type"\s*:\s*"Feature"')
# What follows a backslash in JSON: a whole surrogate pair, half of one, or anything else.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_BOM = b"\xef\xbb\xbf"


def check_whole(data: bytes) -> Iterator[Problem]:
    """
    Check a whole document.

    :param data: the file's bytes.
    """
    plain = data.removeprefix(_BOM)
    try:
        document, has_half = _decoded(plain)
    except orjson.JSONDecodeError as error:
        yield _not_json(plain, f"{error.msg} at line {error.lineno}, column {error.colno}")
        return
    if has_half:
        yield _HALF_CHARACTER
    kind = document.get("type") if isinstance(document, dict) else None
    if kind not in GEOJSON_TYPES:
        yield _not_geojson(kind)
        return
    yield from _check_recognised(data)
    yield from _some(check_crs(document.get("crs")))
    features = Features()
    wanted = document.get("features") if kind == "FeatureCollection" else [_as_feature(document)]
    if not isinstance(wanted, list):
        yield _NO_ARRAY
        return
    problem = next((found for found in map(features.add, wanted) if found), None)
    yield from _some(problem)
    yield from features.problems(is_whole=problem is None)


def _decoded(plain: bytes) -> tuple[Any, bool]:
    """Return a document, and whether it escapes halves of characters, which become U+FFFD."""
    try:
        return orjson.loads(plain), False
    except orjson.JSONDecodeError:
        mended = _ESCAPES.sub(lambda escape: rb"\ufffd" if escape["half"] else escape[0], plain)
        if mended == plain:
            raise
        return orjson.loads(mended), True


def check_beginning(head: bytes) -> Iterator[Problem]:
    """
    Check the beginning of a document, as far as whole features are in it.

    :param head: the first bytes.
    """
    text = head.removeprefix(_BOM).decode("utf-8", "ignore")
    features = Features()
    members: dict[str, Any] = {}
    problem: Problem | None = None
    try:
        problem = _read_members(JSONPart(text), members, features)
    except EndOfPart:
        pass
    except BrokenJSONError as error:
        problem = Problem(f"is not JSON: {error}.", WRITER)
    kind = members.get("type", GEOJSON_TYPES[0])
    if kind not in GEOJSON_TYPES:
        yield _not_geojson(kind)
        return
    yield from _check_recognised(head)
    yield from _some(check_crs(members.get("crs")))
    yield from _some(problem)
    yield from features.problems(is_whole=False)


def check_end(tail: bytes) -> Iterator[Problem]:
    """
    Check the end of a document: that its last features close it.

    :param tail: the last bytes, from the beginning of a character on.
    """
    text = tail.decode("utf-8", "ignore").rstrip(" \t\r\n")
    if not text.endswith("}"):
        yield Problem(f"ends with {text[-20:]!r} and not with }}: it is cut off.", WRITER)
        return
    starts = [found.start() for found in _FEATURE.finditer(text)]
    for start in starts:
        features = Features()
        members: dict[str, Any] = {}
        try:
            problem = _read_continued(JSONPart(text, start), members, features)
        except (EndOfPart, BrokenJSONError):
            continue  # that was no feature of the collection, but a value inside of one
        yield from _some(check_crs(members.get("crs")))
        yield from (_near_end(found) for found in (*_some(problem), *features.problems(is_whole=False)))
        return
    if starts and text[: starts[-1]].rstrip(" \t\r\n\x1e").endswith("}"):
        yield _line_delimited()
    elif starts:
        yield Problem("does not end as a FeatureCollection does: it is cut off, or broken near its end.", WRITER)


def describe_unknown(head: bytes) -> Problem:
    """
    Return why JSON is not recognised as GeoJSON.

    :param head: the first bytes.
    """
    members: dict[str, Any] = {}
    try:
        _read_members(JSONPart(head.removeprefix(_BOM).decode("utf-8", "ignore")), members, Features())
    except EndOfPart:
        pass
    except BrokenJSONError as error:
        return Problem(f"is not JSON: {error}.", WRITER)
    if members.get("type") in GEOJSON_TYPES:
        return next(_check_recognised(head), _not_geojson(members["type"]))
    return _not_geojson(members.get("type"), head)


def _read_members(part: JSONPart, members: dict[str, Any], features: Features) -> Problem | None:
    part.take("{")
    if part.peek() == "}":
        part.take("}")
    else:
        while True:
            name = part.key()
            if name == "features" and part.peek() == "[":
                part.take("[")
                if part.peek() == "]":
                    part.take("]")
                    members[name] = []
                elif problem := _read_features(part, features):
                    return problem
            else:
                members[name] = part.value()
            if part.take(",}") == "}":
                break
    return None if part.is_at_end else _line_delimited()


def _read_features(part: JSONPart, features: Features) -> Problem | None:
    while True:
        if problem := features.add(part.value()):
            return problem
        if part.take(",]") == "]":
            return None


def _read_continued(part: JSONPart, members: dict[str, Any], features: Features) -> Problem | None:
    """Read from a feature on to the end of its collection."""
    problem = _read_features(part, features)
    if problem is not None:
        return problem
    while part.take(",}") == ",":
        name = part.key()
        members[name] = part.value()
    if not part.is_at_end:
        raise BrokenJSONError("more follows the end of the document")
    return None


def _check_recognised(head: bytes) -> Iterator[Problem]:
    """Check that Mapbox would recognise a GeoJSON document as one."""
    if mistaken := mistaken_for(head):
        token, name = mistaken
        yield Problem(
            f"has {token} in its first {SNIFFED_CHARACTERS} characters, which Mapbox reads as {name}.",
            "Rename the attribute, or put spaces before the first feature.",
        )
    elif sniff(head) is None:
        yield Problem(
            f'has neither "type" nor "features" in its first {SNIFFED_CHARACTERS} characters, where Mapbox looks for '
            "them.",
            "Write `type` first, then `features`; other members after them.",
        )


def _as_feature(document: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": document} if document["type"] in GEOMETRIES else document


_HALF_CHARACTER = Problem(
    "escapes half of a character (a lone surrogate such as \\ud83d), which is no Unicode.",
    f"Text was cut within a character. {WRITER}",
    refused=False,
)
_NO_ARRAY = Problem("is a FeatureCollection whose `features` is no array.", WRITER)


def _not_json(data: bytes, why: str) -> Problem:
    first, _, rest = data.lstrip().partition(b"\n")
    if rest.strip():
        try:
            orjson.loads(first)
        except orjson.JSONDecodeError:
            pass
        else:
            return _line_delimited()
    return Problem(f"is not JSON: {why}.", WRITER)


def _line_delimited() -> Problem:
    return Problem("is not JSON but one document a line (line-delimited GeoJSON), which Mapbox does not read.", EXPORT)


def _not_geojson(kind: object, head: bytes = b"") -> Problem:
    has = "no `type`" if kind is None else f"{str(kind)[:40]!r} as its `type`,"
    begins = f" It begins with {head[:60].decode('utf-8', 'replace')!r}." if head else ""
    return Problem(
        f"is JSON but not GeoJSON: it has {has} and none of FeatureCollection, Feature or a geometry.{begins}",
        "Look at what wrote it, or at the URL: a server may answer with an error as JSON.",
    )


def _near_end(problem: Problem) -> Problem:
    """Name no number of a feature: near the end nobody has counted them."""
    return replace(problem, what=re.sub(r" in feature \d+", " in a feature near its end", problem.what))


def _some(*problems: Problem | None) -> Iterator[Problem]:
    yield from (problem for problem in problems if problem is not None)
