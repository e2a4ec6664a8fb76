"""Every source as a stream of GeoDataFrames of bounded size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from airflow_mapbox.export.errors import UnreadableSourceError

# A frame, frames, or a GeoParquet file.
ExportSource: TypeAlias = "geopandas.GeoDataFrame | Iterable[geopandas.GeoDataFrame] | str | PathLike[str]"

# Rows at a time: enough for the vectorised work to dominate, little enough for a batch of large polygons to fit.
BATCH_ROWS = 20_000

_WGS84 = "OGC:CRS84"
_ENCODINGS = ("WKB", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon")


def batches(source: ExportSource, *, rows: int = BATCH_ROWS) -> Iterator[geopandas.GeoDataFrame]:
    """
    Read a source in batches.

    :param source: a GeoDataFrame, an iterable of them, or the path of a GeoParquet file.
    :param rows: features a batch, at most.
    :return: frames with their own CRS, or None where the source does not know it.
    :raises UnreadableSourceError: where the file is missing or no GeoParquet, or an item is no GeoDataFrame.
    """
    if isinstance(source, geopandas.GeoDataFrame):
        yield from _slices(source, rows)
    elif isinstance(source, str | PathLike):
        yield from _geoparquet(Path(source), rows)
    elif isinstance(source, Iterable):
        for index, frame in enumerate(source):
            if not isinstance(frame, geopandas.GeoDataFrame):
                raise UnreadableSourceError(
                    f"Item {index} of the source is a {type(frame).__name__}, not a GeoDataFrame. Make one of it with "
                    "geopandas.GeoDataFrame(frame, geometry=…, crs=…)."
                )
            yield from _slices(frame, rows)
    else:
        raise UnreadableSourceError(
            f"A {type(source).__name__} cannot be exported: give a GeoDataFrame, an iterable of them, or the path of a "
            "GeoParquet file."
        )


def _slices(frame: geopandas.GeoDataFrame, rows: int) -> Iterator[geopandas.GeoDataFrame]:
    if frame.active_geometry_name is None:
        raise UnreadableSourceError(
            "A GeoDataFrame has no active geometry column. Name one with frame.set_geometry(column)."
        )
    for start in range(0, len(frame), rows):
        yield frame.iloc[start : start + rows]


def _geoparquet(path: Path, rows: int) -> Iterator[geopandas.GeoDataFrame]:
    if not path.is_file():
        raise UnreadableSourceError(f"The GeoParquet file {path} does not exist.")
    with _named(path):
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    with file:
        geometry = _geometry_column(path, file.schema_arrow)
        read = file.iter_batches(rows, use_threads=False)
        while True:
            # Not around the yield as well: what is raised there is not of this file.
            with _named(path):
                batch = next(read, None)
                frame = None if batch is None else _frame(pa.Table.from_batches([batch]), geometry)
            if frame is None:
                return
            yield frame


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say of which file it is that reading it failed."""
    problem = None
    try:
        yield
    # shapely has no curves, which it says with a NotImplementedError.
    except (pa.ArrowException, OSError, ValueError, NotImplementedError, shapely.errors.ShapelyError) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
    if problem is not None:
        raise UnreadableSourceError(
            f"{path} cannot be read as GeoParquet: {problem.rstrip('.')}. Read another format with "
            "geopandas.read_file and export the frame."
        )


@dataclass(frozen=True)
class _GeometryColumn:
    """What GeoParquet says of its primary geometry: a CRS, or None for an unknown one, and columns of boxes."""

    name: str
    encoding: str
    crs: CRS | None
    coverings: tuple[str, ...]


def _geometry_column(path: Path, schema: pa.Schema) -> _GeometryColumn:
    """Read what GeoParquet says of the geometry column (GeoParquet 1.1, "File metadata")."""
    metadata = schema.metadata or {}
    if b"geo" not in metadata:
        raise UnreadableSourceError(
            f"{path} is Parquet but not GeoParquet: it does not say which column is the geometry. Write it with "
            "GeoDataFrame.to_parquet."
        )
    try:
        geo = json.loads(metadata[b"geo"])
        name = geo["primary_column"]
        column = geo["columns"][name]
        # Absent means longitude, latitude; null means that nobody knows.
        crs = column.get("crs", _WGS84)
        found = _GeometryColumn(
            name=name,
            encoding=column["encoding"],
            crs=None if crs is None else CRS.from_user_input(crs),
            coverings=tuple({corner[0] for corner in column.get("covering", {}).get("bbox", {}).values()}),
        )
    except (ValueError, LookupError, TypeError, AttributeError, CRSError):
        found = None
    if found is None or found.name not in schema.names or found.encoding not in _ENCODINGS:
        raise UnreadableSourceError(
            f"{path} has GeoParquet metadata that make no sense: rewrite it with GeoDataFrame.to_parquet."
        )
    if column.get("edges", "planar") != "planar":
        raise UnreadableSourceError(
            f"{path} has {column['edges']} edges: GeoJSON's edges are straight in longitude and latitude. Densify them "
            "first."
        )
    return found


def _frame(table: pa.Table, geometry: _GeometryColumn) -> geopandas.GeoDataFrame:
    column = table.column(geometry.name)
    if geometry.encoding == "WKB":
        geometries = geopandas.GeoSeries.from_wkb(column.to_pandas(), crs=geometry.crs)
    else:
        extension = {"ARROW:extension:name": f"geoarrow.{geometry.encoding}"}
        field = pa.field(geometry.name, column.type, metadata=extension)
        geometries = geopandas.GeoSeries.from_arrow(_Exported(field, column), crs=geometry.crs)
    left_out = {geometry.name, *geometry.coverings}
    # As floats, integers beside a null would lose digits and change their type from batch to batch.
    rest = table.drop_columns([name for name in table.column_names if name in left_out]).to_pandas(
        integer_object_nulls=True
    )
    return geopandas.GeoDataFrame(rest, geometry=geometries.to_numpy(), crs=geometry.crs)


class _Exported:
    """An Arrow array whose field carries an extension name, which pyarrow only passes on with its field."""

    def __init__(self, field: pa.Field, column: pa.ChunkedArray) -> None:
        self._table = pa.Table.from_arrays([column], schema=pa.schema([field]))

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        schema = self._table.schema.field(0).__arrow_c_schema__()
        _, array = self._table.column(0).combine_chunks().__arrow_c_array__(requested_schema)
        return schema, array
