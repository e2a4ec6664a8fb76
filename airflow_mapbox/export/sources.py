"""Every source as a stream of GeoDataFrames of bounded size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mapbox.export.errors import UnreadableSourceError

if TYPE_CHECKING:
    from pyproj import CRS

# A frame, frames, or a GeoParquet file.
ExportSource: TypeAlias = "geopandas.GeoDataFrame | Iterable[geopandas.GeoDataFrame] | str | PathLike[str]"

# Rows at a time: enough for the vectorised work to dominate, little enough for a batch of large polygons to fit.
BATCH_ROWS = 20_000

_WGS84 = "OGC:CRS84"


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
    problem = None
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except pa.ArrowInvalid as error:
        problem = str(error).splitlines()[0]
    if problem is not None:
        raise UnreadableSourceError(
            f"{path} cannot be read as Parquet: {problem} Read another format with geopandas.read_file and export the "
            "frame."
        )
    with file:
        geometry, crs, encoding = _geo_metadata(path, file.schema_arrow.metadata or {})
        for batch in file.iter_batches(rows, use_threads=False):
            yield _frame(pa.Table.from_batches([batch]), geometry, crs, encoding)


def _geo_metadata(path: Path, metadata: dict[bytes, bytes]) -> tuple[str, Any, str]:
    """Read what GeoParquet says of the geometry column (GeoParquet 1.1, "File metadata")."""
    if b"geo" not in metadata:
        raise UnreadableSourceError(
            f"{path} is Parquet but not GeoParquet: it does not say which column is the geometry. Write it with "
            "GeoDataFrame.to_parquet."
        )
    geo = json.loads(metadata[b"geo"])
    name = geo["primary_column"]
    column = geo["columns"][name]
    if column.get("edges", "planar") != "planar":
        raise UnreadableSourceError(
            f"{path} has {column['edges']} edges: GeoJSON's edges are straight in longitude and latitude. Densify them "
            "first."
        )
    # Absent means longitude, latitude; null means that nobody knows.
    return name, column.get("crs", _WGS84), column["encoding"]


def _frame(table: pa.Table, geometry: str, crs: CRS | None, encoding: str) -> geopandas.GeoDataFrame:
    column = table.column(geometry)
    if encoding == "WKB":
        geometries = geopandas.GeoSeries.from_wkb(column.to_pandas(), crs=crs)
    else:
        field = pa.field(geometry, column.type, metadata={"ARROW:extension:name": f"geoarrow.{encoding}"})
        geometries = geopandas.GeoSeries.from_arrow(_Exported(field, column), crs=crs)
    return geopandas.GeoDataFrame(table.drop_columns([geometry]).to_pandas(), geometry=geometries.to_numpy(), crs=crs)


class _Exported:
    """An Arrow array whose field carries an extension name, which pyarrow only passes on with its field."""

    def __init__(self, field: pa.Field, column: pa.ChunkedArray) -> None:
        self._table = pa.Table.from_arrays([column], schema=pa.schema([field]))

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        schema = self._table.schema.field(0).__arrow_c_schema__()
        _, array = self._table.column(0).combine_chunks().__arrow_c_array__(requested_schema)
        return schema, array
