"""A query of PostGIS, read through a cursor that the server holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyproj import CRS
from pyproj.exceptions import CRSError

from airflow_mapbox.export.errors import SourceUnavailableError, UnreadableSourceError
from airflow_mapbox.export.options import Selection
from airflow_mapbox.export.readers.batch import Batch, row_bytes
from airflow_mapbox.export.text.attributes import EXACT, Column, columns_by_name

if TYPE_CHECKING:
    import psycopg

_BATCH_BYTES = 8 << 20
_FIRST_ROWS, _MOST_ROWS = 1_000, 50_000
_CURSOR = "airflow_mapbox_export"

# Types of PostgreSQL by number (pg_type.dat) that Arrow has as well; of others the text, also of times of day: 24:00 is
# one there.
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
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us", "UTC"),
}
# Those that count from 2000 on: the type of the count, and what Arrow's is then. They are taken as counts, since Python
# has no date before the year 1, after 9999, or at infinity.
_COUNTS = {
    1082: (pa.int32(), 10_957),
    1114: (pa.int64(), 946_684_800_000_000),
    1184: (pa.int64(), 946_684_800_000_000),
}
_INT8, _NUMERIC, _BYTEA, _INTERVAL, _RECORD = 20, 1700, 17, 1186, 2249
_GEOMETRIES = ("geometry", "geography")
# What may have an arc in it. Where each part is straight ST_HasArc says no, and the type is one of curves nevertheless.
_CURVED = ("CircularString", "CompoundCurve", "CurvePolygon", "MultiCurve", "MultiSurface", "GeometryCollection")
_NESTED = ("A", "C")  # arrays and records (pg_type.typcategory)
_MOST_DIGITS = 76  # of Arrow's widest decimal
_NO_SRID = 0

# What a query is made up of (PostgreSQL's manual, "Lexical Structure"): comments, the ends of statements, and the rest,
# in whose quotation marks either may stand.
_SQL = re.compile(
    r"""(?P<void>\s+|;|--[^\n]*|/\*.*?\*/)"""
    r"""|[eE]'(?:[^'\\]|\\.|'')*'|'[^']*'|"[^"]*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|\w+|.""",
    re.DOTALL,
)


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
    :raises UnreadableSourceError: where the database refuses, there is no geometry, or more than one reference system.
    :raises SourceUnavailableError: where it cannot be reached, or broke off.
    """
    selection.allow_only("columns", source="a query (put it into the SQL)")
    with _named(), query.connect() as connection:
        _prepare(connection)
        yield from _Reader(connection, query, selection).batches()


class _Reader:
    def __init__(self, connection: Any, query: PostGISQuery, selection: Selection) -> None:
        self._connection = connection
        self._query = query
        self._systems: dict[int, CRS | None] = {}
        # On lines of its own, since the last one may end in a comment.
        self._from = f"FROM (\n{_statement(query.sql)}\n) AS q"
        columns = self._describe()
        columns_by_name((column.name, pa.nulls(0)) for column in columns)
        kinds = {column.type_code for column in columns}
        shapes = self._types("typname = ANY(%s)", kinds, _GEOMETRIES)
        geometries = [column.name for column in columns if column.type_code in shapes]
        self._geometry = self._chosen_geometry(geometries)
        attributes = {column.name: column for column in columns if column.name not in geometries}
        self._columns = {name: attributes[name] for name in selection.choose_columns(attributes)}
        self._nested = self._types("typcategory = ANY(%s)", kinds, _NESTED) | {_RECORD}

    def batches(self) -> Iterator[Batch]:
        as_text = frozenset(self._large())
        selected = [self._value(name) for name in self._columns]
        sql = f"SELECT {', '.join([*selected, f'ST_AsEWKB({self._linear()})'])} {self._from}"
        with self._connection.cursor(name=_CURSOR, binary=True) as cursor:
            cursor.execute(sql, self._query.parameters)
            first, rows, srids = 0, _FIRST_ROWS, set[int]()
            while found := cursor.fetchmany(rows):
                *values, shapes = zip(*found, strict=True)
                geometry = pa.array(shapes, pa.binary())
                srids |= _srids(shapes)
                if len(srids) > 1:
                    raise self._mixed(srids)
                columns = {
                    name: _column(column, value)
                    for (name, column), value in zip(self._columns.items(), values, strict=True)
                }
                crs = self._crs(min(srids, default=_NO_SRID))
                yield Batch(geometry, columns, crs, "The query", first, as_text=as_text)
                first += len(found)
                size = geometry.nbytes + len(found) * sum(map(row_bytes, columns.values()))
                rows = max(1, min(_MOST_ROWS, _BATCH_BYTES * len(found) // max(size, 1)))

    def _describe(self) -> list[psycopg.Column]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * {self._from} LIMIT 0", self._query.parameters)
            return list(cursor.description)

    def _types(self, condition: str, kinds: set[int], values: Sequence[str]) -> set[int]:
        """Choose those of some types, by number, to which a condition applies."""
        with self._connection.cursor() as cursor:
            cursor.execute(
                f"SELECT oid FROM pg_type WHERE oid = ANY(%s) AND {condition}",  # noqa: S608
                [list(kinds), list(values)],
            )
            return {number for (number,) in cursor.fetchall()}

    def _chosen_geometry(self, geometries: list[str]) -> str:
        wanted = self._query.geometry
        if wanted is None and len(geometries) == 1:
            return geometries[0]
        if wanted in geometries:
            return str(wanted)
        found = ", ".join(geometries) or "none"
        raise UnreadableSourceError(
            f"The query has to give one column of type geometry or geography; it gives {found}.\n"
            "Name the one to export with geometry=…"
        )

    def _quoted(self, name: str) -> str:
        """Name a column; psycopg looks for placeholders in quotation marks too, where there are parameters."""
        value = f"q.{_name(name)}"
        return value if self._query.parameters is None else value.replace("%", "%%")

    def _value(self, name: str) -> str:
        kind, value = self._columns[name].type_code, self._quoted(name)
        if kind in _TYPES or kind in (_NUMERIC, _BYTEA):
            return value
        if kind == _INTERVAL:
            return f"extract(epoch FROM {value})::float8"
        return f"to_json({value})::text" if kind in self._nested else f"{value}::text"

    def _linear(self) -> str:
        value = f"{self._quoted(self._geometry)}::geometry"
        curved = ", ".join(f"'ST_{kind}'" for kind in _CURVED)
        # ST_CurveToLine fails for an empty polygon.
        return (
            f"CASE WHEN ST_GeometryType({value}) NOT IN ({curved}) THEN {value} "
            f"WHEN ST_IsEmpty({value}) THEN ST_SetSRID('POINT EMPTY'::geometry, ST_SRID({value})) "
            f"ELSE ST_CurveToLine({value}) END"
        )

    def _large(self) -> set[str]:
        """Have the database find columns with whole numbers past 2^53: it need not send them for that."""
        wide = [name for name, column in self._columns.items() if column.type_code in (_INT8, _NUMERIC)]
        if not wide:
            return set()
        tests = ", ".join(f"coalesce(bool_or({_is_large(f'{self._quoted(name)}::numeric')}), false)" for name in wide)
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT {tests} {self._from}", self._query.parameters)
            return {name for name, large in zip(wide, cursor.fetchone(), strict=True) if large}

    def _mixed(self, srids: set[int]) -> UnreadableSourceError:
        found = ", ".join(str(srid) if srid else "none" for srid in sorted(srids))
        geometry = _name(self._geometry)
        return UnreadableSourceError(
            f"Column {self._geometry!r} of the query has geometries of more than one reference system (SRID {found}).\n"
            f"Bring them into one: ST_Transform({geometry}, 4326), after ST_SetSRID({geometry}, …) for what has none."
        )

    def _crs(self, srid: int) -> CRS | None:
        if srid == _NO_SRID:
            return None
        if srid not in self._systems:
            self._systems[srid] = self._known(srid)
        return self._systems[srid]

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


def _statement(sql: str) -> str:
    """Leave out what follows the last word of a query: comments, and the semicolon, which no subquery may have."""
    end = 0
    for token in _SQL.finditer(sql):
        if token["void"] is None:
            end = token.end()
    return sql[:end]


def _is_large(value: str) -> str:
    # NaN and infinities are the largest numbers there.
    return f"abs({value}) > {EXACT} AND {value}::text NOT IN ('NaN', 'Infinity', '-Infinity')"


def _srids(shapes: Sequence[bytes | None]) -> set[int]:
    """Say which reference systems geometries are in, by the SRID of their EWKB."""
    found = set()
    for head in {shape[:9] for shape in shapes if shape is not None}:
        order: Any = "little" if head[:1] == b"\x01" else "big"
        known = int.from_bytes(head[1:5], order) & 0x20000000
        found.add(int.from_bytes(head[5:9], order) if known else _NO_SRID)
    return found


def _column(column: psycopg.Column, values: Sequence[Any]) -> Column:
    kind = column.type_code
    if kind == _NUMERIC:
        return _decimals(column.precision, column.scale, values)
    if kind == _INTERVAL:
        return pa.array(values, pa.float64())
    if kind in _COUNTS:
        return _moments(kind, values)
    return pa.array(values, _TYPES.get(kind, pa.binary() if kind == _BYTEA else pa.string()))


def _moments(kind: int, values: Sequence[int | None]) -> pa.Array:
    """Give dates and times of what PostgreSQL counts, whose least and greatest number are the infinities."""
    count, start = _COUNTS[kind]
    least = -(1 << (count.bit_width - 1))
    found = pa.array(values, count)
    found = pc.if_else(pc.is_in(found, pa.array([least, -least - 1], count)), None, found)
    return pc.add(found, pa.scalar(start, count)).cast(_TYPES[kind])


def _decimals(precision: int | None, scale: int | None, values: Sequence[Any]) -> Column:
    """
    Give numbers of any length exactly.

    Where the query does not say how many digits there are, each stays as it is: of a type made for the numbers of one
    batch, the same number would be 1.5 in one and 1.50 in the next.
    """
    present = [value if value is not None and value.is_finite() else None for value in values]
    if precision is None or scale is None or not 0 <= scale <= precision <= _MOST_DIGITS:
        return pd.Series(present, dtype=object)
    return pa.array(present, (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale))


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _prepare(connection: psycopg.Connection[Any]) -> None:
    """Have one transaction, that only reads, give rows as tuples, however the connection was made."""
    from psycopg import IsolationLevel
    from psycopg.rows import tuple_row
    from psycopg.types.numeric import Int4BinaryLoader, Int8BinaryLoader

    connection.autocommit = False
    connection.read_only = True
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.row_factory = tuple_row
    for kind, (count, _) in _COUNTS.items():
        connection.adapters.register_loader(kind, Int4BinaryLoader if count == pa.int32() else Int8BinaryLoader)


@contextmanager
def _named() -> Iterator[None]:
    """Say that it was the database that failed, and whether it may answer later."""
    import psycopg

    try:
        yield
    except psycopg.OperationalError as error:
        raise SourceUnavailableError(
            f"PostgreSQL did not answer the query: {_problem(error)}.\nCheck the connection and the server, or try "
            "again later."
        ) from None
    except psycopg.Error as error:
        raise UnreadableSourceError(f"PostgreSQL refused the query: {_problem(error)}.\nTry it in psql.") from None


def _problem(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
