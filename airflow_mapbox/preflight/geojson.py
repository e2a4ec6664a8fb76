"""
Check GeoJSON of any size while its bytes pass, in little memory.

The document is read in three parts::

    {"type": "FeatureCollection", "crs": …, "features": [ {…}, {…}, … ], "name": …}
    └──────────────── head ─────────────────────────────┘└─ features ─┘└── tail ──┘

Features are checked in chunks. The end of a chunk's last complete feature is guessed from the text between the first
two features. The parser proves the guess: a chunk that begins at a feature and parses as an array also ends at one. If
the guess is wrong, features are read one by one.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any

import orjson

from airflow_mapbox.limits import SNIFFED_BYTES, SNIFFED_CHARACTERS
from airflow_mapbox.preflight.crs import check_crs
from airflow_mapbox.preflight.features import Features
from airflow_mapbox.preflight.findings import Content, Finding, finding
from airflow_mapbox.preflight.jsonprefix import BrokenJSONError, EndOfPart, JSONPart, loads
from airflow_mapbox.preflight.plainfeatures import PlainFeatures, PlainReader
from airflow_mapbox.preflight.sniff import GEOJSON_TYPES, GEOMETRIES, mistaken_for, sniff
from airflow_mapbox.preflight.text import not_utf8
from airflow_mapbox.rules import geojson as rules

# Larger chunks fall out of the processor's cache.
_CHUNK_BYTES = 256 * 1024
# A parsed value takes 13 to 21 times its text in memory.
_MAX_VALUE_BYTES = 5 * 2**20
# More members than this beside `features` would take seconds.
_MAX_MEMBERS = 10_000
# Explaining features takes twenty times as long as accepting plain ones. Of a file that is refused anyway, not more
# chunks or features than this are explained.
_MAX_EXPLAINED_CHUNKS = 16
_MAX_EXPLAINED_FEATURES = 200_000
_BOM = b"\xef\xbb\xbf"
# An escape in JSON: a surrogate pair, half of a pair, or anything else.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


class _Part(Enum):
    HEAD = auto()
    FEATURES = auto()
    TAIL = auto()
    DONE = auto()


class _Stopped(Exception):  # noqa: N818 - not an error: a finding or a note says why
    """The rest of the document is not checked."""


class GeoJSONCheck:
    """
    The check of one document, whose bytes are fed to it.

    :param content: gets the number of features, the bounds, and notes on what was not checked.
    """

    def __init__(self, content: Content) -> None:
        self.findings: list[Finding] = []
        self._content = content
        self._features = Features()
        self._reader = PlainReader()
        self._members: dict[str, Any] = {}
        self._start = b""
        self._part = _Part.HEAD
        self._pending: list[bytes | memoryview] = []
        self._pending_bytes = 0
        self._buffer = b""
        self._offset = 0  # of the buffer in the file
        self._needed = _CHUNK_BYTES  # bytes in the buffer before the next step
        self._is_whole = True
        # The text between two features, from the last bracket of the first to the beginning of the second.
        self._separator = b""
        self._explained_chunks = self._explained_features = 0
        self._has_half_character = False

    def feed(self, data: bytes | memoryview) -> None:
        """
        Check the next bytes.

        :param data: the bytes that follow those of the call before.
        """
        if self._part is not _Part.DONE:
            self._pending.append(data)
            self._pending_bytes += len(data)
            if len(self._buffer) + self._pending_bytes >= self._needed:
                self._run(is_end=False)

    def close(self, *, is_whole: bool = True) -> list[Finding]:
        """
        Check the end of the document, and all features together.

        :param is_whole: whether all bytes of the file were fed.
        :return: the findings.
        """
        self._is_whole = self._is_whole and is_whole
        self._needed = 0
        self._run(is_end=is_whole)
        kind = self._members.get("type", None if self._is_whole else GEOJSON_TYPES[0])
        is_json = not any(found.rule is not rules.FEATURE for found in self.findings)
        if is_json and kind not in GEOJSON_TYPES:
            self.findings = [_not_geojson(kind, self._start)]
            return self.findings
        recognised = [] if not self._start else [_check_recognised(self._start)]
        crs = check_crs(self._members.get("crs"))
        before = [found for found in (*recognised, crs) if found is not None]
        are_all_valid = self._is_whole and not self.findings
        self.findings = [*before, *self.findings, *self._features.findings(is_whole=are_all_valid)]
        if self._has_half_character:
            what = "has an escape of half a character (a lone surrogate such as \\ud83d), which is not valid Unicode."
            self.findings.append(finding(rules.HALF_CHARACTER, what))
        if self._is_whole:
            self._features.extend(self._reader.bounds)
            self._content.features = self._features.count
            self._content.bounds = self._features.bounds
        return self.findings

    def _run(self, *, is_end: bool) -> None:
        self._buffer = b"".join((self._buffer, *self._pending))
        self._pending.clear()
        self._pending_bytes = 0
        try:
            if self._part is _Part.HEAD:
                self._read_head(is_end=is_end)
            while self._part is _Part.FEATURES and (is_end or len(self._buffer) >= self._needed):
                self._read_features(is_end=is_end)
            if self._part is _Part.TAIL:
                self._read_tail(is_end=is_end)
        except _Stopped:
            self._part, self._is_whole = _Part.DONE, False
            self._buffer = b""

    def _stop(self, *findings: Finding) -> _Stopped:
        self.findings += findings
        return _Stopped()

    def _wait_for_more(self, what: str) -> None:
        """Wait for as many bytes again, or stop if one value is too large."""
        if len(self._buffer) > _MAX_VALUE_BYTES:
            size = f"{_MAX_VALUE_BYTES // 2**20} MiB"
            self._content.notes.append(f"{what} has more than {size}. The file is not checked from there on.")
            raise self._stop()
        self._needed = min(2 * len(self._buffer) + _CHUNK_BYTES, _MAX_VALUE_BYTES + 1)

    def _skip(self, length: int) -> None:
        self._buffer = self._buffer[length:]
        self._offset += length

    def _text(self, *, is_end: bool) -> str:
        """Return the buffer as a string, without a character that is cut at its end."""
        try:
            return self._buffer.decode()
        except UnicodeDecodeError as error:
            if is_end or error.start < len(self._buffer) - 3:
                raise self._stop(not_utf8(self._buffer, error.start, self._offset)) from None
            return self._buffer[: error.start].decode()

    # --- The head ---

    def _read_head(self, *, is_end: bool) -> None:
        if not self._start:
            self._start = self._buffer[:SNIFFED_BYTES]
            if self._buffer.startswith(_BOM):
                self._skip(len(_BOM))
        text = self._text(is_end=is_end)
        part = JSONPart(text)
        self._members = {}
        try:
            has_features = self._read_members(part)
        except EndOfPart:
            if is_end:
                raise self._stop(_cut_off(text)) from None
            self._wait_for_more("The part before the features")
            return
        except BrokenJSONError as error:
            raise self._stop(self._explain_break(error)) from None
        if has_features:
            self._skip(len(text[: part.at].encode()))
            self._part, self._needed = _Part.FEATURES, min(self._needed, _CHUNK_BYTES)
            return
        if rest := text[part.at :].strip(" \t\r\n\x1e"):
            raise self._stop(_continued(rest))
        if not is_end:
            self._needed = len(self._buffer) + _CHUNK_BYTES
            return
        self._part = _Part.DONE
        kind = self._members.get("type")
        if kind == "FeatureCollection":
            raise self._stop(finding(rules.FEATURES, "is a FeatureCollection whose `features` is not an array."))
        if kind in GEOJSON_TYPES:
            feature = {"type": "Feature", "geometry": self._members} if kind in GEOMETRIES else self._members
            self.findings += filter(None, [self._features.add(feature)])

    def _read_members(self, part: JSONPart) -> bool:
        """Read members up to the array of features. Return False if the document ends without one."""
        part.take("{")
        if part.peek() == "}":
            part.take("}")
            return False
        for _ in range(_MAX_MEMBERS):
            name = part.key()
            if name == "features" and part.peek() == "[":
                part.take("[")
                return True
            self._members[name] = part.value()
            if part.take(",}") == "}":
                return False
        raise self._too_many_members("before")

    def _too_many_members(self, where: str) -> _Stopped:
        self._content.notes.append(
            f"The document has more than {_MAX_MEMBERS:,} members {where} its features. The check stops there."
        )
        return self._stop()

    def _explain_break(self, error: BrokenJSONError) -> Finding:
        first, _, rest = self._buffer.lstrip().partition(b"\n")
        if rest.strip() and _is_json(first):
            return _LINES
        return finding(rules.NOT_JSON, f"is not JSON: {error}.", where=f"byte {self._offset:,} or later")

    # --- The features ---

    def _read_features(self, *, is_end: bool) -> None:
        end = self._guess_end(is_end=is_end)
        if end and self._check_chunk(memoryview(self._buffer)[:end]):
            closes = self._buffer[end] == ord("]")
            self._skip(end + 1 if closes else self._buffer.index(b",", end) + 1)
            self._part = _Part.TAIL if closes else _Part.FEATURES
            self._needed = min(self._needed, _CHUNK_BYTES)
            return
        self._read_one_by_one(is_end=is_end)

    def _guess_end(self, *, is_end: bool) -> int:
        """Return where the last complete feature in the buffer probably ends; 0 if there is no guess."""
        if is_end and self._features.count:
            return max(self._buffer.rfind(b"]"), 0)
        return self._buffer.rfind(self._separator) + 1 if self._separator else 0

    def _read_one_by_one(self, *, is_end: bool) -> None:
        text = self._text(is_end=is_end)
        part = JSONPart(text)
        ends: list[int] = []
        begins = 0  # the first value that is not complete
        closes = False
        problem: BrokenJSONError | None = None
        try:
            if part.peek() == "]" and not self._features.count:
                closes = part.take("]") == "]"
            while not closes:
                part.value()
                end = part.at
                closes = part.take(",]") == "]"
                ends.append(end)
                begins = part.at
                if len(ends) == 1 and not closes:
                    part.peek()
                    self._separator = text[end - 1 : part.at + 8].encode()
        except EndOfPart:
            pass
        except BrokenJSONError as error:
            problem = error
        if ends:
            chunk = text[: ends[-1]].encode()
            if not self._check_chunk(chunk):
                # Only orjson refuses numbers that overflow.
                self._explain(loads(f"[{chunk.decode()}]"))
        if problem is not None:
            raise self._stop(self._explain_features_break(text, part.at, problem))
        if closes:
            self._skip(len(text[: part.at].encode()))
            self._part, self._needed = _Part.TAIL, 0
        elif ends:
            self._skip(len(text[:begins].encode()))
            self._needed = min(self._needed, _CHUNK_BYTES)
        elif is_end:
            raise self._stop(_cut_off(text))
        else:
            self._wait_for_more(f"Feature {self._features.count}")

    def _explain_features_break(self, text: str, at: int, problem: BrokenJSONError) -> Finding:
        before = text[:at].rstrip(" \t\r\n\x1e")
        if before.endswith("}") and text[at:].lstrip().startswith("{"):
            return _LINES
        where = f"byte {self._offset + len(text[:at].encode()):,}"
        return finding(rules.NOT_JSON, f"is not JSON: {problem}, counted from {where} of the file.", where=where)

    def _check_chunk(self, chunk: bytes | memoryview) -> bool:
        """Check complete features. Return False if the chunk is something else, because the guess was wrong."""
        array = b"".join((b"[", chunk, b"]"))
        if not array.isascii():
            try:
                array.decode()
            except UnicodeDecodeError as error:
                raise self._stop(not_utf8(array, error.start, self._offset - 1)) from None
        plain: PlainFeatures | None = None
        # msgspec skips properties without a look at their escapes.
        if b"\\" in array and b"\\u" in array and any(escape["half"] for escape in _ESCAPES.finditer(array)):
            self._has_half_character = True
        else:
            plain = self._reader.read(array)
        if plain is not None:
            self._features.add_plain(plain.features, plain.positions)
            return True
        try:
            elements = _loads(array)
        except orjson.JSONDecodeError:
            return False
        self._explain(elements)
        return True

    def _explain(self, elements: list[Any]) -> None:
        """Check features down to each position, and record the first one that is invalid."""
        has_problem = any(found.rule is rules.FEATURE for found in self.findings)
        for element in elements:
            problem = self._features.add(element)
            if problem is not None and not has_problem:
                self.findings.append(problem)
                has_problem = True
        self._explained_chunks += 1
        self._explained_features += len(elements)
        is_much = self._explained_chunks > _MAX_EXPLAINED_CHUNKS or self._explained_features > _MAX_EXPLAINED_FEATURES
        if is_much and (has_problem or self._features.is_beyond_map):
            self._content.notes.append(
                f"The check stopped at feature {self._features.count:,}, because Mapbox refuses the file anyway."
            )
            raise self._stop()

    # --- The tail ---

    def _read_tail(self, *, is_end: bool) -> None:
        if not is_end:
            if len(self._buffer) > self._needed:
                self._buffer = self._buffer.rstrip()
            self._wait_for_more("The part after the features")
            return
        text = self._text(is_end=True)
        part = JSONPart(text)
        try:
            read = 0
            while part.take(",}") == ",":
                name = part.key()
                self._members[name] = part.value()
                read += 1
                if read > _MAX_MEMBERS:
                    raise self._too_many_members("after")
        except EndOfPart:
            raise self._stop(_cut_off(text)) from None
        except BrokenJSONError as error:
            raise self._stop(finding(rules.NOT_JSON, f"is not JSON: {error}.", where="its end")) from None
        if not part.is_at_end:
            raise self._stop(_continued(text[part.at :]))
        self._part = _Part.DONE


def check_end(tail: bytes) -> list[Finding]:
    """
    Check the complete features at the end of a document, and that the document is closed after them.

    :param tail: the last bytes, without a cut character at their start.
    """
    text = tail.decode("utf-8", "ignore").rstrip(" \t\r\n")
    if not text:
        return []
    if not text.endswith("}"):
        return [_cut_off(text)]
    starts = [match.start() for match in _FEATURE.finditer(text)]
    for start in starts:
        content = Content()
        check = GeoJSONCheck(content)
        check.feed(b'{"type":"FeatureCollection","features":[' + text[start:].encode())
        findings = check.close()
        if any(found.rule in (rules.NOT_JSON, rules.LINES) for found in findings):
            continue  # this match is not a feature of the collection, but a value inside a feature
        # Other features may have what these lack. Their numbers count from the start of the tail, not of the file.
        return [_near_end(found) for found in findings if found.rule is not rules.EMPTY]
    if starts and re.search(r"\}[ \t\r]*[\n\x1e]\s*\Z", text[: starts[-1]]):
        return [_LINES]
    return []  # a feature inside a value, or an error that shows when the whole file is read


_FEATURE = re.compile(r'\{\s*"type"\s*:\s*"Feature"')
_LINES = finding(rules.LINES, "has one JSON document a line (line-delimited GeoJSON), which Mapbox does not accept.")


def _continued(rest: str) -> Finding:
    """Return the finding for a document that continues after its end."""
    if rest.startswith(("{", "\x1e")):
        return _LINES
    return finding(rules.NOT_JSON, f"is not JSON: it continues after its end with {rest[:20]!r}.", where="its end")


def _near_end(found: Finding) -> Finding:
    return Finding(
        found.rule,
        re.sub(r" in feature \d+", " in a feature near its end", found.what),
        "its end" if found.where else "",
        found.remedy,
        found.message,
    )


def _cut_off(text: str) -> Finding:
    end = text.rstrip()[-20:]
    why = "is broken near its end" if end.endswith("}") else "ends without }, so it is cut off"
    return finding(rules.NOT_JSON, f"is not JSON: it {why} ({end!r}).", where="its end")


def _check_recognised(head: bytes) -> Finding | None:
    """Check that Mapbox recognises a GeoJSON document as GeoJSON."""
    if mistaken := mistaken_for(head):
        token, name = mistaken
        return finding(
            rules.HEAD,
            f"has {token} in its first {SNIFFED_CHARACTERS} characters, which Mapbox reads as {name}.",
            where=f"the first {SNIFFED_CHARACTERS} characters",
            remedy="Rename the attribute, or put spaces before the first feature.",
        )
    if sniff(head) is None:
        return finding(
            rules.HEAD,
            f'has neither "type" nor "features" in its first {SNIFFED_CHARACTERS} characters, and Mapbox recognises '
            "GeoJSON by them.",
            where=f"the first {SNIFFED_CHARACTERS} characters",
        )
    return None


def _not_geojson(kind: object, head: bytes) -> Finding:
    has = "no `type`" if kind is None else f"the `type` {str(kind)[:40]!r}"
    begins = head[:60].decode("utf-8", "replace")
    return finding(
        rules.OTHER_JSON,
        f"is JSON but not GeoJSON: it has {has} instead of FeatureCollection, Feature or a geometry's type. It begins "
        f"with {begins!r}.",
        # Members such as `features` are enough to be recognised as GeoJSON, but not to be read.
        message=None if sniff(head) is None else rules.NOT_JSON.message,
    )


def _loads(array: bytes) -> Any:
    """Parse JSON whose strings may escape halves of characters."""
    try:
        return orjson.loads(array)
    except orjson.JSONDecodeError:
        repaired = _ESCAPES.sub(lambda escape: rb"\ufffd" if escape["half"] else escape[0], array)
        if repaired == array:
            raise
        return orjson.loads(repaired)


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
