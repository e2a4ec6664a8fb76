"""Find the layers of KML as Mapbox does, and make sure that GDAL reads only KML and GPX.

Mapbox lists the layers with GDAL's KML driver (mapbox/mapbox-upload-validate, lib/validators/kml.js). GDAL prefers its
LIBKML driver, which counts other folders, so the rules of the KML driver are restated here:

- An element counts if it contains a Point, LineString, Polygon or Multi… in elements that the driver knows.
- Each Folder, Document or kml is a layer if it directly holds a Placemark that counts. Inner layers come first.
- If nothing in the file counts, each Folder is a layer, and each Document or kml that directly holds any Placemark.
  A Folder that directly holds one hides the layers inside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

GEOMETRIES = frozenset({"Point", "LineString", "Polygon"})
COLLECTIONS = frozenset({"MultiGeometry", "MultiPoint", "MultiLineString", "MultiPolygon"})
CONTAINERS = frozenset({"kml", "Document", "Folder"})
RINGS = frozenset({"outerBoundaryIs", "innerBoundaryIs", "LinearRing"})
TEXTS = frozenset({"name", "coordinates", "altitudeMode", "description"})
KNOWN = GEOMETRIES | COLLECTIONS | CONTAINERS | RINGS | TEXTS | {"Placemark"}
KML_ROOTS = frozenset({"kml", "Document"})
MAX_DEPTH = 32
BLOCK = 1 << 20
LINE_BREAK = re.compile(r"[\r\n]")


class UnreadableError(Exception):
    """The file is not XML, has another root element, or is nested too deep."""


@dataclass(slots=True)
class _Element:
    """An open element, and what is known of its content.

    :param counts: whether it contains a geometry.
    :param has_feature: whether it directly holds a Placemark; ``has_counting_feature``: one that counts.
    :param layers: names of the layers inside it; ``empty_layers``: those in a file without any geometry.
    """

    name: str
    text: list[str] = field(default_factory=list)
    title: str | None = None
    counts: bool = False
    has_feature: bool = False
    has_counting_feature: bool = False
    layers: list[str] = field(default_factory=list)
    empty_layers: list[str] = field(default_factory=list)


def kml_layer_names(file: Path) -> list[str]:
    """Return the names of a KML file's layers; a layer without a name has an empty one.

    :raises UnreadableError: if GDAL could not open the file.
    """
    reader = _Reader()
    _parse(file, reader)
    root = reader.root
    if root is None or root.name not in KML_ROOTS:
        raise UnreadableError
    return root.layers if root.counts else root.empty_layers


def check_gpx_root(file: Path) -> None:
    """Raise UnreadableError if a file is not XML whose root element is gpx.

    In other XML formats GDAL would follow references to files.
    """
    reader = _Reader()
    _parse(file, reader)
    if reader.root is None or reader.root.name != "gpx":
        raise UnreadableError


def _parse(file: Path, reader: _Reader) -> None:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.add_text
    try:
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                parser.Parse(block, False)
        parser.Parse(b"", True)
    # ValueError and LookupError: an encoding that Python refuses or does not know.
    except (expat.ExpatError, ValueError, LookupError):
        raise UnreadableError from None


class _Reader:
    """Handlers of the XML parser."""

    def __init__(self) -> None:
        self.root: _Element | None = None
        self._open: list[_Element] = []
        # Elements inside a description are text for GDAL, like those that it does not know.
        self._ignored = 0

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        """Begin an element."""
        name = name.rpartition(":")[2]
        is_text = bool(self._open) and self._open[-1].name == "description"
        if self._ignored or is_text or (self._open and name not in KNOWN):
            self._ignored += 1
            return
        if len(self._open) > MAX_DEPTH:
            raise UnreadableError
        self._open.append(_Element(name, counts=name in GEOMETRIES or name in COLLECTIONS))

    def add_text(self, text: str) -> None:
        """Add characters to the innermost element."""
        if not self._ignored and self._open and self._open[-1].name == "name":
            self._open[-1].text.append(text)

    def end(self, _name: str) -> None:
        """End an element, and tell its parent what it contains."""
        if self._ignored:
            self._ignored -= 1
            return
        element = self._open.pop()
        if element.name in CONTAINERS:
            _add_layer(element)
        if not self._open:
            self.root = element
            return
        parent = self._open[-1]
        if element.name == "name" and parent.title is None:
            # GDAL keeps the spaces at the end of a line, so they make another name.
            lines = (line.lstrip(" \t") for line in LINE_BREAK.split("".join(element.text)))
            parent.title = " ".join(filter(None, lines))
        if element.name == "Placemark" or element.name in COLLECTIONS:
            parent.has_feature = True
            parent.has_counting_feature |= element.counts
        parent.counts |= element.counts and parent.name not in RINGS
        if parent.name in CONTAINERS:
            parent.layers += element.layers
            parent.empty_layers += element.empty_layers


def _add_layer(container: _Element) -> None:
    title = container.title or ""
    if container.has_counting_feature:
        container.layers.append(title)
    if container.name == "Folder" and container.has_feature:
        container.empty_layers.clear()
    if container.name == "Folder" or container.has_feature:
        container.empty_layers.append(title)
