"""What a tileset is expected to be, as a DAG author writes it down or as the source's report has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from airflow_mapbox.errors import OptionError
from airflow_mapbox.limits import WEB_MERCATOR_LATITUDE

Bounds = tuple[float, float, float, float]
_MAX_ZOOM = 30
_MAX_SAMPLE = 1000


@dataclass(frozen=True)
class Expected:
    """
    What a published tileset is expected to be. What is None or empty is not compared.

    :param layers: names of layers that must be there. Others may be there too.
    :param fields: attributes that must be there: names, which any layer may have, or names by layer.
    :param minzoom: the lowest zoom, exactly.
    :param maxzoom: the highest zoom, exactly.
    :param bounds_within: west, south, east, north in degrees: the tileset must lie within.
    :param min_features: number of features that its highest zoom must have. It needs a sample.
    :param sample: number of tiles to read and decode; 0 for none.
    :param source: what the source of the upload has.

    Example::

        Expected.from_json({"layers": ["parcels"], "fields": ["owner"], "maxzoom": 14, "sample": 16})
    """

    layers: tuple[str, ...] = ()
    fields: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)
    minzoom: int | None = None
    maxzoom: int | None = None
    bounds_within: Bounds | None = None
    min_features: int | None = None
    sample: int = 0
    source: SourceFacts = field(default_factory=lambda: SourceFacts())

    @classmethod
    def from_json(cls, expected: Mapping[str, Any], source: Mapping[str, Any] | None = None) -> Expected:
        """
        Read what is expected.

        :param expected: JSON with the names of the parameters above but ``source``, all optional.
        :param source: facts about the source of the upload, as the operator returns them.
        :raises OptionError: for an unknown name, or a value that cannot be.
        """
        unknown = sorted(set(expected) - _READERS.keys())
        if unknown:
            raise OptionError(f"verify has {unknown[0]!r}, which is unknown. Its keys are {', '.join(_READERS)}.")
        values = {name: _READERS[name](value, name) for name, value in expected.items() if value is not None}
        read = cls(**values, source=SourceFacts.from_json(source or {}))
        if read.min_features and not read.sample:
            raise OptionError("verify needs 'sample' for 'min_features': features are counted in tiles that are read.")
        return read


@dataclass(frozen=True)
class SourceFacts:
    """
    What is known about the source of an upload. What is None or empty is unknown.

    A right tileset must never differ from it. So it has nothing that Mapbox may change when it makes the tiles.

    :param bounds: west, south, east, north in degrees.
    :param fields: attributes that most features have.
    :param layers: the layers of MBTiles.
    :param features: number of features. The tiles may have fewer: small ones may be merged.
    :param notes: what cannot be compared, and why, in whole sentences.
    """

    bounds: Bounds | None = None
    fields: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    features: int | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> SourceFacts:
        """
        Read facts. What cannot be read is unknown.

        :param facts: JSON, as the operator returns it under ``source``.
        """
        values: dict[str, Any] = {}
        for name, read in _FACT_READERS.items():
            if facts.get(name) is not None:
                with suppress(OptionError):
                    values[name] = read(facts[name], name)
        bounds = values.get("bounds")
        if facts.get("bounds") is not None and (bounds is None or max(-bounds[1], bounds[3]) > WEB_MERCATOR_LATITUDE):
            values["bounds"] = None
            values["notes"] = ("The bounds were not compared: the source reaches beyond the map.",)
        return cls(**values)


def _names(value: object, name: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) and item for item in items):
        raise OptionError(f"verify has {name}={value!r}, which is not a list of names.")
    return tuple(items)


def _fields(value: object, name: str) -> dict[str | None, tuple[str, ...]]:
    if isinstance(value, Mapping):
        return {str(layer): _names(names, f"{name} of layer {layer}") for layer, names in value.items()}
    return {None: _names(value, name)}


def _whole_number(low: int, high: int | None = None) -> Any:
    def read(value: object, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
            span = f"from {low}" if high is None else f"from {low} to {high}"
            raise OptionError(f"verify has {name}={value!r}, which is not a whole number {span}.")
        return value

    return read


def _bounds(value: object, name: str) -> Bounds:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 4:
        west, south, east, north = value
        numbers = all(isinstance(side, int | float) and not isinstance(side, bool) for side in value)
        if numbers and -180 <= west <= east <= 180 and -90 <= south <= north <= 90:
            return float(west), float(south), float(east), float(north)
    raise OptionError(f"verify has {name}={value!r}, which is not west, south, east, north in degrees.")


_READERS = {
    "layers": _names,
    "fields": _fields,
    "minzoom": _whole_number(0, _MAX_ZOOM),
    "maxzoom": _whole_number(0, _MAX_ZOOM),
    "bounds_within": _bounds,
    "min_features": _whole_number(1),
    "sample": _whole_number(0, _MAX_SAMPLE),
}
_FACT_READERS = {"bounds": _bounds, "fields": _names, "layers": _names, "features": _whole_number(0)}
