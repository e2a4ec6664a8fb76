"""
Check the metadata of MBTiles by the rules of Mapbox's tilelive.

Mapbox reads the table as JavaScript does: numbers begin a string, and empty values count as missing ones. The functions
here do the same, because a value that passes there must pass here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from airflow_mapbox.limits import METADATA_BYTES
from airflow_mapbox.preflight.findings import Finding, finding
from airflow_mapbox.preflight.units import pretty_bytes
from airflow_mapbox.rules import mbtiles as rules

Info = dict[str, Any]

_MAX_ZOOM = 30
_USUAL_MAX_ZOOM = 22
# tilelive compares with 23 and says 30.
_MAX_CENTER_ZOOM = 23
_MAX_TEXTS = {
    "name": 255,
    "version": 255,
    "format": 255,
    "attribution": 2000,
    "description": 2000,
    "source": 2000,
    "legend": 8000,
    "template": 8000,
}
_MAX_LAYER_ID = 255
_MAX_NAMED = 5
_BOUNDS = (("west", 360), ("south", 95), ("east", 360), ("north", 95))
_CENTER = (("lon", 180), ("lat", 90))
# What tilelive adds for missing values.
_DEFAULTS: Info = {
    "name": "",
    "description": "",
    "version": "1.0.0",
    "scheme": "xyz",
    "minzoom": 0,
    "maxzoom": 30,
    "bounds": [-180, -85.05112877980659, 180, 85.05112877980659],
}
_INTEGER = re.compile(r"\s*([+-]?[0-9]+)")
_FLOAT = re.compile(r"\s*([+-]?(?:Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))")


def read_info(rows: Iterable[tuple[Any, Any]], findings: list[Finding]) -> Info:
    """
    Return the metadata in the form that Mapbox checks.

    :param rows: names and values of the table.
    :param findings: receives what is wrong with the form of a value.
    """
    info: Info = {"scheme": "tms"}
    for name, value in rows:
        if name == "json":
            _merge(info, value, findings)
        elif name in ("minzoom", "maxzoom"):
            info[name] = parse_int(value)
        elif name in ("center", "bounds"):
            # Mapbox splits a string at its commas; a number there ends its program.
            info[name] = [parse_float(part) for part in value.split(",")] if isinstance(value, str) else value
        else:
            info[str(name)] = value
    return info


def _merge(info: Info, value: Any, findings: list[Finding]) -> None:
    """Add the members of the row named json. A row of the table comes before a member of the same name."""
    try:
        members = json.loads(value if isinstance(value, str | bytes) else str(value), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        position = getattr(error, "pos", "…")
        findings.append(
            finding(
                rules.METADATA_JSON,
                f"has metadata whose json is not valid JSON (position {position}).",
                where="metadata.json",
                position=position,
            )
        )
        return
    if members is None:
        findings.append(finding(rules.METADATA_JSON, "has metadata whose json is null.", where="metadata.json"))
    elif isinstance(members, dict):
        for name, member in members.items():
            if not is_true(info.get(name)):
                info[name] = member


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(constant)


def with_defaults(info: Info) -> Info:
    """
    Return the metadata with tilelive's values for missing ones.

    :param info: the metadata.
    """
    return info | {name: value for name, value in _DEFAULTS.items() if info.get(name) is None}


def check_info(info: Info, file_name: str, size: int) -> Iterator[Finding]:
    """
    Check the metadata.

    :param info: the metadata, with tilelive's defaults.
    :param file_name: the file's name.
    :param size: the file's size in bytes.
    """
    if is_true(info.get("prepare")):
        yield finding(rules.PREPARE, "has metadata with a row named prepare.", where="metadata.prepare")
    if info.get("scheme") not in ("tms", "xyz"):
        yield finding(rules.SCHEME, f"has the scheme {_short(info['scheme'])}.", where="metadata.scheme")
    yield from _check_zooms(info)
    yield from _check_texts(info)
    yield from _check_center(info.get("center"))
    yield from _check_bounds(info["bounds"])
    yield from _check_layers(info.get("vector_layers"))
    yield from _check_together(info)
    yield from _check_size(info, file_name, size)


def _check_zooms(info: Info) -> Iterator[Finding]:
    for key in ("minzoom", "maxzoom"):
        zoom = info[key]
        if not _is_number(zoom) or not 0 <= zoom <= _MAX_ZOOM or math.floor(zoom) != zoom:
            yield finding(
                rules.ZOOM_VALUE,
                f"has the {key} {_short(zoom)}, which is not an integer from 0 to 30.",
                where=f"metadata.{key}",
                key=key,
            )
    if _is_number(info["minzoom"]) and _is_number(info["maxzoom"]) and info["minzoom"] > info["maxzoom"]:
        yield finding(
            rules.ZOOM_ORDER,
            f"has the minzoom {_js(info['minzoom'])} above the maxzoom {_js(info['maxzoom'])}.",
            where="metadata.minzoom",
        )


def _check_texts(info: Info) -> Iterator[Finding]:
    for key, limit in _MAX_TEXTS.items():
        value = info.get(key)
        if value is not None and (not isinstance(value, str) or _units(value) > limit):
            shown = f"{_units(value):,} characters" if isinstance(value, str) else _short(value)
            yield finding(
                rules.METADATA_TEXT,
                f"has metadata whose {key} is {shown}; it must be a string of at most {limit:,} characters.",
                where=f"metadata.{key}",
                key=key,
                limit=limit,
            )
    for key in ("tiles", "grids"):
        value = info.get(key)
        if value is not None and not (
            isinstance(value, list) and value and all(isinstance(element, str) for element in value)
        ):
            yield finding(
                rules.METADATA_URLS,
                f"has metadata whose {key} is {_short(value)}, not an array of URLs.",
                where=f"metadata.{key}",
                key=key,
            )


def _check_center(center: Any) -> Iterator[Finding]:
    if center is None:
        return
    numbers = _numbers(center, 3)
    if numbers is None:
        yield finding(
            rules.CENTER_FORM, f"has the center {_short(center)}, not three numbers.", where="metadata.center"
        )
        return
    for (part, limit), value in zip(_CENTER, numbers, strict=False):
        if abs(value) > limit:
            yield finding(
                rules.CENTER,
                f"has a center whose {part} is {_js(value)}, beyond ±{limit}.",
                where="metadata.center",
                part=part,
                minimum=-limit,
                maximum=limit,
            )
    if not 0 <= numbers[2] <= _MAX_CENTER_ZOOM or math.floor(numbers[2]) != numbers[2]:
        yield finding(rules.CENTER_ZOOM, f"has a center whose zoom is {_js(numbers[2])}.", where="metadata.center")


def _check_bounds(bounds: Any) -> Iterator[Finding]:
    numbers = _numbers(bounds, 4)
    if numbers is None:
        yield finding(rules.BOUNDS_FORM, f"has the bounds {_short(bounds)}, not four numbers.", where="metadata.bounds")
        return
    for (side, limit), value in zip(_BOUNDS, numbers, strict=True):
        if abs(value) > limit:
            yield finding(
                rules.BOUNDS,
                f"has bounds whose {side} is {_js(value)}, beyond ±{limit}.",
                where="metadata.bounds",
                side=side,
                minimum=-limit,
                maximum=limit,
            )
    for lower, upper, at in (("west", "east", 0), ("south", "north", 1)):
        if numbers[at] > numbers[at + 2]:
            yield finding(
                rules.BOUNDS_ORDER,
                f"has bounds whose {lower} {_js(numbers[at])} is above {upper} {_js(numbers[at + 2])}.",
                where="metadata.bounds",
                lower=lower,
                upper=upper,
            )


def _check_layers(layers: Any) -> Iterator[Finding]:
    if layers is None:
        return
    if not isinstance(layers, list) or not layers:
        yield finding(
            rules.VECTOR_LAYERS,
            f"has metadata whose vector_layers are {_short(layers)}, not an array of layers.",
            where="metadata.vector_layers",
        )
        return
    named = 0
    for index, layer in enumerate(layers):
        # JavaScript counts an array as an object, and null as one until its id is read.
        if not isinstance(layer, dict | list) and named < _MAX_NAMED:
            named += 1
            yield finding(
                rules.LAYER,
                f"has metadata whose vector_layers[{index}] is {_short(layer)}, not a layer.",
                where=f"metadata.vector_layers[{index}]",
                index=index,
            )
            continue
        identifier = layer.get("id") if isinstance(layer, dict) else None
        if (not isinstance(identifier, str) or _units(identifier) > _MAX_LAYER_ID) and named < _MAX_NAMED:
            named += 1
            yield finding(
                rules.LAYER_ID,
                f"has metadata whose vector_layers[{index}] has the id {_short(identifier)}.",
                where=f"metadata.vector_layers[{index}].id",
                index=index,
            )


def _check_together(info: Info) -> Iterator[Finding]:
    center, bounds = _numbers(info.get("center"), 3), _numbers(info["bounds"], 4)
    if center is None:
        return
    if bounds is not None:
        for part, at in (("lon", 0), ("lat", 1)):
            if not bounds[at] <= center[at] <= bounds[at + 2]:
                yield finding(
                    rules.CENTER_BOUNDS,
                    f"has a center whose {part} {_js(center[at])} is outside the bounds {_js(bounds[at])} to "
                    f"{_js(bounds[at + 2])}.",
                    where="metadata.center",
                    part=part,
                    minimum=_js(bounds[at]),
                    maximum=_js(bounds[at + 2]),
                )
    if _is_number(info["minzoom"]) and _is_number(info["maxzoom"]) and info["minzoom"] > info["maxzoom"]:
        return  # no zoom is between them
    for bound, relation, sign in (("minzoom", "greater", 1), ("maxzoom", "less", -1)):
        zoom = info[bound]
        if _is_number(zoom) and sign * center[2] < sign * zoom:
            yield finding(
                rules.CENTER_ZOOMS,
                f"has a center whose zoom {_js(center[2])} is not {relation} than or equal to the {bound} {_js(zoom)}.",
                where="metadata.center",
                relation=relation,
                bound=bound,
                zoom=_js(zoom),
            )


def _check_size(info: Info, file_name: str, size: int) -> Iterator[Finding]:
    counted = {"basename": file_name, "id": file_name.rpartition(".")[0], "filesize": size}
    counted |= {name: value for name, value in info.items() if name != "tilestats"}
    try:
        length = _units(json.dumps(counted, ensure_ascii=False, separators=(",", ":"), default=str))
    except (ValueError, RecursionError):
        return
    if length > METADATA_BYTES:
        yield finding(
            rules.METADATA_SIZE,
            f"has {length:,} characters of metadata without tilestats; Mapbox's limit is {METADATA_BYTES:,}.",
            where="metadata",
            size=pretty_bytes(length),
            limit=pretty_bytes(METADATA_BYTES),
        )


def check_high_zoom(maxzoom: object) -> Iterator[Finding]:
    """
    Warn of a maxzoom that no map of Mapbox shows.

    :param maxzoom: the maxzoom.
    """
    if _is_number(maxzoom) and _USUAL_MAX_ZOOM < maxzoom <= _MAX_ZOOM:  # type: ignore[operator]
        yield finding(
            rules.HIGH_ZOOM,
            f"has the maxzoom {_js(maxzoom)}; Mapbox's maps have zooms up to 22.",
            where="metadata.maxzoom",
        )


def layer_ids(info: Info) -> list[str]:
    """
    Return the ids of the vector layers, those that are strings.

    :param info: the metadata.
    """
    layers = info.get("vector_layers")
    candidates = [layer.get("id") for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    return [identifier for identifier in candidates if isinstance(identifier, str)]


def bounds_of(info: Info) -> tuple[float, float, float, float] | None:
    """
    Return the bounds in degrees, if they are in order.

    :param info: the metadata.
    """
    numbers = _numbers(info.get("bounds"), 4)
    if numbers is None or numbers[0] > numbers[2] or numbers[1] > numbers[3]:
        return None
    west, south, east, north = numbers
    return west, south, east, north


def parse_int(value: object) -> float:
    """
    Return the integer at a value's beginning, as JavaScript's ``parseInt`` does; NaN if there is no digit.

    :param value: a string, a number or None.
    """
    match = _INTEGER.match(_text(value))
    # A float has more than enough range, and int() refuses strings of thousands of digits.
    return math.nan if match is None else _whole(float(match[1]))


def parse_float(value: object) -> float:
    """
    Return the number at a value's beginning, as JavaScript's ``parseFloat`` does; NaN if there is no number.

    :param value: a string, a number or None.
    """
    match = _FLOAT.match(_text(value))
    return math.nan if match is None else _whole(float(match[1].replace("Infinity", "inf")))


def is_true(value: object) -> bool:
    """
    Return whether JavaScript counts a value as true. Empty arrays and objects count, NaN does not.

    :param value: a value of JSON.
    """
    if isinstance(value, list | dict | bytes):
        return True
    return bool(value) and value == value


def _text(value: object) -> str:
    return value if isinstance(value, str) else _js(value) if isinstance(value, int | float) else ""


def _whole(value: float) -> float:
    return int(value) if math.isfinite(value) and value == math.floor(value) and abs(value) < 1e15 else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(value: object, length: int) -> list[float] | None:
    """Return so many finite numbers, or None. A string that begins with a number counts."""
    if not isinstance(value, list) or len(value) != length:
        return None
    numbers = [parse_float(element) if not isinstance(element, bool) else math.nan for element in value]
    return numbers if all(map(math.isfinite, numbers)) else None


def _units(text: str) -> int:
    """Return the length as JavaScript counts it: in units of UTF-16."""
    return len(text) + sum(character > "\uffff" for character in text)


def _js(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
