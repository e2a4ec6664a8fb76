"""What GDAL reads: GeoPackage, shapefile, FlatGeobuf, GeoJSON, KML, GPX, CSV and more, as a stream of Arrow batches."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from pyogrio.util import vsi_path
from pyproj import CRS

from airflow_mapbox.export.attributes import columns_by_name, large_integers
from airflow_mapbox.export.batch import Batch
from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.sources.files import SourceFile
from airflow_mapbox.export.sources.selection import Selection

_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 8_000  # where the size of a feature is not known
_MOST_ROWS = 65_536

# As Mapbox recognises columns of CSV (preflight/formats.py).
_CSV_X, _CSV_Y, _CSV_GEOMETRY = "x,lon,lng,long,*longitude*", "y,lat,*latitude*", "wkt,geojson,*geom*"

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
        layer = _Layer(file.name, stack.enter_context(file.local()), selection, _options(file, selection))
        with _named(file.name, selection):
            info = layer.info()
        names = selection.chosen(map(str, info["fields"]))
        if info["geometry_type"] is None:
            raise UnreadableSourceError(
                f"{file.name} has no geometry. Name its columns of coordinates with x= and y=, or another layer with "
                "layer=…"
            )
        if _may_be_curved(info["geometry_type"]):
            layer = stack.enter_context(_linear(layer))
        wide = [
            name
            for name, kind in zip(map(str, info["fields"]), info["ogr_types"], strict=True)
            if kind == "OFTInteger64" and name in names
        ]
        as_text = frozenset(_large(layer, wide)) if wide else frozenset()
        yield from _batches(layer, names, as_text, _rows(file, info))


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
        return dict(pyogrio.read_info(self.path, layer=self.selection.layer, **self.options))

    @contextmanager
    def open(self, columns: list[str], *, rows: int, geometry: bool) -> Iterator[tuple[dict[str, Any], Any]]:
        with pyogrio.open_arrow(
            self.path,
            layer=self.selection.layer,
            columns=columns,
            where=self.selection.where,
            bbox=self.selection.bbox,
            read_geometry=geometry,
            batch_size=rows,
            use_pyarrow=True,
            # With the zone that each has; Arrow has one for a column.
            datetime_as_string=True,
            **self.options,
        ) as opened:
            yield opened


def _batches(layer: _Layer, names: list[str], as_text: frozenset[str], rows: int) -> Iterator[Batch]:
    with ExitStack() as stack:
        with _named(layer.name, layer.selection):
            meta, reader = stack.enter_context(layer.open(names, rows=rows, geometry=True))
        crs = None if meta["crs"] is None else CRS.from_user_input(meta["crs"])
        geometry = meta["geometry_name"] or "wkb_geometry"
        first = 0
        while True:
            with _named(layer.name, layer.selection):
                found = next(reader, None)
            if found is None:
                return
            column = found.column(geometry)
            column = column.storage if isinstance(column, pa.ExtensionArray) else column
            columns = columns_by_name((name, found.column(name)) for name in names)
            yield Batch(column, columns, crs, layer.name, first, as_text=as_text)
            first += len(found)


def _large(layer: _Layer, names: list[str]) -> set[str]:
    """Find columns that have integers past 2^53, by reading them without their geometries."""
    large: set[str] = set()
    with _named(layer.name, layer.selection), layer.open(names, rows=_MOST_ROWS, geometry=False) as (_, reader):
        for found in reader:
            large |= {name for name in names if name not in large and large_integers(found.column(name))}
    return large


def _options(file: SourceFile, selection: Selection) -> dict[str, str]:
    """Tell GDAL's driver for CSV which columns are coordinates, and to look at all of them before it names types."""
    if file.suffix not in (".csv", ".tsv"):
        selection.only("layer", "where", "columns", "bbox", of=f"{file.suffix or 'such'} files")
        return {}
    return {
        "X_POSSIBLE_NAMES": selection.x or _CSV_X,
        "Y_POSSIBLE_NAMES": selection.y or _CSV_Y,
        "GEOM_POSSIBLE_NAMES": _CSV_GEOMETRY,
        "KEEP_GEOM_COLUMNS": "NO",
        "AUTODETECT_TYPE": "YES",
        "AUTODETECT_SIZE_LIMIT": "0",
    }


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
    except UnreadableSourceError:
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
