"""A query of PostGIS, read through a cursor that the server holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyproj import CRS
from pyproj.exceptions import CRSError

from airflow_mapbox.export.attributes import EXACT, columns_by_name
from airflow_mapbox.export.batch import Batch
from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.sources.selection import Selection

if TYPE_CHECKING:
    import psycopg

_BATCH_BYTES = 8 << 20
_FIRST_ROWS, _MOST_ROWS = 1_000, 50_000
_CURSOR = "airflow_mapbox_export"

# Types of PostgreSQL by number (pg_type.dat) whose values psycopg gives as Arrow takes them; of others the text.
_TYPES = {
    16: pa.bool_(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    25: pa.string(),
    700: pa.float32(),
    701: pa.float64(),
    1042: pa.string(),
    1043: pa.string(),
    1082: pa.date32(),
    1083: pa.time64("us"),
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us", "UTC"),
}
_INT8, _NUMERIC, _BYTEA = 20, 1700, 17
_GEOMETRIES = ("geometry", "geography")


@dataclass(frozen=True)
class PostGISQuery:
    """
    A query whose rows are features.

    :param sql: a SELECT with one column of type geometry or geography, or more of which ``geometry`` names one.
    :param connect: opens a connection of psycopg 3; it is closed at the end.
    :param geometry: the column of geometries, where there are several; the others are left out.
    :param parameters: for the query's placeholders.
    """

    sql: str
    connect: Callable[[], psycopg.Connection[Any]]
    geometry: str | None = None
    parameters: Sequence[Any] | Mapping[str, Any] | None = None


def read_postgis(query: PostGISQuery, selection: Selection) -> Iterator[Batch]:
    """
    Read a query's rows, in one transaction that changes nothing and sees one state of the database.

    :param query: what to read.
    :param selection: of its columns.
    :return: batches of about eight megabytes.
    :raises UnreadableSourceError: where the database refuses, or there is no geometry.
    """
    selection.only("columns", of="a query: put it into the SQL")
    with _named(), query.connect() as connection:
        connection.read_only = True
        connection.isolation_level = _repeatable_read()
        yield from _Reader(connection, query, selection).batches()


class _Reader:
    def __init__(self, connection: Any, query: PostGISQuery, selection: Selection) -> None:
        self._connection = connection
        self._query = query
        self._inner = query.sql.strip().rstrip(";")
        columns = self._describe()
        geometries = [name for name, kind in columns if kind in self._geometry_types()]
        self._geometry = self._chosen_geometry(geometries)
        attributes = {name: kind for name, kind in columns if name not in geometries}
        columns_by_name((name, pa.nulls(0)) for name, _ in columns)
        self._columns = {name: attributes[name] for name in selection.chosen(attributes)}

    def batches(self) -> Iterator[Batch]:
        as_text = frozenset(self._large())
        selected = [self._value(name) for name in self._columns]
        geometry = f"CASE WHEN ST_HasArc({_name(self._geometry)}::geometry) " + (
            f"THEN ST_CurveToLine({_name(self._geometry)}::geometry) ELSE {_name(self._geometry)}::geometry END"
        )
        sql = f"SELECT {', '.join([*selected, f'ST_AsEWKB({geometry})'])} FROM ({self._inner}) AS q"  # noqa: S608
        with self._connection.cursor(name=_CURSOR, binary=True) as cursor:
            cursor.execute(sql, self._query.parameters)
            first, rows, crs = 0, _FIRST_ROWS, None
            while found := cursor.fetchmany(rows):
                *values, shapes = zip(*found, strict=True)
                column = pa.array([None if shape is None else bytes(shape) for shape in shapes], pa.binary())
                crs = crs or self._crs(shapes)
                arrays = {
                    name: self._array(kind, value)
                    for (name, kind), value in zip(self._columns.items(), values, strict=True)
                }
                yield Batch(column, arrays, crs, "The query", first, as_text=as_text)
                first += len(found)
                size = column.nbytes + sum(array.nbytes for array in arrays.values())
                rows = max(1, min(_MOST_ROWS, _BATCH_BYTES * len(found) // max(size, 1)))

    def _describe(self) -> list[tuple[str, int]]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM ({self._inner}) AS q LIMIT 0", self._query.parameters)  # noqa: S608
            return [(column.name, column.type_code) for column in cursor.description]

    def _geometry_types(self) -> set[int]:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT oid FROM pg_type WHERE typname = ANY(%s)", [list(_GEOMETRIES)])
            return {number for (number,) in cursor.fetchall()}

    def _chosen_geometry(self, geometries: list[str]) -> str:
        wanted = self._query.geometry
        if wanted is None and len(geometries) == 1:
            return geometries[0]
        if wanted in geometries:
            return str(wanted)
        found = ", ".join(geometries) or "none"
        raise UnreadableSourceError(
            f"The query has to give one column of type geometry or geography; it gives {found}. Name the one to export "
            "with geometry=…"
        )

    def _value(self, name: str) -> str:
        kind = self._columns[name]
        whole = kind in _TYPES or kind in (_NUMERIC, _BYTEA)
        return f"q.{_name(name)}" if whole else f"q.{_name(name)}::text"

    def _array(self, kind: int, values: tuple[Any, ...]) -> pa.Array:
        if kind == _NUMERIC:
            return _numeric(values)
        return pa.array(values, _TYPES.get(kind, pa.binary() if kind == _BYTEA else pa.string()))

    def _large(self) -> set[str]:
        """Have the database find columns with whole numbers past 2^53: it need not send them for that."""
        wide = [name for name, kind in self._columns.items() if kind in (_INT8, _NUMERIC)]
        if not wide:
            return set()
        tests = ", ".join(f"coalesce(max(abs(q.{_name(name)}::numeric)) > {EXACT}, false)" for name in wide)
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT {tests} FROM ({self._inner}) AS q", self._query.parameters)  # noqa: S608
            return {name for name, large in zip(wide, cursor.fetchone(), strict=True) if large}

    def _crs(self, shapes: Sequence[Any]) -> CRS | None:
        """Give the reference system of the first geometry that has one (the SRID of its EWKB)."""
        for shape in shapes:
            head = b"" if shape is None else bytes(shape[:9])
            order: Any = "little" if head[:1] == b"\x01" else "big"
            if len(head) == 9 and int.from_bytes(head[1:5], order) & 0x20000000:
                return self._known(int.from_bytes(head[5:9], order))
        return None

    def _known(self, srid: int) -> CRS | None:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT auth_name, auth_srid, srtext FROM spatial_ref_sys WHERE srid = %s", [srid])
            row = cursor.fetchone()
        for text in () if row is None else (f"{row[0]}:{row[1]}", row[2]):
            try:
                return CRS.from_user_input(text)
            except CRSError:
                continue
        return None


def _numeric(values: Sequence[Any]) -> pa.Array:
    present = [value for value in values if value is not None and value.is_finite()]
    if not present:
        return pa.nulls(len(values))
    scale = max(max(-value.as_tuple().exponent, 0) for value in present)
    digits = max(len(value.as_tuple().digits) + max(value.as_tuple().exponent, 0) for value in present)
    kept = [value if value is not None and value.is_finite() else None for value in values]
    if digits + scale > 38:
        return pa.array([None if value is None else float(value) for value in kept], pa.float64())
    return pa.array(kept, pa.decimal128(max(digits + scale, 1), scale))


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _repeatable_read() -> Any:
    from psycopg import IsolationLevel

    return IsolationLevel.REPEATABLE_READ


@contextmanager
def _named() -> Iterator[None]:
    """Say that it was the database that failed."""
    import psycopg

    problem = None
    try:
        yield
    except psycopg.Error as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
    if problem is not None:
        raise UnreadableSourceError(f"PostgreSQL refused the query: {problem.rstrip('.')}. Try it in psql.")
