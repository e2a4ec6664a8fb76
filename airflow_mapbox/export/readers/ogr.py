"""Read all formats of GDAL (GeoPackage, shapefile, FlatGeobuf, GeoJSON, KML, GPX, CSV and more) as Arrow batches."""

from __future__ import annotations

import json
import mmap
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from pyproj import CRS

from airflow_mapbox.errors import ExportError, OptionError
from airflow_mapbox.export.errors import AttributeNameError, AttributeValueError, UnreadableSourceError
from airflow_mapbox.export.geometry.decode import has_curves, to_storage
from airflow_mapbox.export.options import Selection
from airflow_mapbox.export.readers.batch import Batch
from airflow_mapbox.export.readers.csv_columns import (
    SUFFIXES,
    null_if_empty,
    numbers_as_strings,
    open_options,
    unreadable_coordinates,
)
from airflow_mapbox.export.readers.gdal_path import GdalPath, gdal_path
from airflow_mapbox.export.readers.geojson_text import (
    Ids,
    geometry_excerpts,
    has_member_ids,
    named_crs,
    write_collection,
)
from airflow_mapbox.export.text.attributes import columns_by_name, has_large_integers
from airflow_mapbox.sources.files import SourceFile

_BATCH_BYTES = 8 << 20
_DEFAULT_ROWS = 8_000  # if the size of a feature is unknown
_MAX_ROWS = 65_536

_GEOJSON = ("GeoJSON", "GeoJSONSeq")
_GEOJSON_DEFAULT_EPSG = 4326  # GDAL uses it if it does not know the system of GeoJSON
# GDAL parses strings that look like dates, and loses digits, time zones and invalid days. The driver for GeoJSON has an
# option to return strings instead; these drivers have a schema, column by column. Others crash, or ignore it.
_DATE_TYPES = ("OFTDate", "OFTDateTime", "OFTTime")
_DRIVERS_WITH_SCHEMA = ("CSV", "GML")

# Drivers whose files have one layer. For the others, listing the layers is cheap.
_ONE_LAYER = ("CSV", "FlatGeobuf", "GeoJSON", "GeoJSONSeq")
# Names of undefined systems in GeoPackage (its specification, section 1.1.2.1.2) and in GDAL.
_UNDEFINED_CRS = re.compile(r"undefined .*SRS", re.IGNORECASE)

# Text formats, in which GDAL reads an integer beyond 64 bits as the largest one of 64 bits, or as a float.
_TEXT_FORMATS = (
    "CSV",
    "GeoJSON",
    "GeoJSONSeq",
    "GML",
    "GPX",
    "KML",
    "LIBKML",
    "MapInfo File",
    "ODS",
    "TopoJSON",
    "XLSX",
)
_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1
# The key of an integer in JSON that may need more than 64 bits, and its digits if it has just 19. The quantifiers are
# possessive: backtracking into keys without such a number would take quadratic time.
_LONG_NUMBER = re.compile(rb'("(?:[^"\\]++|\\.)*+")\s*:\s*-?(?:[1-9][0-9]{19,}|(9[2-9][0-9]{17}))\s*[,}]', re.DOTALL)

_ERRORS = (
    DataLayerError,
    DataSourceError,
    FeatureError,
    FieldError,
    GeometryError,
    pa.ArrowException,
    ValueError,
    OSError,
)


def read_ogr(file: SourceFile, selection: Selection) -> Iterator[Batch]:
    """
    Read a layer of a file.

    :param file: the file. A remote one is copied to temporary space first, because GDAL seeks in it.
    :param selection: the layer, features and columns to read.
    :return: batches of about eight megabytes.
    :raises UnreadableSourceError: if GDAL cannot read it, or it has no geometry.
    """
    with ExitStack() as stack:
        path = stack.enter_context(gdal_path(file, selection.layer))
        if path.from_archive:
            selection = replace(selection, layer=None)
        layer = _Layer(file.name, path, selection, _open_options(file, path, selection))
        with _named(layer):
            info = layer.info()
            if (chosen := layer.choose(info["driver"])) is not layer:
                layer, info = chosen, chosen.info()
        with _named(layer):
            layer = layer.without_conversions(info, stack)
            info = layer.info()
        available = _without_ids(map(str, info["fields"]), info["driver"], path)
        names = selection.choose_columns(available)
        columns_by_name((name, pa.nulls(0)) for name in names)  # Arrow cannot read two columns with the same name
        if info["geometry_type"] is None:
            columns = ", ".join(map(str, info["fields"])) or "none"
            raise UnreadableSourceError(
                f"{file.name} has no geometry.\nName its columns of coordinates with x= and y= (it has {columns}), or "
                "another layer with layer=…"
            )
        numbers = _numbers(layer, info, names)
        if numbers.lossy:
            layer = layer.with_exact_numbers(info["driver"], numbers.lossy)
        yield from _Reader(layer, info, names, numbers, _batch_rows(path, info)).batches(stack)


@dataclass(frozen=True)
class _Layer:
    """
    A layer, and how GDAL reads it.

    :param name: the source's name in messages.
    :param path: the path for GDAL.
    :param selection: the layer and features to read.
    :param options: options of GDAL's driver.
    :param strings: columns to read as strings, without conversion.
    :param encoding: the encoding of strings, or None if GDAL knows it.
    :param all_columns: whether GDAL must read all columns, whichever are chosen.
    """

    name: str
    path: GdalPath
    selection: Selection
    options: dict[str, str] = field(default_factory=dict)
    strings: frozenset[str] = frozenset()
    encoding: str | None = None
    all_columns: bool = False

    def info(self) -> dict[str, Any]:
        """Return pyogrio's description of the layer."""
        # Name the first layer if none is chosen: pyogrio would log a warning about the others.
        layer = 0 if self.selection.layer is None else self.selection.layer
        return dict(pyogrio.read_info(self.path.path, layer=layer, encoding=self.encoding, **self._open_options()))

    def choose(self, driver: str) -> _Layer:
        """Choose the only layer with features, if the caller has not chosen one."""
        if self.selection.layer is not None or driver in _ONE_LAYER:
            return self
        path = self.path.path
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) > 1:
            layers = [
                name for name in layers if pyogrio.read_info(path, layer=name, force_feature_count=True)["features"]
            ]
        if len(layers) > 1:
            example = f"{{{layers[0]!r}: (path, {{'layer': {layers[0]!r}}}), …}}"
            raise UnreadableSourceError(
                f"{self.name} has several layers: {', '.join(layers)}.\nName the one to export with layer=…, or make "
                f"each a source layer of its own: write_mbtiles({example}, …)."
            )
        return replace(self, selection=replace(self.selection, layer=layers[0])) if layers else self

    def without_conversions(self, info: dict[str, Any], stack: ExitStack) -> _Layer:
        """Return the layer with strings in their own encoding, and with dates of text files as strings."""
        layer = replace(
            self,
            encoding=None if info["encoding"] in (None, "UTF-8") else str(info["encoding"]),
            # To a condition, most drivers treat a column that is not read as null. A column of this name would be
            # confused with the geometry.
            all_columns=bool(self.selection.where) or _has_field(info, "ogr_geometry"),
        )
        driver = info["driver"]
        fields = zip(map(str, info["fields"]), info["ogr_types"], strict=True)
        dates = [name for name, kind in fields if kind in _DATE_TYPES]
        if not dates:
            return layer
        if driver in _DRIVERS_WITH_SCHEMA:
            return layer.with_strings(dates)
        if driver == "GeoJSONSeq" and self.path.open is not None:
            collection = stack.enter_context(_collection(self.path.open))
            layer = replace(layer, path=replace(self.path, path=collection))
        return replace(layer, options=layer.options | {"DATE_AS_STRING": "YES"}) if driver in _GEOJSON else layer

    def with_strings(self, names: Iterable[str]) -> _Layer:
        return replace(self, strings=self.strings.union(names))

    def with_exact_numbers(self, driver: str, names: frozenset[str]) -> _Layer:
        """Return the layer with columns of numbers as strings, which GDAL supports only for CSV."""
        if driver != "CSV":
            raise AttributeValueError(
                f"{self.name} has integers beyond 64 bits in column {', '.join(map(repr, sorted(names)))}, which "
                "GDAL does not read exactly.\nIn the task that writes the file, write them as strings."
            )
        return self.with_strings(names)

    def _open_options(self) -> dict[str, str]:
        if not self.strings:
            return self.options
        fields = [{"name": name, "type": "String"} for name in sorted(self.strings)]
        schema = {"layers": [{"name": "*", "schemaType": "Patch", "fields": fields}]}
        return self.options | {"OGR_SCHEMA": json.dumps(schema)}

    @contextmanager
    def open(
        self, columns: list[str], *, rows: int, geometry: bool, skip: int = 0
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        where, bbox = self.selection.where, self.selection.bbox
        with pyogrio.open_arrow(
            self.path.path,
            layer=self.selection.layer,
            columns=None if self.all_columns else columns,
            where=where,
            bbox=bbox,
            read_geometry=geometry or bool(where or bbox),
            batch_size=rows,
            skip_features=skip,
            encoding=self.encoding,
            use_pyarrow=True,
            # Each date keeps its own time zone; Arrow has one for a column.
            datetime_as_string=True,
            **self._open_options(),
        ) as opened:
            yield opened

    @contextmanager
    def linear(self) -> Iterator[_Layer]:
        """Yield the layer as a GDAL pipeline that linearises curves, because GDAL's Arrow interface does not."""
        steps = ["gdal vector pipeline ! read", _quoted(self.path.path)]
        if self.selection.layer is not None:
            name = self.selection.layer
            layer_name = name if isinstance(name, str) else str(pyogrio.list_layers(self.path.path)[name][0])
            steps += ["--layer", _quoted(layer_name)]
        for option, value in self._open_options().items():
            steps += ["--open-option", _quoted(f"{option}={value}")]
        steps.append("! set-geom-type --linear")
        with tempfile.TemporaryDirectory(prefix="export-") as folder:
            pipeline = Path(folder) / "linear.gdalg.json"
            pipeline.write_text(
                json.dumps(
                    {
                        "type": "gdal_streamed_alg",
                        "command_line": " ".join(steps),
                        "relative_paths_relative_to_this_file": False,
                    }
                )
            )
            selection = Selection(where=self.selection.where, bbox=self.selection.bbox)
            yield _Layer(self.name, replace(self.path, path=str(pipeline)), selection, all_columns=self.all_columns)


class _Reader:
    """
    Reads a layer batch by batch.

    Curves and unreadable coordinates are rare and costly. When a batch has them, the layer is opened again from that
    batch on, with a reader that supports them.

    :param layer: the layer.
    :param info: pyogrio's description of it.
    :param names: names of the attributes to read.
    :param numbers: columns that have integers beyond 2^53.
    :param rows: rows of a batch.
    """

    def __init__(self, layer: _Layer, info: dict[str, Any], names: list[str], numbers: _Numbers, rows: int) -> None:
        self._layer = layer
        self._names = names
        self._numbers = numbers
        self._rows = rows
        self._crs = _crs(layer, info)
        self._coordinates = _coordinates(layer, info)
        self._ids = _ids(layer, info, names)
        # With FlatGeobuf's own Arrow stream, a condition on a column of this name would refer to the geometry.
        self._linear = bool(layer.selection.where) and _has_field(info, "wkb_geometry")
        self._with_coordinates = False
        self._geojson = info["driver"] in _GEOJSON
        self._excerpts: Iterator[str | None] | None = None

    def batches(self, stack: ExitStack) -> Iterator[Batch]:
        first, reader = 0, self._open(stack, 0)
        while True:
            with _named(self._layer):
                record_batch = next(reader, None)
                if record_batch is None:
                    return
                geometry, fields = _columns(record_batch.schema)
                column = to_storage(record_batch.column(geometry))
            if self._needs_other_reader(column):
                reader = self._open(stack, first)
                continue
            attributes = columns_by_name(
                (name, self._attribute(name, record_batch.column(fields[name]))) for name in self._names
            )
            if self._ids is not None:
                attributes = self._ids.add_to(attributes, len(record_batch))
            unreadable = self._unreadable_geojson(column, first)
            if self._with_coordinates:
                coordinates = {name: record_batch.column(fields[name]) for name in self._coordinates}
                unreadable = unreadable_coordinates(column, coordinates)
            yield Batch(
                column,
                attributes,
                self._crs,
                self._layer.name,
                first,
                as_text=self._numbers.large,
                unreadable=unreadable,
            )
            first += len(record_batch)

    def _unreadable_geojson(self, column: pa.Array, first: int) -> pa.Array | None:
        """Return excerpts of the GeoJSON geometries that GDAL cannot read, from the first batch that has some."""
        if self._excerpts is None:
            opener, selection = self._layer.path.open, self._layer.selection
            if not (self._geojson and column.null_count) or opener is None or selection.where or selection.bbox:
                return None
            self._excerpts = islice(geometry_excerpts(opener), first, None)
        excerpts = list(islice(self._excerpts, len(column)))
        if len(excerpts) < len(column):
            return None  # GDAL reads other features than are counted here
        return pc.if_else(column.is_null(), pa.array(excerpts, pa.string()), None)

    def _needs_other_reader(self, column: pa.Array) -> bool:
        """Return whether the layer must be opened again, for curves or for unreadable coordinates."""
        linear = self._linear or has_curves(column)
        with_coordinates = self._with_coordinates or bool(self._coordinates and column.null_count)
        before = self._linear, self._with_coordinates
        self._linear, self._with_coordinates = linear, with_coordinates
        return before != (linear, with_coordinates)

    def _open(self, stack: ExitStack, first: int) -> Iterator[pa.RecordBatch]:
        reader_stack = stack.enter_context(ExitStack())
        with _named(self._layer):
            layer, names = self._layer, self._names
            if self._with_coordinates:
                layer = layer.with_strings(self._coordinates)
                layer = replace(layer, options=layer.options | {"KEEP_GEOM_COLUMNS": "YES"})
                names = [*names, *self._coordinates]
            if self._linear:
                layer = reader_stack.enter_context(layer.linear())
            _, reader = reader_stack.enter_context(layer.open(names, rows=self._rows, geometry=True, skip=first))
        return iter(reader)

    def _attribute(self, name: str, column: pa.Array) -> pa.Array:
        if name in self._numbers.lossy:
            return numbers_as_strings(column)
        if name in self._layer.strings:
            return null_if_empty(column)
        return _without_nul(self._layer.name, name, column)


@contextmanager
def _collection(opener: Callable[[], IO[bytes]]) -> Iterator[str]:
    """Copy a file of one feature a line into a FeatureCollection, for which GDAL can return dates as strings."""
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        path = Path(folder) / "collection.geojson"
        with path.open("wb") as target:
            write_collection(opener, target)
        yield str(path)


def _has_field(info: dict[str, Any], name: str) -> bool:
    return any(str(field).lower() == name for field in info["fields"])


def _columns(schema: pa.Schema) -> tuple[int, dict[str, int]]:
    """Return the index of the geometry, by its type because an attribute may have any name; and those of attributes."""
    indices = range(len(schema))
    geometry = next((index for index in reversed(indices) if _is_geometry(schema.field(index))), -1)
    return geometry, {schema.field(index).name: index for index in reversed(indices) if index != geometry}


def _is_geometry(field: pa.Field) -> bool:
    # If geoarrow.pyarrow is imported, this is an extension type; otherwise metadata of the field.
    type_name = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()
    return getattr(field.type, "extension_name", type_name) in ("ogc.wkb", "geoarrow.wkb")


def _without_nul(source: str, name: str, column: pa.Array) -> pa.Array:
    """Remove the NUL that GDAL adds to dates with microseconds. For years after 9999, it returns only the NUL."""
    if not pa.types.is_string(column.type) or not pc.any(pc.ends_with(column, "\0")).as_py():
        return column
    column = pc.utf8_rtrim(column, "\0")
    if pc.any(pc.equal(column, "")).as_py():
        raise AttributeValueError(
            f"{source} has dates in column {name!r} that GDAL does not read.\nIn the task that writes the file, write "
            "them as strings, or drop the column."
        )
    return column


def _crs(layer: _Layer, info: dict[str, Any]) -> CRS | None:
    """Return the reference system of a layer. For GeoJSON with an unknown system, GDAL returns WGS 84."""
    crs = _defined_crs(info["crs"])
    if info["driver"] not in _GEOJSON or layer.path.open is None:
        return crs
    names_crs, named = named_crs(layer.path.open)
    if not names_crs or named is not None:
        return named or crs
    return None if crs is None or crs.to_epsg() == _GEOJSON_DEFAULT_EPSG else crs


def _coordinates(layer: _Layer, info: dict[str, Any]) -> list[str]:
    """Return the coordinate columns of a CSV, which GDAL does not return as attributes by default."""
    if info["driver"] != "CSV":
        return []
    with_coordinates = replace(layer, options=layer.options | {"KEEP_GEOM_COLUMNS": "YES"})
    attributes = set(map(str, info["fields"]))
    return [name for name in map(str, with_coordinates.info()["fields"]) if name not in attributes]


def _defined_crs(definition: str | None) -> CRS | None:
    crs = None if definition is None else CRS.from_user_input(definition)
    return None if crs is None or _UNDEFINED_CRS.fullmatch(crs.name) else crs


@dataclass
class _Numbers:
    """
    Columns that have integers beyond 2^53.

    :param large: names of all such columns.
    :param lossy: names of those that GDAL reads as other numbers.
    """

    large: frozenset[str] = frozenset()
    lossy: frozenset[str] = frozenset()


def _numbers(layer: _Layer, info: dict[str, Any], names: list[str]) -> _Numbers:
    """Find columns that have integers beyond 2^53, by reading them without geometries."""
    is_text = info["driver"] in _TEXT_FORMATS
    fields = dict(zip(map(str, info["fields"]), info["ogr_types"], strict=True))
    reals = [name for name in names if fields[name] == "OFTReal"] if "JSON" in info["driver"] else []
    wide = [name for name in names if fields[name] == "OFTInteger64"]
    wide += _reals_with_long_integers(layer.path, reals) if reals else []
    if not wide:
        return _Numbers()
    large: set[str] = set()
    lossy: set[str] = set()
    fractions: set[str] = set()
    with _named(layer), layer.open(wide, rows=_MAX_ROWS, geometry=False) as (_, reader):
        for record_batch in reader:
            _, indices = _columns(record_batch.schema)
            for name in wide:
                column = record_batch.column(indices[name])
                smallest, largest = (value.as_py() for value in pc.min_max(column).values())
                if pa.types.is_floating(column.type):
                    if not pc.all(pc.equal(pc.floor(column), column)).as_py():
                        fractions.add(name)
                    if smallest is not None and max(-smallest, largest) > _MAX_INT64:
                        lossy.add(name)
                elif has_large_integers(column):
                    large.add(name)
                    if is_text and (smallest == _MIN_INT64 or largest == _MAX_INT64):
                        lossy.add(name)
    lossy -= fractions
    return _Numbers(frozenset(large | lossy), frozenset(lossy))


def _reals_with_long_integers(path: GdalPath, names: list[str]) -> list[str]:
    """Return columns of floats that may have integers beyond 64 bits in JSON. GDAL reads such columns as floats."""
    if not path.path.lower().endswith((".geojson", ".json", ".geojsonl", ".geojsons", ".ndjson", ".topojson")):
        return names
    if path.path.startswith("/vsi"):
        return names  # compressed
    with Path(path.path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as document:
        matches = _LONG_NUMBER.finditer(document)
        encoded = {match[1] for match in matches if match[2] is None or int(match[2]) > _MAX_INT64}
    keys = {json.loads(key.decode(errors="replace"), strict=False) for key in encoded}
    return [name for name in names if name in keys]


def _open_options(file: SourceFile, path: GdalPath, selection: Selection) -> dict[str, str]:
    """Return the options with which GDAL opens a file, after a check of what its format can select."""
    if path.suffix not in SUFFIXES:
        kind = f"{path.suffix or 'such'} files"
        selection.allow_only("layer", "where", "columns", "bbox", "id_attribute", source=kind)
        return {}
    selection.allow_only("layer", "where", "columns", "bbox", "x", "y", source=f"{path.suffix} files")
    with _named(_Layer(file.name, path, selection)):
        header = list(map(str, pyogrio.read_info(path.path)["fields"]))
    return open_options(file.name, header, selection)


def _batch_rows(path: GdalPath, info: dict[str, Any]) -> int:
    if path.size is None or info["features"] <= 0:
        return _DEFAULT_ROWS
    feature_bytes = max(1, path.size // int(info["features"]))
    return max(1, min(_MAX_ROWS, _BATCH_BYTES // feature_bytes))


def _without_ids(fields: Iterable[str], driver: str, path: GdalPath) -> list[str]:
    """Return the fields without the ids of GeoJSON features. GDAL makes an attribute of ids that are strings."""
    names = list(fields)
    if driver not in _GEOJSON or "id" not in names or path.open is None or not has_member_ids(path.open):
        return names
    return [name for name in names if name != "id"]


class _IdColumn(NamedTuple):
    """The attribute that receives the ids of features."""

    name: str
    ids: Ids

    def add_to(self, columns: dict[str, pa.Array], count: int) -> dict[str, pa.Array]:
        return {self.name: self.ids.take(count)} | columns


def _ids(layer: _Layer, info: dict[str, Any], names: list[str]) -> _IdColumn | None:
    name = layer.selection.id_attribute
    if name is None:
        return None
    if info["driver"] not in _GEOJSON or layer.path.open is None:
        raise OptionError(f"id_attribute= cannot be used with {layer.name}: it is for GeoJSON.")
    if name in names:
        raise AttributeNameError(
            f"id_attribute={name!r}: {layer.name} has a property of that name.\nChoose another name, or leave the "
            "property out with columns=."
        )
    return _IdColumn(name, Ids(layer.name, layer.path.open))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@contextmanager
def _named(layer: _Layer) -> Iterator[None]:
    """Name the file in errors of GDAL and Arrow, and say what to check."""
    problem, advice = None, ""
    try:
        yield
    except ExportError:
        raise
    except UnicodeDecodeError:
        problem, advice = "the names of its columns are not UTF-8", "Write it as UTF-8"
    except _ERRORS as error:
        # GDAL's advice is about its own command line.
        problem = (str(error).splitlines() or [type(error).__name__])[0].partition("; It might help")[0].rstrip(".;")
        advice = _advice(layer, error)
        if "cpl_vsil_gzip" in problem:
            problem = "it is damaged or cut off"
    if problem is not None:
        raise UnreadableSourceError(f"{layer.name} cannot be read by GDAL: {problem}.\n{advice}.")


def _advice(layer: _Layer, error: Exception) -> str:
    selection = layer.selection
    if selection.layer is not None and isinstance(error, DataLayerError):
        with suppress(*_ERRORS):
            return f"It has the layers {', '.join(map(repr, pyogrio.list_layers(layer.path.path)[:, 0]))}"
    chosen = [f"{option}={value!r}" for option in ("layer", "where", "bbox") if (value := getattr(selection, option))]
    return f"Check {', '.join(chosen)}" if chosen else "Check the task that wrote it"
