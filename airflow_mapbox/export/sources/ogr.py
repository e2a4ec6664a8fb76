"""What GDAL reads: GeoPackage, shapefile, FlatGeobuf, GeoJSON, KML, GPX, CSV and more, as a stream of Arrow batches."""

from __future__ import annotations

import fnmatch
import json
import mmap
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from pyogrio.util import vsi_path
from pyproj import CRS

from airflow_mapbox.export.attributes import columns_by_name, large_integers
from airflow_mapbox.export.batch import Batch
from airflow_mapbox.export.errors import AttributeValueError, ExportError, UnreadableSourceError
from airflow_mapbox.export.geometry_columns import stored
from airflow_mapbox.export.sources.files import SourceFile
from airflow_mapbox.export.sources.selection import Selection

_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 8_000  # where the size of a feature is not known
_MOST_ROWS = 65_536

# As Mapbox recognises columns of CSV (preflight/formats.py).
_CSV_X, _CSV_Y, _CSV_GEOMETRY = "x,lon,lng,long,*longitude*", "y,lat,*latitude*", "wkt,geojson,*geom*"

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
        path = stack.enter_context(file.local())
        layer = _Layer(file.name, path, selection, _options(file, path, selection))
        with _named(file.name, selection):
            info = layer.info()
            if (only := layer.only(info["driver"])) is not layer:
                layer, info = only, only.info()
        names = selection.chosen(map(str, info["fields"]))
        columns_by_name((name, pa.nulls(0)) for name in names)  # before Arrow cannot tell two columns apart
        if info["geometry_type"] is None:
            columns = ", ".join(map(str, info["fields"])) or "none"
            raise UnreadableSourceError(
                f"{file.name} has no geometry. Name its columns of coordinates with x= and y= (it has {columns}), or "
                "another layer with layer=…"
            )
        numbers = _numbers(layer, info, names)
        if numbers.lossy:
            layer = layer.with_text(info["driver"], numbers.lossy)
        if _may_be_curved(info["geometry_type"]):
            layer = stack.enter_context(_linear(layer))
        yield from _batches(layer, names, numbers, _rows(file, info))


@dataclass(frozen=True)
class _Layer:
    """
    What is read.

    :param name: of the source, for messages.
    :param path: where GDAL finds it.
    :param selection: of features.
    :param options: of GDAL's driver.
    """

    name: str
    path: Path
    selection: Selection
    options: dict[str, str] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        # The first one, where nobody chose: left to GDAL's binding, it would warn of the others before we look.
        layer = 0 if self.selection.layer is None else self.selection.layer
        return dict(pyogrio.read_info(self.path, layer=layer, **self.options))

    def only(self, driver: str) -> _Layer:
        """Choose the layer, where nobody did and only one has features."""
        if self.selection.layer is not None or driver in _ONE_LAYER:
            return self
        found = [str(name) for name, kind in pyogrio.list_layers(self.path) if kind is not None]
        if len(found) > 1:
            found = [
                name for name in found if pyogrio.read_info(self.path, layer=name, force_feature_count=True)["features"]
            ]
        if len(found) > 1:
            each = f"{{{found[0]!r}: (path, {{'layer': {found[0]!r}}}), …}}"
            raise UnreadableSourceError(
                f"{self.name} has several layers: {', '.join(found)}. Name the one to export with layer=…, or make "
                f"each a source layer of its own: write_mbtiles({each}, …)."
            )
        return replace(self, selection=replace(self.selection, layer=found[0])) if found else self

    def with_text(self, driver: str, names: Iterable[str]) -> _Layer:
        """Have columns read as text, which only CSV gives as it stands in the file."""
        if driver != "CSV":
            raise AttributeValueError(
                f"{self.name} has whole numbers beyond 64 bits in column {', '.join(map(repr, sorted(names)))}, which "
                "GDAL does not read exactly. Have the task that writes the file put them in quotation marks."
            )
        fields = [{"name": name, "type": "String"} for name in sorted(names)]
        schema = {"layers": [{"name": "*", "schemaType": "Patch", "fields": fields}]}
        return replace(self, options=self.options | {"OGR_SCHEMA": json.dumps(schema)})

    @contextmanager
    def open(self, columns: list[str], *, rows: int, geometry: bool) -> Iterator[tuple[dict[str, Any], Any]]:
        where, bbox = self.selection.where, self.selection.bbox
        with pyogrio.open_arrow(
            self.path,
            layer=self.selection.layer,
            # A field that GDAL is told to leave out is null to the condition of most of its drivers.
            columns=None if where else columns,
            where=where,
            bbox=bbox,
            read_geometry=geometry or bool(where or bbox),
            batch_size=rows,
            use_pyarrow=True,
            # With the zone that each has; Arrow has one for a column.
            datetime_as_string=True,
            **self.options,
        ) as opened:
            yield opened


def _batches(layer: _Layer, names: list[str], numbers: _Numbers, rows: int) -> Iterator[Batch]:
    with ExitStack() as stack:
        with _named(layer.name, layer.selection):
            meta, reader = stack.enter_context(layer.open(names, rows=rows, geometry=True))
        crs = _system(meta["crs"])
        geometry = meta["geometry_name"] or "wkb_geometry"
        first = 0
        while True:
            with _named(layer.name, layer.selection):
                found = next(reader, None)
                if found is None:
                    return
                column = stored(found.column(geometry))
            columns = columns_by_name((name, found.column(name)) for name in names)
            columns |= {name: _spelled(columns[name]) for name in numbers.lossy}
            yield Batch(column, columns, crs, layer.name, first, as_text=numbers.large)
            first += len(found)


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
    wide = [name for name in names if fields[name] == "OFTInteger64"] + (_long(layer.path, reals) if reals else [])
    if not wide:
        return _Numbers()
    large: set[str] = set()
    lossy: set[str] = set()
    fractions: set[str] = set()
    with _named(layer.name, layer.selection), layer.open(wide, rows=_MOST_ROWS, geometry=False) as (_, reader):
        for found in reader:
            for name in wide:
                column = found.column(name)
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


def _long(path: Path, names: list[str]) -> list[str]:
    """Choose columns that may have whole numbers beyond 64 bits in a text of JSON, which makes them ones of floats."""
    if path.suffix.lower() not in (".geojson", ".json", ".geojsonl", ".geojsons", ".ndjson", ".topojson"):
        return names  # an archive, as it may be
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        keys = {found[1] for found in _LONG_NUMBER.finditer(text) if found[2] is None or int(found[2]) > _MOST}
    found = {json.loads(key.decode(errors="replace"), strict=False) for key in keys}
    return [name for name in names if name in found]


def _spelled(column: pa.Array) -> pa.Array:
    """Give numbers as they stand in a CSV, whose empty fields are no text."""
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _options(file: SourceFile, path: Path, selection: Selection) -> dict[str, str]:
    """Tell GDAL's driver for CSV which columns are coordinates, and to look at all of them before it names types."""
    if file.suffix not in (".csv", ".tsv"):
        selection.only("layer", "where", "columns", "bbox", of=f"{file.suffix or 'such'} files")
        return {}
    with _named(file.name, selection):
        header = list(map(str, pyogrio.read_info(path)["fields"]))
    candidates = {
        name: [chosen] if chosen else _matching(header, usual)
        for name, chosen, usual in (("x", selection.x, _CSV_X), ("y", selection.y, _CSV_Y))
    }
    if any(len(found) > 1 for found in candidates.values()):
        listed = " and ".join(f"{name}= is one of {', '.join(found)}" for name, found in candidates.items())
        raise UnreadableSourceError(f"{file.name} has several columns that may be coordinates: say which: {listed}.")
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


def _rows(file: SourceFile, info: dict[str, Any]) -> int:
    if file.path is None or not file.path.is_file() or info["features"] <= 0:
        return _BATCH_ROWS
    each = max(1, file.path.stat().st_size // int(info["features"]))
    return max(1, min(_MOST_ROWS, _BATCH_BYTES // each))


def _may_be_curved(geometry_type: str) -> bool:
    return any(word in geometry_type for word in ("Unknown", "Curve", "Circular", "Surface", "Collection"))


@contextmanager
def _linear(layer: _Layer) -> Iterator[_Layer]:
    """Have GDAL linearise curves as it reads, which its Arrow interface does not do by itself."""
    source = vsi_path(str(layer.path.absolute()))
    steps = ["gdal vector pipeline ! read", _quoted(source)]
    if layer.selection.layer is not None:
        name = layer.selection.layer
        named = name if isinstance(name, str) else str(pyogrio.list_layers(layer.path)[name][0])
        steps += ["--layer", _quoted(named)]
    for option, value in layer.options.items():
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
        chosen = Selection(where=layer.selection.where, bbox=layer.selection.bbox)
        yield _Layer(layer.name, pipeline, chosen)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@contextmanager
def _named(name: str, selection: Selection) -> Iterator[None]:
    """Say of which file it is that reading it failed, and what may be wrong."""
    problem = None
    try:
        yield
    except ExportError:
        raise
    except _ERRORS as error:
        # What GDAL would help with is its own command line.
        problem = (str(error).splitlines() or [type(error).__name__])[0].partition("; It might help")[0].rstrip(".;")
    if problem is not None:
        chosen = [
            f"{option}={value!r}" for option in ("layer", "where", "bbox") if (value := getattr(selection, option))
        ]
        advice = f"Check {', '.join(chosen)}" if chosen else "Look at the task that wrote it"
        raise UnreadableSourceError(f"{name} cannot be read by GDAL: {problem}. {advice}.")
