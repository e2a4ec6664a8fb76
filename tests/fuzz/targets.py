"""One function for each parser: it takes any bytes, and raises AssertionError if the parser breaks a promise."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from xml.parsers import expat

import orjson
from mapbox_vector_tile.Mapbox import vector_tile_pb2

from airflow_mapbox.preflight import formats
from airflow_mapbox.preflight.crs import check_crs
from airflow_mapbox.preflight.features import Features
from airflow_mapbox.preflight.findings import Content, Finding
from airflow_mapbox.preflight.foreign import foreign_format
from airflow_mapbox.preflight.jsonprefix import BrokenJSONError, EndOfPart, JSONPart
from airflow_mapbox.preflight.mbtiles import check_mbtiles_header, tile_type
from airflow_mapbox.preflight.mbtiles_metadata import check_info, read_info, with_defaults
from airflow_mapbox.preflight.passing import passing_check
from airflow_mapbox.preflight.shapefile import check_archive
from airflow_mapbox.preflight.sniff import columns_of, is_json, mistaken_for, separator_of, sniff
from airflow_mapbox.preflight.tiff import check_tiff
from airflow_mapbox.preflight.vectortile import TileError, layers_of
from airflow_mapbox.rules import files as file_rules
from airflow_mapbox.rules import geojson as geojson_rules
from airflow_mapbox.rules import xml as xml_rules
from airflow_mapbox.rules.table import RULES
from tests.unit.preflight import binaries, support

Target = Callable[[bytes], None]
_NOT_JSON = (geojson_rules.NOT_JSON, geojson_rules.LINES, file_rules.NOT_TEXT)


def _parted(kind: formats.Format, data: bytes, part: int) -> tuple[list[Finding], Content]:
    content = Content()
    check = passing_check(kind, content)
    assert check is not None
    for start in range(0, len(data), part):
        check.feed(data[start : start + part])
    return check.close(), content


def _same_for_any_parts(kind: formats.Format, data: bytes) -> tuple[list[Finding], Content]:
    """Return the findings, which must be the same in one part and in many. The first byte is the size of the parts."""
    part, data = 1 + (data[0] if data else 0), data[1:]
    whole, split = _parted(kind, data, max(1, len(data))), _parted(kind, data, part)
    assert _rules(whole[0]) == _rules(split[0]), (whole[0], split[0])
    assert whole[1].features == split[1].features
    assert _equal(whole[1].bounds, split[1].bounds), (whole[1].bounds, split[1].bounds)
    return whole


def _rules(findings: list[Finding]) -> list[str]:
    return sorted(found.name for found in findings)


def _equal(first: Any, second: Any) -> bool:
    return bool(first == second)


def fuzz_sniff(data: bytes) -> None:
    """Return one of the formats, and the same for the 512 bytes that Mapbox reads."""
    found = sniff(data)
    assert found is None or found in formats.FORMATS
    assert sniff(data[:512]) == found
    assert is_json(data) or mistaken_for(data) is None or found is not formats.GEOJSON
    foreign_format(data)
    columns = columns_of(data)
    assert all(name == name.lower() and '"' not in name for name in columns)
    separator_of(data.decode("utf-8", "replace"))


def fuzz_geojson(data: bytes) -> None:
    """Agree with orjson on what is JSON, and with the slow check of each feature."""
    findings, content = _same_for_any_parts(formats.GEOJSON, data)
    data = data[1:].removeprefix(b"\xef\xbb\xbf")
    refused = any(found.rule in _NOT_JSON for found in findings)
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return  # Mapbox's parser takes more than orjson: halves of characters, numbers that overflow
    assert not refused or isinstance(document, list | str | int | float | None), findings
    if not isinstance(document, dict) or document.get("type") != "FeatureCollection" or "features" not in document:
        return
    if not isinstance(document["features"], list) or data.count(b'"features"') > 1 or b"\\" in data:
        return
    expected = Features()
    problem = next(filter(None, [expected.add(feature) for feature in document["features"]]), None)
    found = next((one for one in findings if one.rule is geojson_rules.FEATURE), None)
    assert (problem is None) == (found is None), (problem, found)
    assert content.features in (None, expected.count)
    if content.features is not None and expected.positions:
        assert content.bounds == expected.bounds


def fuzz_jsonprefix(data: bytes) -> None:
    """Read a whole document as the standard library does; a part of it as a part, unless it is broken."""
    text = data.decode("utf-8", "replace")
    part = JSONPart(text)
    try:
        value = part.value()
    except (EndOfPart, BrokenJSONError):
        assert not _is_json(text), text
        return
    if part.is_at_end:
        assert repr(json.loads(text.lstrip(" \t\r\n"))) == repr(value)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def fuzz_csvrows(data: bytes) -> None:
    """Count the rows that the standard library reads from the whole text."""
    findings, content = _same_for_any_parts(formats.CSV, b"\x30" + b"lon,lat,a\n" + data)
    if content.features is None:
        return
    text = data.decode("utf-8", "replace")
    reader = csv.reader(io.StringIO("lon,lat,a\n" + text, newline=""))
    rows = [row for row in list(reader)[1:] if any(cell.strip() for cell in row)]
    assert content.features == len(rows), (content.features, len(rows))
    pairs = [pair for row in rows if len(row) > 1 and (pair := _numbers(row)) is not None]
    if pairs:
        xs, ys = zip(*pairs, strict=True)
        assert content.bounds == (min(xs), min(ys), max(xs), max(ys)), (content.bounds, pairs)
    assert any("wide" in name for name in _rules(findings)) == any(len(row) > 3 for row in rows)


def _numbers(row: list[str]) -> tuple[float, float] | None:
    try:
        x, y = float(row[0]), float(row[1])
    except ValueError:
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) and "_" not in row[0] + row[1] else None


def _fuzz_xml(kind: formats.Format, data: bytes) -> None:
    findings, _ = _same_for_any_parts(kind, data)
    parser = expat.ParserCreate()
    try:
        parser.Parse(data[1:], True)
    except (expat.ExpatError, ValueError):
        return
    assert xml_rules.NOT_XML not in [found.rule for found in findings], findings


def fuzz_kml(data: bytes) -> None:
    """Refuse as XML only what expat refuses."""
    _fuzz_xml(formats.KML, data)


def fuzz_gpx(data: bytes) -> None:
    """Refuse as XML only what expat refuses."""
    _fuzz_xml(formats.GPX, data)


def fuzz_crs(data: bytes) -> None:
    """Take any JSON."""
    with suppress(ValueError, RecursionError):
        check_crs(json.loads(data))
    check_crs({"type": "name", "properties": {"name": data.decode("utf-8", "replace")}})


def fuzz_tiff(data: bytes) -> None:
    """Read no more than the file has, in few requests."""
    memory = binaries.Memory(data)
    content = Content()
    list(check_tiff(memory, content))
    assert memory.requests < 50
    assert content.bounds is None or all(map(math.isfinite, content.bounds))


def fuzz_shapefile(data: bytes) -> None:
    """Take any archive, and any content of the four files in one. The first byte chooses the changed file."""
    list(check_archive(binaries.Memory(data), Content(), whole=True))
    names = list(support.ROADS)
    changed = support.ROADS | {names[data[0] % len(names)]: data[1:]} if data else support.ROADS
    archive = binaries.zip_of(changed.items(), zipfile.ZIP_STORED)
    content = Content()
    list(check_archive(binaries.Memory(archive), content, whole=True))
    assert content.bounds is None or all(map(math.isfinite, content.bounds))


def fuzz_mbtiles_metadata(data: bytes) -> None:
    """Take any rows: pairs of strings, one a line."""
    lines = data.decode("utf-8", "replace").split("\n")
    rows: list[tuple[Any, Any]] = [(name, value) for name, _, value in (line.partition("=") for line in lines)]
    rows.append(("json", lines[-1]))
    findings: list[Finding] = []
    info = read_info(rows, findings)
    list(check_info(with_defaults(info), "a.mbtiles", 1))
    list(check_mbtiles_header(data, len(data)))


def fuzz_vectortile(data: bytes) -> None:
    """Read the layers that protobuf reads."""
    tile_type(data)
    try:
        layers = layers_of(data)
    except TileError:
        return
    parsed = vector_tile_pb2.tile()
    try:
        parsed.ParseFromString(data)
    except Exception:
        return
    assert [layer.features for layer in layers] == [len(layer.features) for layer in parsed.layers]


def fuzz_rules(data: bytes) -> None:
    """Recognise any message in bounded time."""
    text = data.decode("utf-8", "replace")
    for rule in RULES:
        rule.matches(text)


TARGETS: dict[str, Target] = {
    name.removeprefix("fuzz_"): target for name, target in list(globals().items()) if name.startswith("fuzz_")
}
SEEDS: dict[str, list[bytes]] = {
    "sniff": [support.CSV, support.KML, support.GPX, support.TIFF, support.as_bytes(support.POINT)],
    "geojson": [b"\x07" + support.as_bytes(support.collection(support.POINT, support.POINT))],
    "jsonprefix": [support.as_bytes(support.POINT), b"[1.5e3,null,true]"],
    "csvrows": [b'1,2,a\n3.5,4,"b\n,c"\n', b"1,2\r\n3,4,5,6\r\n"],
    "kml": [b"\x07" + support.KML],
    "gpx": [b"\x07" + support.GPX],
    "crs": [b'{"type":"name","properties":{"name":"urn:ogc:def:crs:OGC:1.3:CRS84"}}', b"EPSG:3857"],
    "tiff": [binaries.tiff(), binaries.tiff(big=True), binaries.tiff(order=">")],
    "shapefile": [support.ZIP, b"\x00" + support.SHP],
    "mbtiles_metadata": [
        "\n".join(f"{name}={value}" for name, value in binaries.METADATA.items()).encode(),
        support.MBTILES[:200],
    ],
    "vectortile": [binaries.layer(binaries.POINT_FEATURE)],
    "rules": [b"File was empty", b"Invalid geometry"],
}
