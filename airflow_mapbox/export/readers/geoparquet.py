"""GeoParquet, read by pages of its row groups: https://geoparquet.org/releases/v1.1.0/."""

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
from airflow_mapbox.export.geometry.decode import stored
from airflow_mapbox.export.geometry.shapes import KINDS, Kind
from airflow_mapbox.export.options import Selection
from airflow_mapbox.export.readers.batch import Batch, row_bytes
from airflow_mapbox.export.text.attributes import EXACT, columns_by_name, index_attributes, large_integers, may_be_large
from airflow_mapbox.sources.files import SourceFile

READ_BYTES = 4 << 20  # uncompressed, of a file that is read from start to end; until the first, all wait
_FIRST_ROWS = 256  # to see how large they are
_MOST_ROWS = 32_768  # since the next ones may be larger
_LOCAL_BUFFER, _REMOTE_BUFFER = 1 << 20, 8 << 20  # bytes a read: a request to object storage costs tens of milliseconds

_SUFFIXES = (".parquet", ".geoparquet", ".pq")
_LONGITUDE_LATITUDE = "OGC:CRS84"
_NATIVE = {kind.name.lower(): kind for kind in KINDS.values()}


def is_parquet(file: SourceFile) -> bool:
    """
    Say whether a file is Parquet by its name, else by its first bytes.

    :param file: local or remote.
    """
    if file.suffix in _SUFFIXES:
        return True
    if file.path is not None and not file.path.is_file():
        return False
    with file.open() as stream:
        return stream.read(4) == b"PAR1"


def read_geoparquet(file: SourceFile, selection: Selection) -> Iterator[Batch]:
    """
    Read GeoParquet.

    :param file: local or remote.
    :param selection: of its columns.
    :return: batches of about four megabytes.
    :raises UnreadableSourceError: where it is no GeoParquet.
    """
    selection.allow_only("columns", source="GeoParquet")
    if file.path is not None and not file.path.is_file():
        raise UnreadableSourceError(f"{file.name} is a folder: name one GeoParquet file in it.")
    with file.open() as stream:
        with _named(file):
            buffer = _LOCAL_BUFFER if file.path is not None else _REMOTE_BUFFER
            # Buffered: row groups of any size are read by pieces. From a local path, since Arrow then reads it itself.
            parquet = pq.ParquetFile(
                file.path if file.path is not None else stream, pre_buffer=False, buffer_size=buffer
            )
        with parquet:
            yield from _batches(file, parquet, selection)


def _batches(file: SourceFile, parquet: pq.ParquetFile, selection: Selection) -> Iterator[Batch]:
    metadata = _metadata(parquet)
    geometry = _geometry_column(file, parquet.schema_arrow.names, metadata)
    attributes = _attributes(parquet.schema_arrow.names, geometry, metadata)
    columns_by_name((name, pa.nulls(0)) for name, _ in attributes)  # before Arrow cannot tell two columns apart
    chosen = set(selection.choose_columns(name for name, _ in attributes))
    attributes = [(name, place) for name, place in attributes if name in chosen]
    fields = [place for _, place in attributes if isinstance(place, str)]
    with _named(file):
        as_text = frozenset(_large(parquet, fields))
        read = _plain(parquet.schema_arrow, geometry.name, _record_batches(parquet, [*fields, geometry.name]))
    first = 0
    while True:
        # Not around the yield as well: what is raised there is not of this file.
        with _named(file):
            found = _next(read)
            if found is None:
                return
            column = stored(found.column(geometry.name), geometry.kind)
        columns = {
            name: found.column(place) if isinstance(place, str) else _counted(place, first, len(found))
            for name, place in attributes
        }
        yield Batch(column, columns, geometry.crs, file.name, first, geometry.kind, as_text)
        first += len(found)


def _metadata(parquet: pq.ParquetFile) -> dict[bytes, bytes]:
    """Read what the file says of itself. Its own key wins over that of the Arrow schema in it, which may lack some."""
    return {**(parquet.schema_arrow.metadata or {}), **(parquet.metadata.metadata or {})}


def _attributes(
    names: list[str], geometry: _GeometryColumn, metadata: dict[bytes, bytes]
) -> list[tuple[str, str | range]]:
    """Name the attributes of the file, and for each its column, or what pandas counts in place of one."""
    index = _pandas_index(metadata)
    left_out = geometry.not_attributes.union(str(of) for _, of in index)
    others = [name for name in names if name not in left_out]
    levels = zip(index_attributes([name for name, _ in index], others), (of for _, of in index), strict=True)
    there = [(name, of) for name, of in levels if name is not None and (isinstance(of, range) or of in names)]
    return [*there, *((name, name) for name in others)]


def _pandas_index(metadata: dict[bytes, bytes]) -> list[tuple[object, str | range]]:
    """
    Read what pandas says of its index: the name of each level, and its column or range.

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
        return []  # written by another program: every column is an attribute


def _counted(numbers: range, first: int, count: int) -> pa.Array:
    start = numbers.start + numbers.step * first
    return pa.array(range(start, start + numbers.step * count, numbers.step), pa.int64())


def _next(read: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next(read, None)


def _plain(schema: pa.Schema, geometry: str, read: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Have Arrow take geometries out of GeoArrow's types: in Python each batch would parse their CRS several times."""
    field = schema.field(geometry)
    if not isinstance(field.type, pa.BaseExtensionType):
        return read
    first = next(read, None)
    if first is None:
        return iter(())
    given = first.schema
    storage = given.set(given.get_field_index(geometry), pa.field(geometry, field.type.storage_type))
    return iter(pa.RecordBatchReader.from_batches(given, itertools.chain((first,), read)).cast(storage))


def _record_batches(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """
    Read pages, as many rows at a time as fit into :data:`READ_BYTES`.

    How many those are only what was read tells: a text of a dictionary is in the file once, and in memory in each row.
    A reader keeps its number of rows, so another one goes on where it turns out to be wrong: once for more of them, and
    each time for at most half.
    """
    most = _rows(parquet)
    encoded = [name for name in columns if pa.types.is_dictionary(parquet.schema_arrow.field(name).type)]
    done, rows = 0, min(most, _FIRST_ROWS)
    again = True
    while again:
        again = False
        for found in _from(parquet, columns, done, rows):
            yield found
            fitting = max(1, min(most, READ_BYTES * len(found) // max(_size(found, encoded), 1)))
            again = fitting <= rows // 2 or (done == 0 and fitting > rows)
            done += len(found)
            if again:
                rows = fitting
                break


def _size(found: pa.RecordBatch, encoded: list[str]) -> int:
    """
    Say how many bytes a batch takes, of dictionaries only the values that it has: each comes with all of the file's.

    :param encoded: columns that have a dictionary.
    """
    size = int(found.nbytes)
    for name in encoded:
        column = found.column(name)
        size += int(row_bytes(column).sum()) - int(column.dictionary.nbytes)
    return size


def _from(parquet: pq.ParquetFile, columns: list[str], first: int, rows: int) -> Iterator[pa.RecordBatch]:
    """Read from a row on."""
    group = 0
    while group < parquet.num_row_groups and first >= parquet.metadata.row_group(group).num_rows:
        first -= parquet.metadata.row_group(group).num_rows
        group += 1
    groups = list(range(group, parquet.num_row_groups))
    for found in parquet.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
        if first < len(found):
            yield found.slice(first) if first else found
        first = max(first - len(found), 0)


def _rows(parquet: pq.ParquetFile) -> int:
    """Give the rows of a batch as the file has them: encoded, without what each page and dictionary repeats."""
    metadata = parquet.metadata
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return max(1, min(_MOST_ROWS, READ_BYTES * max(int(metadata.num_rows), 1) // max(int(size), 1)))


def _large(parquet: pq.ParquetFile, names: list[str]) -> Iterator[str]:
    """Choose columns that have integers past 2^53, by their statistics or else by reading them."""
    schema, metadata = parquet.schema_arrow, parquet.metadata
    places = {metadata.schema.column(place).path: place for place in range(metadata.num_columns)}
    for name in names:
        if may_be_large(schema.field(name).type) and _is_large(parquet, name, places[name]):
            yield name


def _is_large(parquet: pq.ParquetFile, name: str, place: int) -> bool:
    for group in range(parquet.metadata.num_row_groups):
        statistics = parquet.metadata.row_group(group).column(place).statistics
        if statistics is None or not statistics.has_min_max:
            read = parquet.iter_batches(1 << 20, columns=[name], use_threads=False)
            return any(large_integers(batch.column(0)) for batch in read)
        if statistics.max > EXACT or statistics.min < -EXACT:
            return True
    return False


@contextmanager
def _named(file: SourceFile) -> Iterator[None]:
    """Say of which file it is that reading it failed."""
    problem = None
    try:
        yield
    except ExportError:
        raise  # of the stream
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
    if problem is not None:
        raise UnreadableSourceError(
            f"{file.name} cannot be read as GeoParquet: {problem.rstrip('.')}.\nLook at the task that wrote it."
        )


@dataclass(frozen=True)
class _GeometryColumn:
    """What GeoParquet says of its primary geometry: a CRS, or None for an unknown one."""

    name: str
    kind: Kind | None
    crs: CRS | None
    not_attributes: frozenset[str]


def _geometry_column(file: SourceFile, names: list[str], metadata: dict[bytes, bytes]) -> _GeometryColumn:
    """Read what GeoParquet says of the geometry column (GeoParquet 1.1, "File metadata")."""
    if b"geo" not in metadata:
        raise UnreadableSourceError(
            f"{file.name} is Parquet but not GeoParquet: it does not say which column is the geometry.\nWrite it with "
            "GeoDataFrame.to_parquet."
        )
    try:
        geo = json.loads(metadata[b"geo"])
        name = geo["primary_column"]
        columns = geo["columns"]
        column = columns[name]
        encoding = column["encoding"]
        # Absent means longitude, latitude; null means that nobody knows.
        crs = column.get("crs", _LONGITUDE_LATITUDE)
        # Further geometries, and the boxes that the file keeps for itself.
        boxes = {
            corner[0] for other in columns.values() for corner in other.get("covering", {}).get("bbox", {}).values()
        }
        found = _GeometryColumn(
            name,
            None if encoding == "WKB" else _NATIVE[encoding],
            None if crs is None else _crs(crs),
            frozenset(columns) | boxes,
        )
    except (ValueError, LookupError, TypeError, AttributeError, CRSError):
        found = None
    if found is None or found.name not in names:
        raise UnreadableSourceError(
            f"{file.name} has GeoParquet metadata that make no sense.\nRewrite it with GeoDataFrame.to_parquet."
        )
    if column.get("edges", "planar") != "planar":
        raise UnreadableSourceError(
            f"{file.name} has {column['edges']} edges: GeoJSON's edges are straight in longitude and latitude.\n"
            "Densify them first."
        )
    return found


def _crs(definition: Any) -> CRS:
    """
    Read a reference system as GeoParquet has it: PROJJSON (GeoParquet 1.1, "crs").

    geopandas leaves the identifiers of an ensemble's members out, and PROJ then searches for the members by name: in
    WGS 84 for tens of milliseconds, in each thread anew. What differs in nothing else from the system that its own
    identifier stands for is that one.
    """
    try:
        known = CRS.from_authority(definition["id"]["authority"], definition["id"]["code"])
    except (LookupError, TypeError, CRSError):
        return CRS.from_user_input(definition)
    alike = _without_member_ids(known.to_json_dict()) == _without_member_ids(definition)
    return known if alike else CRS.from_user_input(definition)


def _without_member_ids(definition: Any) -> Any:
    """Leave out what :func:`_crs` says, and which version of PROJJSON it is."""
    if not isinstance(definition, dict):
        return definition
    kept = {name: _without_member_ids(value) for name, value in definition.items() if name != "$schema"}
    if isinstance(members := definition.get("members"), list):
        kept["members"] = [{**member, "id": None} if isinstance(member, dict) else member for member in members]
    return kept
