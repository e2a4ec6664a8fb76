"""What GDAL reads: GeoPackage, shapefile, FlatGeobuf, GeoJSON, KML, GPX, CSV and more, as a stream of Arrow batches."""

from __future__ import annotations

import fnmatch
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
from airflow_mapbox.export.geometry.decode import has_curves, stored
from airflow_mapbox.export.options import Selection
from airflow_mapbox.export.readers.batch import Batch
from airflow_mapbox.export.readers.gdal_path import GdalPath, gdal_path
from airflow_mapbox.export.readers.geojson_text import Ids, geometry_texts, has_member_ids, named_crs, write_collection
from airflow_mapbox.export.text.attributes import columns_by_name, large_integers
from airflow_mapbox.sources.files import SourceFile

_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 8_000  # where the size of a feature is not known
_MOST_ROWS = 65_536

# As Mapbox recognises columns of CSV (preflight/formats.py).
_CSV_X, _CSV_Y, _CSV_GEOMETRY = "x,lon,lng,long,*longitude*", "y,lat,*latitude*", "wkt,geojson,*geom*"

_GEOJSON = ("GeoJSON", "GeoJSONSeq")
_DEFAULT = 4326  # as which GDAL takes GeoJSON whose reference system it does not know
# GDAL's guess at what looks like a date in a text file loses digits, zones, and days that the calendar has not. The
# driver for GeoJSON gives the text instead if it is told so; these do, column by column. Others crash, or ignore it.
_DATES = ("OFTDate", "OFTDateTime", "OFTTime")
_PATCHED = ("CSV", "GML")

# Drivers whose files have one layer; of others it costs little to look how many there are.
_ONE_LAYER = ("CSV", "FlatGeobuf", "GeoJSON", "GeoJSONSeq")
# GeoPackage's own names for systems that nobody knows (its specification, section 1.1.2.1.2), and GDAL's.
_UNDEFINED = re.compile(r"undefined .*SRS", re.IGNORECASE)

# Numbers are text in these: what has no place in 64 bits becomes the largest that has one, or a float.
_TEXTUAL = ("CSV", "GeoJSON", "GeoJSONSeq", "GML", "GPX", "KML", "LIBKML", "MapInfo File", "ODS", "TopoJSON", "XLSX")
_LEAST, _MOST = -(2**63), 2**63 - 1
# The key of such a whole number in JSON, and its digits where they may not be enough for it. A key without a number is
# not tried again by pieces, which would take as long as it is squared.
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
    Read a layer.

    :param file: local; what is in object storage is copied to temporary space first, since GDAL seeks.
    :param selection: of its features and columns.
    :return: batches of about eight megabytes.
    :raises UnreadableSourceError: where GDAL cannot read it, or there is no geometry.
    """
    with ExitStack() as stack:
        place = stack.enter_context(gdal_path(file, selection.layer))
        if place.from_archive:
            selection = replace(selection, layer=None)
        layer = _Layer(file.name, place, selection, _csv_options(file, place, selection))
        with _named(layer):
            info = layer.info()
            if (only := layer.only(info["driver"])) is not layer:
                layer, info = only, only.info()
        with _named(layer):
            layer = layer.as_written(info, stack)
            info = layer.info()
        available = _without_ids(map(str, info["fields"]), info["driver"], place)
        names = selection.choose_columns(available)
        columns_by_name((name, pa.nulls(0)) for name in names)  # before Arrow cannot tell two columns apart
        if info["geometry_type"] is None:
            columns = ", ".join(map(str, info["fields"])) or "none"
            raise UnreadableSourceError(
                f"{file.name} has no geometry.\nName its columns of coordinates with x= and y= (it has {columns}), or "
                "another layer with layer=…"
            )
        numbers = _numbers(layer, info, names)
        if numbers.lossy:
            layer = layer.with_exact(info["driver"], numbers.lossy)
        yield from _Reader(layer, info, names, numbers, _rows(place, info)).batches(stack)


@dataclass(frozen=True)
class _Layer:
    """
    What is read.

    :param name: of the source, for messages.
    :param place: where GDAL finds it.
    :param selection: of features.
    :param options: of GDAL's driver.
    :param strings: columns that are read as the text that they are in the file.
    :param encoding: of its text, or None where GDAL knows.
    :param all_columns: whether GDAL has to read all of them, whatever is chosen.
    """

    name: str
    place: GdalPath
    selection: Selection
    options: dict[str, str] = field(default_factory=dict)
    strings: frozenset[str] = frozenset()
    encoding: str | None = None
    all_columns: bool = False

    def info(self) -> dict[str, Any]:
        # The first one, where nobody chose: left to GDAL's binding, it would warn of the others before we look.
        layer = 0 if self.selection.layer is None else self.selection.layer
        return dict(pyogrio.read_info(self.place.path, layer=layer, encoding=self.encoding, **self._open_options()))

    def only(self, driver: str) -> _Layer:
        """Choose the layer, where nobody did and only one has features."""
        if self.selection.layer is not None or driver in _ONE_LAYER:
            return self
        path = self.place.path
        found = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(found) > 1:
            found = [
                name for name in found if pyogrio.read_info(path, layer=name, force_feature_count=True)["features"]
            ]
        if len(found) > 1:
            each = f"{{{found[0]!r}: (path, {{'layer': {found[0]!r}}}), …}}"
            raise UnreadableSourceError(
                f"{self.name} has several layers: {', '.join(found)}.\nName the one to export with layer=…, or make "
                f"each a source layer of its own: write_mbtiles({each}, …)."
            )
        return replace(self, selection=replace(self.selection, layer=found[0])) if found else self

    def as_written(self, info: dict[str, Any], stack: ExitStack) -> _Layer:
        """Have text read in the encoding that it is in, and dates of text files as text instead of GDAL's guess."""
        layer = replace(
            self,
            encoding=None if info["encoding"] in (None, "UTF-8") else str(info["encoding"]),
            # A field that GDAL is told to leave out is null to the condition of most of its drivers, and one of this
            # name stands for the geometry.
            all_columns=bool(self.selection.where) or _called(info, "ogr_geometry"),
        )
        driver = info["driver"]
        fields = zip(map(str, info["fields"]), info["ogr_types"], strict=True)
        dates = [name for name, kind in fields if kind in _DATES]
        if not dates:
            return layer
        if driver in _PATCHED:
            return layer.with_strings(dates)
        if driver == "GeoJSONSeq" and self.place.open is not None:
            collection = stack.enter_context(_collection(self.place.open))
            layer = replace(layer, place=replace(self.place, path=collection))
        return replace(layer, options=layer.options | {"DATE_AS_STRING": "YES"}) if driver in _GEOJSON else layer

    def with_strings(self, names: Iterable[str]) -> _Layer:
        return replace(self, strings=self.strings.union(names))

    def with_exact(self, driver: str, names: frozenset[str]) -> _Layer:
        """Have numbers read as text, which only CSV gives as it stands in the file."""
        if driver != "CSV":
            raise AttributeValueError(
                f"{self.name} has whole numbers beyond 64 bits in column {', '.join(map(repr, sorted(names)))}, which "
                "GDAL does not read exactly.\nHave the task that writes the file put them in quotation marks."
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
            self.place.path,
            layer=self.selection.layer,
            columns=None if self.all_columns else columns,
            where=where,
            bbox=bbox,
            read_geometry=geometry or bool(where or bbox),
            batch_size=rows,
            skip_features=skip,
            encoding=self.encoding,
            use_pyarrow=True,
            # With the zone that each has; Arrow has one for a column.
            datetime_as_string=True,
            **self._open_options(),
        ) as opened:
            yield opened

    @contextmanager
    def linear(self) -> Iterator[_Layer]:
        """Have GDAL linearise curves as it reads, which its Arrow interface does not do by itself."""
        steps = ["gdal vector pipeline ! read", _quoted(self.place.path)]
        if self.selection.layer is not None:
            name = self.selection.layer
            named = name if isinstance(name, str) else str(pyogrio.list_layers(self.place.path)[name][0])
            steps += ["--layer", _quoted(named)]
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
            chosen = Selection(where=self.selection.where, bbox=self.selection.bbox)
            yield _Layer(self.name, replace(self.place, path=str(pipeline)), chosen, all_columns=self.all_columns)


class _Reader:
    """
    Reads a layer from its beginning to its end.

    What is rare is prepared for only when it turns up: the layer is opened anew then, from the batch on that has it.

    :param layer: what is read.
    :param info: what GDAL says of it.
    :param names: of the attributes.
    :param numbers: columns that have integers past 2^53.
    :param rows: of a batch.
    """

    def __init__(self, layer: _Layer, info: dict[str, Any], names: list[str], numbers: _Numbers, rows: int) -> None:
        self._layer = layer
        self._names = names
        self._numbers = numbers
        self._rows = rows
        self._crs = _crs(layer, info)
        self._coordinates = _coordinates(layer, info)
        self._ids = _ids(layer, info, names)
        # In FlatGeobuf's own stream, a condition on a field of this name is about the geometry.
        self._linear = bool(layer.selection.where) and _called(info, "wkb_geometry")
        self._with_coordinates = False
        self._geojson = info["driver"] in _GEOJSON
        self._texts: Iterator[str | None] | None = None

    def batches(self, stack: ExitStack) -> Iterator[Batch]:
        first, reader = 0, self._open(stack, 0)
        while True:
            with _named(self._layer):
                found = next(reader, None)
                if found is None:
                    return
                geometry, fields = _columns(found.schema)
                column = stored(found.column(geometry))
            if self._prepare(column):
                reader = self._open(stack, first)
                continue
            attributes = columns_by_name(
                (name, self._written(name, found.column(fields[name]))) for name in self._names
            )
            if self._ids is not None:
                attributes = self._ids.added(attributes, len(found))
            unreadable = self._written_geometries(column, first)
            if self._with_coordinates:
                unreadable = _unreadable(column, {name: found.column(fields[name]) for name in self._coordinates})
            yield Batch(
                column,
                attributes,
                self._crs,
                self._layer.name,
                first,
                as_text=self._numbers.large,
                unreadable=unreadable,
            )
            first += len(found)

    def _written_geometries(self, column: pa.Array, first: int) -> pa.Array | None:
        """Give what GeoJSON has for geometries that GDAL cannot read, from the first batch on that lacks some."""
        if self._texts is None:
            opener, selection = self._layer.place.open, self._layer.selection
            if not (self._geojson and column.null_count) or opener is None or selection.where or selection.bbox:
                return None
            self._texts = islice(geometry_texts(opener), first, None)
        texts = list(islice(self._texts, len(column)))
        if len(texts) < len(column):
            return None  # not the features that GDAL reads
        return pc.if_else(column.is_null(), pa.array(texts, pa.string()), None)

    def _prepare(self, column: pa.Array) -> bool:
        """Say whether the layer is to be opened anew, for curves or for coordinates that cannot be read."""
        linear = self._linear or has_curves(column)
        with_coordinates = self._with_coordinates or bool(self._coordinates and column.null_count)
        before = self._linear, self._with_coordinates
        self._linear, self._with_coordinates = linear, with_coordinates
        return before != (linear, with_coordinates)

    def _open(self, stack: ExitStack, first: int) -> Iterator[pa.RecordBatch]:
        stack_of_reader = stack.enter_context(ExitStack())
        with _named(self._layer):
            layer, names = self._layer, self._names
            if self._with_coordinates:
                layer = layer.with_strings(self._coordinates)
                layer = replace(layer, options=layer.options | {"KEEP_GEOM_COLUMNS": "YES"})
                names = [*names, *self._coordinates]
            if self._linear:
                layer = stack_of_reader.enter_context(layer.linear())
            _, reader = stack_of_reader.enter_context(layer.open(names, rows=self._rows, geometry=True, skip=first))
        return iter(reader)

    def _written(self, name: str, column: pa.Array) -> pa.Array:
        if name in self._numbers.lossy:
            return _spelled(column)
        if name in self._layer.strings:
            # An empty field of CSV is no text.
            return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)
        return _without_nul(self._layer.name, name, column)


@contextmanager
def _collection(opener: Callable[[], IO[bytes]]) -> Iterator[str]:
    """Copy features that stand line by line into a collection: only of that does GDAL give dates as they stand."""
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        path = Path(folder) / "collection.geojson"
        with path.open("wb") as target:
            write_collection(opener, target)
        yield str(path)


def _called(info: dict[str, Any], name: str) -> bool:
    return any(str(field).lower() == name for field in info["fields"])


def _columns(schema: pa.Schema) -> tuple[int, dict[str, int]]:
    """Find the geometry by its type, since an attribute may have any name, and the attributes by name."""
    places = range(len(schema))
    geometry = next((place for place in reversed(places) if _is_geometry(schema.field(place))), -1)
    return geometry, {schema.field(place).name: place for place in reversed(places) if place != geometry}


def _is_geometry(field: pa.Field) -> bool:
    # An extension type once geoarrow.pyarrow is imported, and metadata of the field without it.
    named = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()
    return getattr(field.type, "extension_name", named) in ("ogc.wkb", "geoarrow.wkb")


def _without_nul(source: str, name: str, column: pa.Array) -> pa.Array:
    """Leave out what GDAL puts behind dates with microseconds; of a year past 9999 it puts nothing else."""
    if not pa.types.is_string(column.type) or not pc.any(pc.ends_with(column, "\0")).as_py():
        return column
    column = pc.utf8_rtrim(column, "\0")
    if pc.any(pc.equal(column, "")).as_py():
        raise AttributeValueError(
            f"{source} has dates in column {name!r} that GDAL does not read.\nHave the task that writes the file write "
            "them as strings, or drop the column."
        )
    return column


def _crs(layer: _Layer, info: dict[str, Any]) -> CRS | None:
    """Say which reference system a layer is in; GDAL's answer for one of GeoJSON that it does not know is WGS 84."""
    known = _system(info["crs"])
    if info["driver"] not in _GEOJSON or layer.place.open is None:
        return known
    named, own = named_crs(layer.place.open)
    if not named or own is not None:
        return own or known
    return None if known is None or known.to_epsg() == _DEFAULT else known


def _coordinates(layer: _Layer, info: dict[str, Any]) -> list[str]:
    """Name the columns of a CSV that its geometries are read from, which GDAL does not give as attributes."""
    if info["driver"] != "CSV":
        return []
    kept = replace(layer, options=layer.options | {"KEEP_GEOM_COLUMNS": "YES"})
    given = set(map(str, info["fields"]))
    return [name for name in map(str, kept.info()["fields"]) if name not in given]


def _unreadable(geometry: pa.Array, coordinates: dict[str, pa.Array]) -> pa.Array:
    """Give the coordinates of the rows that have some and yet no geometry, as a text; null for other rows."""
    texts = [pc.fill_null(pc.utf8_trim_whitespace(column), "") for column in coordinates.values()]
    there = pc.not_equal(pc.binary_join_element_wise(*texts, ""), "")
    values = [
        pc.binary_join_element_wise(f"{name}='", text, "'", "") for name, text in zip(coordinates, texts, strict=True)
    ]
    return pc.if_else(pc.and_(geometry.is_null(), there), pc.binary_join_element_wise(*values, ", "), None)


def _system(text: str | None) -> CRS | None:
    crs = None if text is None else CRS.from_user_input(text)
    return None if crs is None or _UNDEFINED.fullmatch(crs.name) else crs


@dataclass
class _Numbers:
    """
    Columns that have integers past 2^53.

    :param large: their names.
    :param lossy: of those, the ones that GDAL reads as other numbers.
    """

    large: frozenset[str] = frozenset()
    lossy: frozenset[str] = frozenset()


def _numbers(layer: _Layer, info: dict[str, Any], names: list[str]) -> _Numbers:
    """Find columns that have integers past 2^53, by reading them without their geometries."""
    textual = info["driver"] in _TEXTUAL
    fields = dict(zip(map(str, info["fields"]), info["ogr_types"], strict=True))
    reals = [name for name in names if fields[name] == "OFTReal"] if "JSON" in info["driver"] else []
    wide = [name for name in names if fields[name] == "OFTInteger64"] + (_long(layer.place, reals) if reals else [])
    if not wide:
        return _Numbers()
    large: set[str] = set()
    lossy: set[str] = set()
    fractions: set[str] = set()
    with _named(layer), layer.open(wide, rows=_MOST_ROWS, geometry=False) as (_, reader):
        for found in reader:
            _, places = _columns(found.schema)
            for name in wide:
                column = found.column(places[name])
                least, most = (value.as_py() for value in pc.min_max(column).values())
                if pa.types.is_floating(column.type):
                    if not pc.all(pc.equal(pc.floor(column), column)).as_py():
                        fractions.add(name)
                    if least is not None and max(-least, most) > _MOST:
                        lossy.add(name)
                elif large_integers(column):
                    large.add(name)
                    if textual and (least == _LEAST or most == _MOST):
                        lossy.add(name)
    lossy -= fractions
    return _Numbers(frozenset(large | lossy), frozenset(lossy))


def _long(place: GdalPath, names: list[str]) -> list[str]:
    """Choose columns that may have whole numbers beyond 64 bits in a text of JSON, which makes them ones of floats."""
    if not place.path.lower().endswith((".geojson", ".json", ".geojsonl", ".geojsons", ".ndjson", ".topojson")):
        return names
    if place.path.startswith("/vsi"):
        return names  # compressed
    with Path(place.path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        keys = {found[1] for found in _LONG_NUMBER.finditer(text) if found[2] is None or int(found[2]) > _MOST}
    found = {json.loads(key.decode(errors="replace"), strict=False) for key in keys}
    return [name for name in names if name in found]


def _spelled(column: pa.Array) -> pa.Array:
    """Give numbers as they stand in a CSV, whose empty fields are no text."""
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _csv_options(file: SourceFile, place: GdalPath, selection: Selection) -> dict[str, str]:
    """Tell GDAL's driver for CSV which columns are coordinates, and to look at all of them before it names types."""
    if place.suffix not in (".csv", ".tsv"):
        selection.allow_only(
            "layer", "where", "columns", "bbox", "id_attribute", source=f"{place.suffix or 'such'} files"
        )
        return {}
    selection.allow_only("layer", "where", "columns", "bbox", "x", "y", source=f"{place.suffix} files")
    with _named(_Layer(file.name, place, selection)):
        header = list(map(str, pyogrio.read_info(place.path)["fields"]))
    candidates = {
        name: [chosen] if chosen else _matching(header, usual)
        for name, chosen, usual in (("x", selection.x, _CSV_X), ("y", selection.y, _CSV_Y))
    }
    if any(len(found) > 1 for found in candidates.values()):
        listed = " and ".join(f"{name}= is one of {', '.join(found)}" for name, found in candidates.items())
        raise UnreadableSourceError(f"{file.name} has several columns that may be coordinates.\nSay which: {listed}.")
    return {
        "X_POSSIBLE_NAMES": selection.x or _CSV_X,
        "Y_POSSIBLE_NAMES": selection.y or _CSV_Y,
        "GEOM_POSSIBLE_NAMES": _CSV_GEOMETRY,
        "KEEP_GEOM_COLUMNS": "NO",
        "AUTODETECT_TYPE": "YES",
        "AUTODETECT_SIZE_LIMIT": "0",
    }


def _matching(names: list[str], patterns: str) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatch(name.lower(), usual) for usual in patterns.split(","))]


def _rows(place: GdalPath, info: dict[str, Any]) -> int:
    if place.size is None or info["features"] <= 0:
        return _BATCH_ROWS
    each = max(1, place.size // int(info["features"]))
    return max(1, min(_MOST_ROWS, _BATCH_BYTES // each))


def _without_ids(fields: Iterable[str], driver: str, place: GdalPath) -> list[str]:
    """Leave out the ids of GeoJSON's features, of which GDAL makes an attribute if they are strings."""
    names = list(fields)
    if driver not in _GEOJSON or "id" not in names or place.open is None or not has_member_ids(place.open):
        return names
    return [name for name in names if name != "id"]


class _IdColumn(NamedTuple):
    """The attribute that the ids of features are written to."""

    name: str
    ids: Ids

    def added(self, columns: dict[str, pa.Array], count: int) -> dict[str, pa.Array]:
        return {self.name: self.ids.take(count)} | columns


def _ids(layer: _Layer, info: dict[str, Any], names: list[str]) -> _IdColumn | None:
    name = layer.selection.id_attribute
    if name is None:
        return None
    if info["driver"] not in _GEOJSON or layer.place.open is None:
        raise OptionError(f"id_attribute= cannot be used with {layer.name}: it is for GeoJSON.")
    if name in names:
        raise AttributeNameError(
            f"id_attribute={name!r}: {layer.name} has a property of that name.\nChoose another name, or leave the "
            "property out with columns=."
        )
    return _IdColumn(name, Ids(layer.name, layer.place.open))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@contextmanager
def _named(layer: _Layer) -> Iterator[None]:
    """Say of which file it is that reading it failed, and what may be wrong."""
    problem, advice = None, ""
    try:
        yield
    except ExportError:
        raise
    except UnicodeDecodeError:
        problem, advice = "the names of its columns are not UTF-8", "Write it as UTF-8"
    except _ERRORS as error:
        # What GDAL would help with is its own command line.
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
            return f"It has the layers {', '.join(map(repr, pyogrio.list_layers(layer.place.path)[:, 0]))}"
    chosen = [f"{option}={value!r}" for option in ("layer", "where", "bbox") if (value := getattr(selection, option))]
    return f"Check {', '.join(chosen)}" if chosen else "Look at the task that wrote it"
