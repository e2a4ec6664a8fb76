"""Check GeoJSON for what Mapbox would refuse: small documents completely, others at the beginning and the end."""

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
# An escape in JSON: a surrogate pair, half of a pair, or anything else.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_BOM = b"\xef\xbb\xbf"


def check_whole(data: bytes) -> Iterator[Problem]:
    """
    Check a complete document.

    :param data: all bytes of the file.
    """
    plain = data.removeprefix(_BOM)
    try:
        document, has_half_characters = _decoded(plain)
    except orjson.JSONDecodeError as error:
        yield _not_json(plain, f"{error.msg} at line {error.lineno}, column {error.colno}")
        return
    if has_half_characters:
        yield _HALF_CHARACTER
    kind = document.get("type") if isinstance(document, dict) else None
    if kind not in GEOJSON_TYPES:
        yield _not_geojson(kind)
        return
    yield from _check_recognised(data)
    yield from _some(check_crs(document.get("crs")))
    features = Features()
    elements = document.get("features") if kind == "FeatureCollection" else [_as_feature(document)]
    if not isinstance(elements, list):
        yield _FEATURES_NOT_AN_ARRAY
        return
    problem = next(filter(None, map(features.add, elements)), None)
    yield from _some(problem)
    yield from features.problems(is_whole=problem is None)


def _decoded(plain: bytes) -> tuple[Any, bool]:
    """Return the parsed document, and whether it escapes halves of characters. These become U+FFFD."""
    try:
        return orjson.loads(plain), False
    except orjson.JSONDecodeError:
        repaired = _ESCAPES.sub(lambda escape: rb"\ufffd" if escape["half"] else escape[0], plain)
        if repaired == plain:
            raise
        return orjson.loads(repaired), True


def check_beginning(head: bytes) -> Iterator[Problem]:
    """
    Check the complete features at the beginning of a document.

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
    Check the complete features at the end of a document, and that the document is closed after them.

    :param tail: the last bytes, without a cut character at their start.
    """
    text = tail.decode("utf-8", "ignore").rstrip(" \t\r\n")
    if not text.endswith("}"):
        yield Problem(f"ends with {text[-20:]!r} instead of }}: it is cut off.", WRITER)
        return
    starts = [match.start() for match in _FEATURE.finditer(text)]
    for start in starts:
        features = Features()
        members: dict[str, Any] = {}
        try:
            problem = _read_continued(JSONPart(text, start), members, features)
        except (EndOfPart, BrokenJSONError):
            continue  # this match is not a feature of the collection, but a value inside a feature
        yield from _some(check_crs(members.get("crs")))
        yield from map(_without_feature_number, (*_some(problem), *features.problems(is_whole=False)))
        return
    if starts and text[: starts[-1]].rstrip(" \t\r\n\x1e").endswith("}"):
        yield _line_delimited()
    elif starts:
        yield Problem("does not close its FeatureCollection: it is cut off, or invalid near its end.", WRITER)


def describe_unknown(head: bytes) -> Problem:
    """
    Return the problem of JSON that Mapbox does not recognise as GeoJSON.

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
    """Read a document: check its features, and store its other members."""
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
    """Read from a feature to the end of the document."""
    problem = _read_features(part, features)
    if problem is not None:
        return problem
    while part.take(",}") == ",":
        name = part.key()
        members[name] = part.value()
    if not part.is_at_end:
        raise BrokenJSONError("the document continues after its end")
    return None


def _check_recognised(head: bytes) -> Iterator[Problem]:
    """Check that Mapbox would recognise a GeoJSON document as GeoJSON."""
    if mistaken := mistaken_for(head):
        token, name = mistaken
        yield Problem(
            f"has {token} in its first {SNIFFED_CHARACTERS} characters, which Mapbox reads as {name}.",
            "Rename the attribute, or put spaces before the first feature.",
        )
    elif sniff(head) is None:
        yield Problem(
            f'has neither "type" nor "features" in its first {SNIFFED_CHARACTERS} characters, and Mapbox recognises '
            "GeoJSON by them.",
            "Write `type` first, then `features`, then the other members.",
        )


def _as_feature(document: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": document} if document["type"] in GEOMETRIES else document


_HALF_CHARACTER = Problem(
    "escapes half of a character (a lone surrogate such as \\ud83d), which is not valid Unicode.",
    f"A string was cut inside a character. {WRITER}",
    refused=False,
)
_FEATURES_NOT_AN_ARRAY = Problem("is a FeatureCollection whose `features` is not an array.", WRITER)


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
    return Problem("has one JSON document a line (line-delimited GeoJSON), which Mapbox does not accept.", EXPORT)


def _not_geojson(kind: object, head: bytes = b"") -> Problem:
    has = "no `type`" if kind is None else f"the `type` {str(kind)[:40]!r}"
    begins = f" It begins with {head[:60].decode('utf-8', 'replace')!r}." if head else ""
    return Problem(
        f"is JSON but not GeoJSON: it has {has} instead of FeatureCollection, Feature or a geometry's type.{begins}",
        "Check the task that wrote it, or the URL: servers return errors as JSON, too.",
    )


def _without_feature_number(problem: Problem) -> Problem:
    """Return a problem without its feature's number: that number counts from the start of the tail, not of the file."""
    return replace(problem, what=re.sub(r" in feature \d+", " in a feature near its end", problem.what))


def _some(*problems: Problem | None) -> Iterator[Problem]:
    yield from (problem for problem in problems if problem is not None)
