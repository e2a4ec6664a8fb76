"""
The options of the export: name, type, default and help of each, and the checks of their values.

This is their one definition. The command line is made from it, and tests/unit/export/test_options.py holds the public
functions, the operator and the documentation to it. It is imported when a DAG is parsed, so it imports nothing heavy.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from os import PathLike
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypedDict, get_args, get_type_hints

from airflow_mapbox.errors import OptionError
from airflow_mapbox.export.errors import AttributeNameError
from airflow_mapbox.export.geometry.options import GeometryOptions
from airflow_mapbox.limits import GEOJSON_BYTES

ExportFormat: TypeAlias = Literal["geojson", "mbtiles", "auto"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
Tier: TypeAlias = Literal["free", "10m", "1m", "30cm", "1cm"]

_MAX_DECIMALS = 15  # a 64-bit float has no more significant digits


class _About(NamedTuple):
    """The default of an option, and what it does in a few words, as the command line shows them."""

    default: Any
    help: str


class GeoJSONKeywords(TypedDict, total=False):
    """
    The options of :func:`~airflow_mapbox.export.stream_geojson`, which all functions of the export take.

    If a type has several members, the command line reads the first.
    """

    crs: Annotated[object, _About(None, "reference system of data that declares none, such as EPSG:25832")]
    decimals: Annotated[int, _About(7, "decimals of each coordinate; 7 is about a centimetre")]
    z: Annotated[Literal["keep", "drop"], _About("keep", "keep or drop heights")]
    on_invalid: Annotated[
        Literal["fix", "drop", "error"], _About("fix", "repair or drop invalid polygons, or raise an error")
    ]
    beyond_mercator: Annotated[
        Literal["clip", "error"], _About("clip", "clip geometries at ±85.0511 degrees of latitude, or raise an error")
    ]
    antimeridian: Annotated[
        Literal["cut", "keep"], _About("cut", "cut geometries that cross ±180 degrees of longitude, or keep them")
    ]
    max_segment: Annotated[
        float | None, _About(None, "in a projected system, add vertices to edges longer than this many metres")
    ]
    accuracy_warning: Annotated[float, _About(5.0, "warn if the transformation is less accurate than this many metres")]
    write_bbox: Annotated[bool, _About(False, "write a bbox member for the collection and each feature")]
    as_text: Annotated[Collection[str], _About((), "columns of numbers to write as strings")]
    layer: Annotated[str | int | None, _About(None, "layer of a file that has several")]
    where: Annotated[str | None, _About(None, "condition on attributes, in OGR's SQL")]
    columns: Annotated[Sequence[str] | None, _About(None, "attributes to write; by default all")]
    bbox: Annotated[
        tuple[float, float, float, float] | Sequence[float] | None,
        _About(None, "read only features in this box: west, south, east, north in the source's own reference system"),
    ]
    x: Annotated[str | None, _About(None, "column of longitudes or eastings, for CSV")]
    y: Annotated[str | None, _About(None, "column of latitudes or northings, for CSV")]
    id_attribute: Annotated[str | None, _About(None, "attribute that receives the ids of GeoJSON features")]
    batch_rows: Annotated[int | None, _About(None, "maximum features in a batch")]
    threads: Annotated[
        int | None, _About(None, "threads that encode features; by default one for each usable core, at most 16")
    ]
    limit_bytes: Annotated[
        int | None, _About(GEOJSON_BYTES, "maximum bytes of GeoJSON; the format mbtiles has no limit unless it is set")
    ]


class TileKeywords(TypedDict, total=False):
    """The further options of :func:`~airflow_mapbox.export.write_mbtiles` and ``write_auto``."""

    name: Annotated[str | None, _About(None, "name of the layer in vector tiles; by default the tileset's")]
    minzoom: Annotated[int, _About(0, "lowest zoom of vector tiles")]
    maxzoom: Annotated[int | None, _About(None, "highest zoom of vector tiles")]
    tier: Annotated[Tier | None, _About(None, "price tier whose highest zoom is the maxzoom")]
    temporary_directory: Annotated[
        str | PathLike[str] | None, _About(None, "existing folder for temporary files of vector tiles")
    ]


# If write_mbtiles has another default. Tiles have no limit on the GeoJSON that they are made from.
MBTILES_LIMIT_BYTES: int | None = None


@dataclass(frozen=True)
class ExportOption:
    """
    One option of the export.

    :param name: the keyword.
    :param type: the type of its values.
    :param default: its default.
    :param help: what it does, in a few words.
    :param for_tiles: whether only write_mbtiles and write_auto take it.
    """

    name: str
    type: Any
    default: Any
    help: str
    for_tiles: bool

    @property
    def choices(self) -> tuple[Any, ...]:
        """The members of the type, such as all values of a Literal."""
        return get_args(self.type)


def _options(keywords: type, *, for_tiles: bool) -> dict[str, ExportOption]:
    options = {}
    for name, hint in get_type_hints(keywords, include_extras=True).items():
        kind, about = get_args(hint)
        options[name] = ExportOption(name, kind, about.default, about.help, for_tiles)
    return options


OPTIONS: Mapping[str, ExportOption] = {
    **_options(GeoJSONKeywords, for_tiles=False),
    **_options(TileKeywords, for_tiles=True),
}


def check_format(format: str | None, options: Mapping[str, Any] | None) -> None:
    """
    Check the format and the names of options, before anything is read.

    :param format: one of :data:`FORMATS`, or None to send the source as it is.
    :param options: options of the export.
    :raises ValueError: for an unknown format, an option that the format does not take, or options without a format.
    """
    if options is not None and not isinstance(options, Mapping):
        raise OptionError(
            f"export must be a mapping of keywords, got {options!r}. In a task, each value in it can be templated; a "
            "template for the whole mapping needs render_template_as_native_obj=True on the DAG."
        )
    if format is not None and format not in FORMATS:
        raise OptionError(
            f"format must be one of {', '.join(FORMATS)}, or None to send the source as it is; got {format!r}"
        )
    if format is None and options:
        choices = " or ".join(f'format="{choice}"' for choice in FORMATS)
        raise OptionError(f"export={dict(options)!r} has no effect without {choices}.")
    names = [option.name for option in OPTIONS.values() if format != "geojson" or not option.for_tiles]
    for name in options or ():
        if name not in names:
            similar = difflib.get_close_matches(name, names, n=1)
            advice = f"did you mean {similar[0]!r}?" if similar else f"its options are {', '.join(names)}."
            if name in OPTIONS:
                advice = "it is for vector tiles: choose mbtiles or auto."
            raise OptionError(f"export has {name!r}, which format {format!r} does not take: {advice}")


def check_counts(*, batch_rows: int | None, threads: int | None, limit_bytes: int | None) -> None:
    """
    Check options that are integers from 1, or None.

    :param batch_rows: maximum features in a batch.
    :param threads: number of threads that write features.
    :param limit_bytes: maximum bytes of GeoJSON.
    :raises ValueError: if one is neither.
    """
    for name, value, meaning in (
        ("batch_rows", batch_rows, "batches of two megabytes"),
        ("threads", threads, "one thread for each core"),
        ("limit_bytes", limit_bytes, "no limit"),
    ):
        if value is not None and not (is_integer(value) and value >= 1):
            raise OptionError(f"{name}={value!r} is not an integer from 1, or None for {meaning}.")


_DEFAULT_GEOMETRY = GeometryOptions(*(OPTIONS[field.name].default for field in fields(GeometryOptions)))


@dataclass(frozen=True)
class Options:
    """
    The options for writing features, checked.

    :param geometry: what to do with geometries.
    :param accuracy_warning: metres; warn of a transformation that is less accurate.
    :param write_bbox: write a ``bbox`` member for the collection and each feature (RFC 7946, section 5).
    :param as_text: columns of numbers to write as strings, such as ids beyond 2^53.
    :raises ValueError: for a value that an option does not have.
    :raises TypeError: if ``as_text`` is not a list of names.
    """

    geometry: GeometryOptions = _DEFAULT_GEOMETRY
    accuracy_warning: float = OPTIONS["accuracy_warning"].default
    write_bbox: bool = OPTIONS["write_bbox"].default
    as_text: Collection[str] = OPTIONS["as_text"].default

    def __post_init__(self) -> None:
        for name in ("z", "on_invalid", "beyond_mercator", "antimeridian"):
            value, choices = getattr(self.geometry, name), OPTIONS[name].choices
            if not (isinstance(value, str) and value in choices):
                raise OptionError(f"{name}={value!r} is not {' or '.join(map(repr, choices))}.")
        decimals, max_segment = self.geometry.decimals, self.geometry.max_segment
        if not (is_integer(decimals) and 0 <= decimals <= _MAX_DECIMALS):
            raise OptionError(f"decimals={decimals!r} is not an integer from 0 to {_MAX_DECIMALS}.")
        if max_segment is not None and not (is_number(max_segment) and max_segment > 0):
            raise OptionError(f"max_segment={max_segment!r} is not a length in metres.")
        if not (is_number(self.accuracy_warning) and self.accuracy_warning >= 0):
            raise OptionError(f"accuracy_warning={self.accuracy_warning!r} is not a distance in metres.")
        if self.write_bbox not in (True, False):
            raise OptionError(f"write_bbox={self.write_bbox!r} is not True or False.")
        object.__setattr__(self, "as_text", column_names("as_text", self.as_text))


# The source for which an option is, if it cannot be used with another.
_INTENDED_SOURCE = {"x": "it is for CSV", "y": "it is for CSV", "id_attribute": "it is for GeoJSON"}


@dataclass(frozen=True)
class Selection:
    """
    The options that select a part of the source, checked.

    :param layer: the layer of a file with several layers, by name or by number from 0.
    :param where: a condition on attributes, in OGR's SQL.
    :param columns: attributes by name, or None for all.
    :param bbox: west, south, east, north in the source's own reference system.
    :param x: the column of longitudes or eastings, for CSV.
    :param y: the column of latitudes or northings, for CSV.
    :param id_attribute: the attribute that receives the ids of features, for GeoJSON.
    :raises ValueError: for a value that an option does not have.
    :raises TypeError: if ``columns`` is not a list of names.
    """

    layer: str | int | None = None
    where: str | None = None
    columns: Sequence[str] | None = None
    bbox: Sequence[float] | None = None
    x: str | None = None
    y: str | None = None
    id_attribute: str | None = None

    def __post_init__(self) -> None:
        if self.columns is not None:
            # An iterator would be exhausted after the check.
            object.__setattr__(self, "columns", column_names("columns", self.columns))
        if self.bbox is not None:
            object.__setattr__(self, "bbox", _box(self.bbox))
        if self.id_attribute is not None and not (self.where is None and self.bbox is None):
            raise OptionError("id_attribute= cannot be used with where= or bbox=: filter the data first.")
        for name in ("where", "x", "y", "id_attribute"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise OptionError(f"{name}={value!r} is not a string.")
        if is_integer(self.layer):
            object.__setattr__(self, "layer", int(self.layer))  # type: ignore[arg-type]
        elif not (self.layer is None or isinstance(self.layer, str)):
            raise OptionError(f"layer={self.layer!r} is not the name of a layer, or its number from 0.")

    def allow_only(self, *names: str, source: str) -> None:
        """
        Refuse options that a kind of source does not support, instead of ignoring them silently.

        :param names: options that it supports.
        :param source: the kind of source, for the message.
        :raises ValueError: if another option is set.
        """
        for field in fields(self):
            if getattr(self, field.name) is not None and field.name not in names:
                advice = _INTENDED_SOURCE.get(field.name, "filter the data first")
                raise OptionError(f"{field.name}= cannot be used with {source}: {advice}.")

    def filter_text(self) -> str:
        """Return the options that filter features, for a message; empty if there are none."""
        where = [] if self.where is None else [f"where={self.where!r}"]
        bbox = [] if self.bbox is None else [f"bbox={self.bbox!r}, which is in the source's own reference system"]
        return " and ".join(where + bbox)

    def choose_columns(self, names: Iterable[str]) -> list[str]:
        """
        Return the columns to read, in the source's order.

        :param names: the source's attributes.
        :raises AttributeNameError: if a chosen column does not exist.
        """
        available = list(names)
        if self.columns is None:
            return available
        wanted = set(self.columns)
        missing = sorted(wanted - set(available))
        if missing:
            raise AttributeNameError(
                f"There is no column called {', '.join(missing)}.\n"
                f"The source has {', '.join(available) or 'no columns'}."
            )
        return [name for name in available if name in wanted]


def _box(value: Any) -> tuple[float, float, float, float]:
    """Read a box from anything that holds four numbers, such as a list from an XCom or a frame's ``total_bounds``."""
    sides = () if isinstance(value, str | bytes) or not isinstance(value, Iterable) else tuple(value)
    if len(sides) != 4 or not all(map(is_number, sides)):
        raise OptionError(f"bbox={value!r} is not four numbers: west, south, east, north.")
    west, south, east, north = map(float, sides)
    if not (west <= east and south <= north):
        raise OptionError(f"bbox={value!r} is not in the order west, south, east, north, with the smaller side first.")
    return west, south, east, north


def is_integer(value: object) -> bool:
    """Return whether a value is an integer of Python or numpy, but not True or False."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a value is a finite number of Python or numpy."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def column_names(option: str, value: object) -> tuple[str, ...]:
    """
    Read column names from anything that holds several.

    :param option: the option's name, for the message.
    :param value: such as a list, a set or an index of pandas.
    :raises TypeError: if it is not a collection of strings.
    """
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        names = tuple(value)
        if all(isinstance(name, str) for name in names):
            return names
    raise TypeError(f"{option}={value!r} is not a list of column names.")
