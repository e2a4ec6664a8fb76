"""Check KML and GPX while their bytes pass."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.parsers import expat

from airflow_mapbox.limits import KML_LAYERS, WEB_MERCATOR_LATITUDE
from airflow_mapbox.preflight.findings import Content, Finding, finding
from airflow_mapbox.preflight.formats import GPX, KML, Format
from airflow_mapbox.rules import xml as rules

if TYPE_CHECKING:
    from typing import TypeAlias

_MAX_DEPTH = 256
_LINE_BREAK = re.compile(r"[\r\n]")
# expat takes quadratic time for tags and attributes that are much longer than what is fed at once.
_MAX_TOKEN_BYTES = 16 * 2**20
_TEXT_BYTES = 2**20
_NAME_CHARACTERS = 200
_POINTS_AT_ONCE = 10_000
_MAX_KEPT_LAYERS = 1000
_CONTAINERS = frozenset({"kml", "Document", "Folder"})
_GEOMETRIES = frozenset({"Point", "LineString", "Polygon"})
_COLLECTIONS = frozenset({"MultiGeometry", "MultiPoint", "MultiLineString", "MultiPolygon"})
# Mapbox's messages for a file that GDAL cannot open: of its check of KML, and of its reader of both.
NOT_OPENED = {
    KML: "Error opening dataset",
    GPX: "Error creating Mapnik Datasource: Invalid OGR: could not open the file",
}
# The elements of GPX that have positions, and GDAL's names of their layers.
_GPX_LAYERS = {"wpt": "waypoints", "rte": "routes", "rtept": "route_points", "trk": "tracks", "trkpt": "track_points"}

Attributes: TypeAlias = "dict[str, str]"


class _Stopped(Exception):  # noqa: N818 - not an error: a finding or a note says why
    """The rest of the document is not checked."""


class XMLCheck:
    """
    The check of one document, whose bytes are fed to it.

    :param kind: KML or GPX.
    :param content: gets the layers, the number of features, the bounds, and notes on what was not checked.
    """

    def __init__(self, kind: Format, content: Content) -> None:
        self.findings: list[Finding] = []
        self._kind = kind
        self._content = content
        self._fed = 0
        self._depth = 0
        self._is_stopped = False
        # pyexpat passes the elements of the document on; it has no resolver of external entities.
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.buffer_size = _TEXT_BYTES
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._elements: _KML | _GPX = _KML(self._collect) if kind is KML else _GPX()
        self._started, self._ended = self._elements.started, self._elements.ended
        self._parser.EndElementHandler = self._end if self._ended else self._leave

    def feed(self, data: bytes | memoryview) -> None:
        """
        Check the next bytes.

        :param data: the bytes that follow those of the call before.
        """
        if not self._is_stopped:
            self._fed += len(data)
            self._parse(bytes(data), is_end=False)

    def close(self, *, is_whole: bool = True) -> list[Finding]:
        """
        Check the end of the document, and all features together.

        :param is_whole: whether all bytes of the file were fed.
        :return: the findings.
        """
        if is_whole and not self._is_stopped:
            self._parse(b"", is_end=True)
        # The parser and its handlers refer to each other.
        self._parser.StartElementHandler = self._parser.EndElementHandler = None
        self._parser.CharacterDataHandler = self._parser.StartDoctypeDeclHandler = None
        elements = self._elements
        elements.close()
        positions = elements.positions
        if is_whole and not self._is_stopped:
            self._content.layers = elements.layers
            self._content.features = elements.features
            self._content.bounds = positions.bounds
            self.findings += elements.findings()
        elif isinstance(elements, _KML) and not self.findings:
            self.findings += elements.too_many_layers()
        if positions.beyond is not None:
            x, y = positions.beyond
            what = f"has ({x:.9g}, {y:.9g}), outside ±180 degrees of longitude or ±85.0511 degrees of latitude."
            self.findings.append(finding(rules.RANGE, what))
        return self.findings

    def _parse(self, data: bytes, *, is_end: bool) -> None:
        try:
            self._parser.Parse(data, is_end)
            if not is_end and self._fed - self._parser.CurrentByteIndex > _MAX_TOKEN_BYTES:
                size = f"{_MAX_TOKEN_BYTES // 2**20} MiB"
                self._stop(finding(rules.TOKEN_TOO_LONG, f"has a tag, comment or attribute of more than {size}."))
        except _Stopped:
            pass
        except expat.ExpatError as error:
            where = f"line {error.lineno:,}, column {error.offset:,}"
            message = expat.ErrorString(error.code)
            if error.code == expat.errors.codes[expat.errors.XML_ERROR_UNKNOWN_ENCODING]:
                self._content.notes.append(
                    "The file's encoding is unknown to the check, so its content was not checked."
                )
                self._is_stopped = True
            elif is_end:
                what = f"is cut off: it ends inside an element ({message}, {where})."
                self._is_stopped = True
                self.findings.append(self._not_xml(what, "its end"))
            else:
                self._is_stopped = True
                self.findings.append(self._not_xml(f"is not XML: {message} in {where}.", where))
        except ValueError as error:  # an encoding that Python's codecs refuse
            self._content.notes.append(f"The file's content was not checked: {error}.")
            self._is_stopped = True

    def _not_xml(self, what: str, where: str) -> Finding:
        return finding(rules.NOT_XML, what, where=where, message=NOT_OPENED[self._kind])

    def _stop(self, found: Finding) -> None:
        self.findings.append(found)
        self._is_stopped = True
        raise _Stopped

    def _doctype(self, name: str, system: str | None, public: str | None, has_declarations: bool) -> None:
        where = f"line {self._parser.CurrentLineNumber:,}"
        if has_declarations:
            self._stop(finding(rules.ENTITIES, "declares entities in its <!DOCTYPE …>.", where=where))
        self.findings.append(finding(rules.DOCTYPE, "has a <!DOCTYPE …>.", where=where))

    def _start(self, name: str, attributes: Attributes) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            where = f"line {self._parser.CurrentLineNumber:,}"
            self._stop(finding(rules.TOO_DEEP, f"has elements nested more than {_MAX_DEPTH} deep.", where=where))
        if ":" in name:
            name = name.rpartition(":")[2]
        if name in self._started:
            self._elements.start(name, attributes, self._depth)

    def _end(self, name: str) -> None:
        if ":" in name:
            name = name.rpartition(":")[2]
        if name in self._ended:
            self._elements.end(name, self._depth)
        self._depth -= 1

    def _leave(self, name: str) -> None:
        self._depth -= 1

    def _collect(self, handler: Callable[[str], None] | None) -> None:
        self._parser.CharacterDataHandler = handler


class _Positions:
    """The bounds of positions, and one that lies beyond the map."""

    def __init__(self) -> None:
        self.count = 0
        self.beyond: tuple[float, float] | None = None
        self._box = [math.inf, math.inf, -math.inf, -math.inf]

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north of all positions; None without a position."""
        west, south, east, north = self._box
        return (west, south, east, north) if self.count else None

    def add_tuples(self, tuples: list[str]) -> None:
        """
        Add positions. Those that are not numbers are left out.

        :param tuples: longitude, latitude and perhaps a height, with a comma between them.
        """
        if not tuples:
            return
        # One split makes the numbers of all tuples. If each tuple is as long as the first, its longitude begins with
        # the line break, and no other number has one.
        width = tuples[0].count(",") + 1
        numbers = ",\n".join(tuples).split(",")
        is_even = len(numbers) == width * len(tuples) and "".join(numbers[::width]).count("\n") == len(tuples) - 1
        if width > 1 and is_even and self._add_numbers(numbers[::width], numbers[1::width]):
            return
        self.add_pairs([position.split(",", 2) for position in tuples])

    def add_pairs(self, pairs: Sequence[Sequence[str]]) -> None:
        """
        Add positions. Those that are not numbers are left out.

        :param pairs: longitudes and latitudes in degrees.
        """
        pairs = [pair for pair in pairs if len(pair) > 1]
        if not self._add_numbers([pair[0] for pair in pairs], [pair[1] for pair in pairs]):
            for pair in pairs:
                self._add_numbers([pair[0]], [pair[1]])

    def _add_numbers(self, longitudes: list[str], latitudes: list[str]) -> bool:
        """Add positions; return False if one of them is not a pair of numbers."""
        try:
            xs, ys = list(map(float, longitudes)), list(map(float, latitudes))
        except ValueError:
            return False
        is_finite = math.isfinite(sum(xs) + sum(ys))
        if is_finite:
            self._add(xs, ys)
        return is_finite

    def _add(self, xs: list[float], ys: list[float]) -> None:
        if not xs:
            return
        self.count += len(xs)
        box = self._box
        west, south, east, north = min(xs), min(ys), max(xs), max(ys)
        self._box = [min(box[0], west), min(box[1], south), max(box[2], east), max(box[3], north)]
        if self.beyond is None and (
            west < -180 or east > 180 or south < -WEB_MERCATOR_LATITUDE or north > WEB_MERCATOR_LATITUDE
        ):
            self.beyond = max(west, east, key=abs), max(south, north, key=abs)


@dataclass(slots=True)
class _Element:
    """
    An open element that can hold layers or features.

    :param layers: the names of the layers inside it, if something in the file has a geometry.
    :param empty_layers: the names of the layers inside it, if nothing in the file has a geometry.
    """

    depth: int
    kind: str
    name: str | None = None
    has_geometry: bool = False
    has_placemark: bool = False
    is_layer: bool = False
    layers: list[str] = field(default_factory=list)
    empty_layers: list[str] = field(default_factory=list)


class _KML:
    """
    The elements of a KML document.

    The layers are those of GDAL's KML driver, which Mapbox's validator asks. Each Document, Folder or kml that directly
    holds a Placemark with a geometry is one, inner ones first. If nothing in the file has a geometry, they are all
    Folders, and each Document or kml that directly holds a Placemark.

    :param collect: sets the handler of text; None for no handler.
    """

    started = ended = (
        frozenset({"coordinates", "coord", "Placemark", "name"}) | _CONTAINERS | _GEOMETRIES | _COLLECTIONS
    )

    def __init__(self, collect: Callable[[Callable[[str], None] | None], None]) -> None:
        self.positions = _Positions()
        self.features = 0
        self._collect = collect
        self._open: list[_Element] = []
        self._root: _Element | None = None
        self._name = ""
        self._coordinates = ""
        self._is_track = False
        self._tuples: list[str] = []

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers."""
        root = self._root
        return () if root is None else tuple(root.layers if root.has_geometry else root.empty_layers)

    def start(self, name: str, attributes: Attributes, depth: int) -> None:
        """
        Begin an element.

        :param name: its name without a prefix.
        :param attributes: its attributes.
        :param depth: its depth; the root's is 1.
        """
        if name == "coordinates" or name == "coord":
            self._coordinates, self._is_track = "", name == "coord"
            self._collect(self._add_coordinates)
            return
        if name == "Placemark":
            self.features += 1
        # GDAL ignores the content of elements that it does not know, and of descriptions.
        parent = self._open[-1] if self._open else None
        if (parent.depth != depth - 1) if parent is not None else depth != 1:
            return
        if name in _GEOMETRIES or name in _COLLECTIONS:
            for element in reversed(self._open):
                if element.has_geometry:
                    break
                element.has_geometry = True
        if name in _CONTAINERS or name in _COLLECTIONS or name == "Placemark":
            self._open.append(_Element(depth, name, has_geometry=name in _COLLECTIONS))
        elif name == "name" and parent is not None and parent.name is None:
            self._name = ""
            self._collect(self._add_name)

    def end(self, name: str, depth: int) -> None:
        """
        End an element.

        :param name: its name without a prefix.
        :param depth: its depth.
        """
        if name == "coordinates" or name == "coord":
            self._take_positions(self._coordinates)
            self._coordinates = ""
            self._collect(None)
        elif not self._open:
            return
        elif self._open[-1].depth == depth:
            self._close(self._open.pop())
        elif name == "name" and self._open[-1].depth == depth - 1 and self._open[-1].name is None:
            self._open[-1].name = " ".join(filter(None, map(_left_stripped, _LINE_BREAK.split(self._name))))
            self._collect(None)

    def _close(self, element: _Element) -> None:
        parent = self._open[-1] if self._open else _Element(0, "")
        if element.kind not in _CONTAINERS:
            parent.has_placemark = True
            parent.is_layer |= element.has_geometry
            return
        if element.is_layer:
            element.layers.append(element.name or "")
        if element.kind == "Folder" and element.has_placemark:
            element.empty_layers.clear()
        if element.kind == "Folder" or element.has_placemark:
            element.empty_layers.append(element.name or "")
        # More layers than this are refused, whatever their number.
        for above, inner in ((parent.layers, element.layers), (parent.empty_layers, element.empty_layers)):
            above += inner[: max(0, _MAX_KEPT_LAYERS - len(above))]
        if not self._open:
            self._root = element

    def _add_name(self, text: str) -> None:
        self._name = (self._name + text)[:_NAME_CHARACTERS]

    def _add_coordinates(self, text: str) -> None:
        if self._is_track:
            self._coordinates = (self._coordinates + text)[:_NAME_CHARACTERS]
            return
        self._coordinates += text
        if len(self._coordinates) >= _TEXT_BYTES:
            # Everything up to the last space is complete.
            complete, space, rest = self._coordinates.rpartition(" ")
            if not space:
                complete, space, rest = self._coordinates.rpartition("\n")
            self._take_positions(complete)
            self._coordinates = rest[-_NAME_CHARACTERS:]

    def _take_positions(self, text: str) -> None:
        if self._is_track:
            self.positions.add_pairs([text.split()])
            return
        # Most elements have few positions. Many at once are read faster.
        self._tuples += text.split()
        if len(self._tuples) >= _POINTS_AT_ONCE:
            self.close()

    def close(self) -> None:
        """Read the last positions."""
        self.positions.add_tuples(self._tuples)
        self._tuples = []

    def too_many_layers(self) -> list[Finding]:
        """Return the finding for too many layers, as far as they are known."""
        count = sum(len(element.layers) + element.is_layer for element in self._open)
        return [_too_many(count)] if count > KML_LAYERS else []

    def findings(self) -> list[Finding]:
        """Return the findings of the whole document."""
        layers = self.layers
        if not layers:
            return [finding(rules.NO_LAYERS, "has neither a Document nor a Folder with features.")]
        if len(layers) > KML_LAYERS:
            return [_too_many(len(layers))]
        found = []
        counts: Counter[str] = Counter()
        duplicates: dict[str, int] = {}
        for name in filter(None, layers):
            counts[name] += 1
            if counts[name] > 1:
                duplicates[name] = counts[name]
        if duplicates:
            listed = " ".join(f"{name} ({count})" for name, count in duplicates.items())
            what = f"has several layers of the same name: {', '.join(map(repr, duplicates))}."
            found.append(finding(rules.DUPLICATE_LAYERS, what, names=listed))
        if not self.positions.count:
            found.append(finding(rules.KML_EMPTY, "has no feature with coordinates."))
        return found


def _left_stripped(line: str) -> str:
    """Return a line of a name as GDAL reads it: with the spaces at its end, so that they make another name."""
    return line.lstrip(" \t")


def _too_many(count: int) -> Finding:
    what = f"has {count:,} layers; Mapbox accepts {KML_LAYERS}."
    return finding(rules.TOO_MANY_LAYERS, what, count=count, maximum=KML_LAYERS)


class _GPX:
    """The elements of a GPX document."""

    started, ended = frozenset(_GPX_LAYERS), frozenset[str]()

    def __init__(self) -> None:
        self.positions = _Positions()
        self._counts = dict.fromkeys(_GPX_LAYERS, 0)
        self._points: list[Attributes] = []

    @property
    def features(self) -> int:
        """The number of waypoints, routes and tracks."""
        return sum(self._counts[name] for name in ("wpt", "rte", "trk"))

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, as GDAL calls them."""
        return tuple(layer for name, layer in _GPX_LAYERS.items() if self._counts[name])

    def start(self, name: str, attributes: Attributes, depth: int) -> None:
        """
        Begin an element.

        :param name: its name without a prefix.
        :param attributes: its attributes.
        :param depth: its depth; the root's is 1.
        """
        self._counts[name] += 1
        if attributes:
            self._points.append(attributes)
            if len(self._points) == _POINTS_AT_ONCE:
                self.close()

    def end(self, name: str, depth: int) -> None:
        """
        End an element.

        :param name: its name without a prefix.
        :param depth: its depth.
        """

    def close(self) -> None:
        """Read the positions of the last points."""
        points = [(point["lon"], point["lat"]) for point in self._points if "lon" in point and "lat" in point]
        self.positions.add_pairs(points)
        self._points.clear()

    def findings(self) -> list[Finding]:
        """Return the findings of the whole document."""
        if self.positions.count:
            return []
        return [finding(rules.GPX_EMPTY, "has no waypoint, route point or track point.")]
