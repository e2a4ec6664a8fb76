"""Read GeoParquet (https://geoparquet.org/releases/v1.1.0/) by pages of its row groups."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyproj import CRS
from pyproj.exceptions import CRSError

from airflow_mapbox.errors import ExportError
from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.geometry.decode import to_storage
from airflow_mapbox.export.geometry.shapes import KINDS, Kind
from airflow_mapbox.export.options import Selection
from airflow_mapbox.export.readers.batch import Batch, arrow_bytes, row_bytes
from airflow_mapbox.export.text.attributes import (
    MAX_EXACT_INTEGER,
    can_hold_large_integers,
    columns_by_name,
    has_large_integers,
    index_attributes,
)
from airflow_mapbox.sources.files import SourceFile

# Uncompressed bytes of a batch. All threads wait for the first batch, so it must not be too large.
READ_BYTES = 4 << 20
_FIRST_ROWS = 256  # a first batch, to measure the size of rows
_MAX_ROWS = 32_768  # because later rows may be larger
# A request to object storage takes tens of milliseconds.
_LOCAL_BUFFER_BYTES, _REMOTE_BUFFER_BYTES = 1 << 20, 8 << 20

_SUFFIXES = (".parquet", ".geoparquet", ".pq")
_DEFAULT_CRS = "OGC:CRS84"
_KINDS_BY_ENCODING = {kind.name.lower(): kind for kind in KINDS.values()}


def is_parquet(file: SourceFile) -> bool:
    """
    Return whether a file is Parquet, by its extension or else by its first bytes.

    :param file: a local or remote file.
    """
    if file.suffix in _SUFFIXES:
        return True
    if file.path is not None and not file.path.is_file():
        return False
    with file.open() as stream:
        return stream.read(4) == b"PAR1"


def read_geoparquet(file: SourceFile, selection: Selection) -> Iterator[Batch]:
    """
    Read a GeoParquet file.

    :param file: a local or remote file.
    :param selection: the columns to read.
    :return: batches of about four megabytes.
    :raises UnreadableSourceError: if it is not GeoParquet, or cannot be read.
    """
    selection.allow_only("columns", source="GeoParquet")
    if file.path is not None and not file.path.is_file():
        raise UnreadableSourceError(f"{file.name} is a folder: name one GeoParquet file in it.")
    with file.open() as stream:
        with _named(file):
            buffer = _LOCAL_BUFFER_BYTES if file.path is not None else _REMOTE_BUFFER_BYTES
            # With a buffer, row groups of any size are read in parts. From a path, Arrow reads the file without Python.
            parquet = pq.ParquetFile(
                file.path if file.path is not None else stream, pre_buffer=False, buffer_size=buffer
            )
        with parquet:
            yield from _batches(file, parquet, selection)


def _batches(file: SourceFile, parquet: pq.ParquetFile, selection: Selection) -> Iterator[Batch]:
    metadata = _metadata(parquet)
    geometry = _geometry_column(file, parquet.schema_arrow.names, metadata)
    attributes = _attributes(parquet.schema_arrow.names, geometry, metadata)
    columns_by_name((name, pa.nulls(0)) for name, _ in attributes)  # Arrow cannot read two columns with the same name
    chosen = set(selection.choose_columns(name for name, _ in attributes))
    attributes = [(name, origin) for name, origin in attributes if name in chosen]
    fields = [origin for _, origin in attributes if isinstance(origin, str)]
    with _named(file):
        as_text = frozenset(_columns_with_large_integers(parquet, fields))
        record_batches = _record_batches(parquet, [*fields, geometry.name])
        record_batches = _without_extension_type(parquet.schema_arrow, geometry.name, record_batches)
    first = 0
    while True:
        # Not around the yield: an error that is raised there is not an error of this file.
        with _named(file):
            record_batch = _next(record_batches)
            if record_batch is None:
                return
            column = to_storage(record_batch.column(geometry.name), geometry.kind)
        columns = {
            name: record_batch.column(origin)
            if isinstance(origin, str)
            else _range_values(origin, first, len(record_batch))
            for name, origin in attributes
        }
        total = parquet.metadata.num_rows
        yield Batch(column, columns, geometry.crs, file.name, first, geometry.kind, as_text, total=total)
        first += len(record_batch)


def _metadata(parquet: pq.ParquetFile) -> dict[bytes, bytes]:
    """Return the metadata of the file. The file's own keys replace those of its Arrow schema, which may lack some."""
    return {**(parquet.schema_arrow.metadata or {}), **(parquet.metadata.metadata or {})}


def _attributes(
    names: list[str], geometry: _GeometryColumn, metadata: dict[bytes, bytes]
) -> list[tuple[str, str | range]]:
    """Return the attributes of the file with the origin of each: a column, or the range of a pandas index."""
    index = _pandas_index(metadata)
    excluded = geometry.not_attributes.union(str(origin) for _, origin in index)
    columns = [name for name in names if name not in excluded]
    levels = zip(index_attributes([name for name, _ in index], columns), (origin for _, origin in index), strict=True)
    index_columns = [
        (name, origin) for name, origin in levels if name is not None and (isinstance(origin, range) or origin in names)
    ]
    return [*index_columns, *((name, name) for name in columns)]


def _pandas_index(metadata: dict[bytes, bytes]) -> list[tuple[object, str | range]]:
    """
    Return the levels of the pandas index: the name of each, and its column or range.

    https://arrow.apache.org/docs/python/pandas.html, and pandas' developer documentation, "Storing pandas DataFrame
    objects in Apache Parquet format".
    """
    try:
        pandas = json.loads(metadata.get(b"pandas", b"{}"))
        names = {column.get("field_name", column["name"]): column["name"] for column in pandas.get("columns", ())}
        return [
            (names.get(level), level)
            if isinstance(level, str)
            else (level["name"], range(level["start"], level["stop"], level["step"]))
            for level in pandas.get("index_columns", ())
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        return []  # not written by pandas: every column is an attribute


def _range_values(numbers: range, first: int, count: int) -> pa.Array:
    start = numbers.start + numbers.step * first
    return pa.array(range(start, start + numbers.step * count, numbers.step), pa.int64())


def _next(record_batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    """Read the next batch. The benchmarks measure this function."""
    return next(record_batches, None)


def _without_extension_type(
    schema: pa.Schema, geometry: str, record_batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Cast the geometry from GeoArrow's types in Arrow. In Python, each batch would parse their CRS several times."""
    field = schema.field(geometry)
    if not isinstance(field.type, pa.BaseExtensionType):
        return record_batches
    first = next(record_batches, None)
    if first is None:
        return iter(())
    schema = first.schema
    storage = schema.set(schema.get_field_index(geometry), pa.field(geometry, field.type.storage_type))
    return iter(pa.RecordBatchReader.from_batches(schema, itertools.chain((first,), record_batches)).cast(storage))


def _record_batches(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """
    Read batches of as many rows as fit into :data:`READ_BYTES`.

    The size of rows is only known after reading some. A string of a dictionary is in the file once, but in memory in
    each row. A reader of Arrow cannot change its number of rows, so a new reader continues if the number is wrong. It
    is raised once, and lowered each time that it must be at most half.
    """
    max_rows = _rows_by_file_size(parquet)
    encoded = [name for name in columns if pa.types.is_dictionary(parquet.schema_arrow.field(name).type)]
    done, rows = 0, min(max_rows, _FIRST_ROWS)
    new_reader = True
    while new_reader:
        new_reader = False
        for record_batch in _read_from(parquet, columns, done, rows):
            yield record_batch
            fitting = max(1, min(max_rows, READ_BYTES * len(record_batch) // max(_bytes(record_batch, encoded), 1)))
            new_reader = fitting <= rows // 2 or (done == 0 and fitting > rows)
            done += len(record_batch)
            if new_reader:
                rows = fitting
                break


def _bytes(record_batch: pa.RecordBatch, encoded: list[str]) -> int:
    """
    Return the size of a batch. Of a dictionary, only the values of its rows count: it always has those of the file.

    :param encoded: columns that have a dictionary.
    """
    size = arrow_bytes(record_batch)
    for name in encoded:
        column = record_batch.column(name)
        size += int(row_bytes(column).sum()) - arrow_bytes(column.dictionary)
    return size


def _read_from(parquet: pq.ParquetFile, columns: list[str], first: int, rows: int) -> Iterator[pa.RecordBatch]:
    """Read all rows from the row ``first``, in batches of this many rows."""
    group = 0
    while group < parquet.num_row_groups and first >= parquet.metadata.row_group(group).num_rows:
        first -= parquet.metadata.row_group(group).num_rows
        group += 1
    groups = list(range(group, parquet.num_row_groups))
    for record_batch in parquet.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
        if first < len(record_batch):
            yield record_batch.slice(first) if first else record_batch
        first = max(first - len(record_batch), 0)


def _rows_by_file_size(parquet: pq.ParquetFile) -> int:
    """Return the rows of a batch by their size in the file, which is encoded and so smaller than in memory."""
    metadata = parquet.metadata
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return max(1, min(_MAX_ROWS, READ_BYTES * max(int(metadata.num_rows), 1) // max(int(size), 1)))


def _columns_with_large_integers(parquet: pq.ParquetFile, names: list[str]) -> Iterator[str]:
    """Yield columns that have integers beyond 2^53, by their statistics or else by reading them."""
    schema, metadata = parquet.schema_arrow, parquet.metadata
    indices = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
    for name in names:
        if can_hold_large_integers(schema.field(name).type) and _is_large(parquet, name, indices[name]):
            yield name


def _is_large(parquet: pq.ParquetFile, name: str, index: int) -> bool:
    for group in range(parquet.metadata.num_row_groups):
        statistics = parquet.metadata.row_group(group).column(index).statistics
        if statistics is None or not statistics.has_min_max:
            read = parquet.iter_batches(1 << 20, columns=[name], use_threads=False)
            return any(has_large_integers(batch.column(0)) for batch in read)
        if statistics.max > MAX_EXACT_INTEGER or statistics.min < -MAX_EXACT_INTEGER:
            return True
    return False


@contextmanager
def _named(file: SourceFile) -> Iterator[None]:
    """Name the file in errors of Arrow and of the file system."""
    problem = None
    try:
        yield
    except ExportError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
    if problem is not None:
        raise UnreadableSourceError(
            f"{file.name} cannot be read as GeoParquet: {problem.rstrip('.')}.\nCheck the task that wrote it."
        )


@dataclass(frozen=True)
class _GeometryColumn:
    """
    The primary geometry of a GeoParquet file.

    :param name: the column.
    :param kind: the kind of all geometries, for native encodings; None for WKB.
    :param crs: the reference system, or None if it is unknown.
    :param not_attributes: all geometry columns, and columns with boxes of geometries.
    """

    name: str
    kind: Kind | None
    crs: CRS | None
    not_attributes: frozenset[str]


def _geometry_column(file: SourceFile, names: list[str], metadata: dict[bytes, bytes]) -> _GeometryColumn:
    """Read the metadata of the geometry column (GeoParquet 1.1, "File metadata")."""
    if b"geo" not in metadata:
        raise UnreadableSourceError(
            f"{file.name} is Parquet but not GeoParquet: it does not name a geometry column.\nWrite it with "
            "GeoDataFrame.to_parquet."
        )
    try:
        geo = json.loads(metadata[b"geo"])
        name = geo["primary_column"]
        columns = geo["columns"]
        column = columns[name]
        encoding = column["encoding"]
        # If the key is absent, the default is longitude, latitude; null means unknown.
        crs = column.get("crs", _DEFAULT_CRS)
        # Columns of boxes that speed up filters.
        boxes = {
            corner[0] for other in columns.values() for corner in other.get("covering", {}).get("bbox", {}).values()
        }
        geometry = _GeometryColumn(
            name,
            None if encoding == "WKB" else _KINDS_BY_ENCODING[encoding],
            None if crs is None else _crs(crs),
            frozenset(columns) | boxes,
        )
    except (ValueError, LookupError, TypeError, AttributeError, CRSError):
        geometry = None
    if geometry is None or geometry.name not in names:
        raise UnreadableSourceError(
            f"{file.name} has invalid GeoParquet metadata.\nRewrite it with GeoDataFrame.to_parquet."
        )
    if column.get("edges", "planar") != "planar":
        raise UnreadableSourceError(
            f"{file.name} has {column['edges']} edges: GeoJSON's edges are straight in longitude and latitude.\n"
            "Densify them first."
        )
    return geometry


def _crs(definition: Any) -> CRS:
    """
    Read a reference system in PROJJSON (GeoParquet 1.1, "crs").

    geopandas omits the identifiers of a datum ensemble's members. PROJ then searches for the members by name, which
    takes tens of milliseconds for WGS 84 in each thread. If a definition differs only in those from the system of its
    own identifier, that system is used.
    """
    try:
        registered = CRS.from_authority(definition["id"]["authority"], definition["id"]["code"])
    except (LookupError, TypeError, CRSError):
        return CRS.from_user_input(definition)
    is_same = _without_member_ids(registered.to_json_dict()) == _without_member_ids(definition)
    return registered if is_same else CRS.from_user_input(definition)


def _without_member_ids(definition: Any) -> Any:
    """Return a definition without identifiers of ensemble members, and without its PROJJSON version."""
    if not isinstance(definition, dict):
        return definition
    kept = {name: _without_member_ids(value) for name, value in definition.items() if name != "$schema"}
    if isinstance(members := definition.get("members"), list):
        kept["members"] = [{**member, "id": None} if isinstance(member, dict) else member for member in members]
    return kept
