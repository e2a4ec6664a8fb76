"""Read the rows of a PostGIS query through a server-side cursor."""

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
from airflow_mapbox.export.text.attributes import MAX_EXACT_INTEGER, Column, columns_by_name

if TYPE_CHECKING:
    import psycopg

_BATCH_BYTES = 8 << 20
_FIRST_ROWS, _MAX_ROWS = 1_000, 50_000
_CURSOR_NAME = "airflow_mapbox_export"

# Types of PostgreSQL by number (pg_type.dat) with an equal type of Arrow. Values of other types are read as strings,
# also times of day, because PostgreSQL has 24:00.
_ARROW_TYPES = {
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
# Dates and times that PostgreSQL counts from 2000: the type of the count, and Arrow's count at 2000. They are read as
# counts, because Python has no date before the year 1, after 9999, or at infinity.
_COUNTED_TYPES = {
    1082: (pa.int32(), 10_957),
    1114: (pa.int64(), 946_684_800_000_000),
    1184: (pa.int64(), 946_684_800_000_000),
}
_INT8, _NUMERIC, _BYTEA, _INTERVAL, _RECORD = 20, 1700, 17, 1186, 2249
_GEOMETRY_TYPES = ("geometry", "geography")
# Types that may contain an arc. ST_HasArc is not enough: it is false if all parts of such a type are straight.
_CURVE_TYPES = ("CircularString", "CompoundCurve", "CurvePolygon", "MultiCurve", "MultiSurface", "GeometryCollection")
_NESTED_CATEGORIES = ("A", "C")  # arrays and records (pg_type.typcategory)
_MAX_DECIMAL_DIGITS = 76  # of Arrow's widest decimal
_NO_SRID = 0

# The tokens of a query (PostgreSQL's manual, "Lexical Structure"): white space, comments and semicolons; and the rest,
# such as quoted strings, which may contain comment marks and semicolons.
_SQL_TOKEN = re.compile(
    r"""(?P<void>\s+|;|--[^\n]*|/\*.*?\*/)"""
    r"""|[eE]'(?:[^'\\]|\\.|'')*'|'[^']*'|"[^"]*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|\w+|.""",
    re.DOTALL,
)


@dataclass(frozen=True)
class PostGISQuery:
    """
    A query of PostGIS as the source of an export. Its rows are features; all geometries must have one SRID.

    :param sql: a SELECT with a column of type geometry or geography.
    :param connect: opens a connection of psycopg 3 when the export starts. The export closes it.
    :param geometry: the geometry column, if there are several. The others are not written.
    :param parameters: values for the query's placeholders.

    Example::

        query = PostGISQuery("SELECT id, geom FROM parcels", lambda: psycopg.connect("dbname=city"))
        write_geojson(query, "parcels.geojson")
    """

    sql: str
    connect: Callable[[], psycopg.Connection[Any]]
    geometry: str | None = None
    parameters: Sequence[Any] | Mapping[str, Any] | None = None


def read_postgis(query: PostGISQuery, selection: Selection) -> Iterator[Batch]:
    """
    Read the rows of a query, in one read-only transaction that sees one state of the database.

    :param query: the query.
    :param selection: the columns to read.
    :return: batches of about eight megabytes.
    :raises UnreadableSourceError: if the database refuses the query, or it has no geometry or several SRIDs.
    :raises SourceUnavailableError: if the database cannot be reached, or the connection breaks.
    """
    selection.allow_only("columns", source="a query (put it into the SQL)")
    with _named(), query.connect() as connection:
        _prepare(connection)
        yield from _Reader(connection, query, selection).batches()


class _Reader:
    """
    Reads a query.

    :param connection: an open connection.
    :param query: the query.
    :param selection: the columns to read.
    """

    def __init__(self, connection: Any, query: PostGISQuery, selection: Selection) -> None:
        self._connection = connection
        self._query = query
        self._systems: dict[int, CRS | None] = {}
        # On separate lines, because the query may end with a comment.
        self._from = f"FROM (\n{_statement(query.sql)}\n) AS q"
        columns = self._describe()
        columns_by_name((column.name, pa.nulls(0)) for column in columns)
        kinds = {column.type_code for column in columns}
        geometry_types = self._types("typname = ANY(%s)", kinds, _GEOMETRY_TYPES)
        geometries = [column.name for column in columns if column.type_code in geometry_types]
        self._geometry = self._choose_geometry(geometries)
        attributes = {column.name: column for column in columns if column.name not in geometries}
        self._columns = {name: attributes[name] for name in selection.choose_columns(attributes)}
        self._nested = self._types("typcategory = ANY(%s)", kinds, _NESTED_CATEGORIES) | {_RECORD}

    def batches(self) -> Iterator[Batch]:
        as_text = frozenset(self._columns_with_large_integers())
        selected = [self._expression(name) for name in self._columns]
        sql = f"SELECT {', '.join([*selected, f'ST_AsEWKB({self._linear_geometry()})'])} {self._from}"
        with self._connection.cursor(name=_CURSOR_NAME, binary=True) as cursor:
            cursor.execute(sql, self._query.parameters)
            first, rows, srids = 0, _FIRST_ROWS, set[int]()
            while records := cursor.fetchmany(rows):
                *values, ewkb = zip(*records, strict=True)
                geometry = pa.array(ewkb, pa.binary())
                srids |= _srids(ewkb)
                if len(srids) > 1:
                    raise self._several_srids(srids)
                columns = {
                    name: _column(column, value)
                    for (name, column), value in zip(self._columns.items(), values, strict=True)
                }
                crs = self._crs(min(srids, default=_NO_SRID))
                yield Batch(geometry, columns, crs, "The query", first, as_text=as_text)
                first += len(records)
                size = geometry.nbytes + len(records) * sum(map(row_bytes, columns.values()))
                rows = max(1, min(_MAX_ROWS, _BATCH_BYTES * len(records) // max(size, 1)))

    def _describe(self) -> list[psycopg.Column]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * {self._from} LIMIT 0", self._query.parameters)
            return list(cursor.description)

    def _types(self, condition: str, kinds: set[int], values: Sequence[str]) -> set[int]:
        """
        Return the types to which a condition applies.

        :param condition: in SQL, on a row of pg_type.
        :param kinds: numbers of types.
        :param values: the values of the condition.
        """
        with self._connection.cursor() as cursor:
            cursor.execute(
                f"SELECT oid FROM pg_type WHERE oid = ANY(%s) AND {condition}",  # noqa: S608
                [list(kinds), list(values)],
            )
            return {number for (number,) in cursor.fetchall()}

    def _choose_geometry(self, geometries: list[str]) -> str:
        wanted = self._query.geometry
        if wanted is None and len(geometries) == 1:
            return geometries[0]
        if wanted in geometries:
            return str(wanted)
        names = ", ".join(geometries) or "none"
        raise UnreadableSourceError(
            f"The query must return one column of type geometry or geography; it returns {names}.\n"
            "Name the one to export with geometry=…"
        )

    def _quoted(self, name: str) -> str:
        """Quote a column's name. If there are parameters, psycopg looks for placeholders in quotation marks too."""
        quoted = f"q.{_identifier(name)}"
        return quoted if self._query.parameters is None else quoted.replace("%", "%%")

    def _expression(self, name: str) -> str:
        """Return the SQL that selects a column in a form that :func:`_column` reads."""
        kind, value = self._columns[name].type_code, self._quoted(name)
        if kind in _ARROW_TYPES or kind in (_NUMERIC, _BYTEA):
            return value
        if kind == _INTERVAL:
            return f"extract(epoch FROM {value})::float8"
        return f"to_json({value})::text" if kind in self._nested else f"{value}::text"

    def _linear_geometry(self) -> str:
        """Return the SQL that selects the geometry without curves."""
        value = f"{self._quoted(self._geometry)}::geometry"
        curved = ", ".join(f"'ST_{kind}'" for kind in _CURVE_TYPES)
        # ST_CurveToLine fails for an empty polygon.
        return (
            f"CASE WHEN ST_GeometryType({value}) NOT IN ({curved}) THEN {value} "
            f"WHEN ST_IsEmpty({value}) THEN ST_SetSRID('POINT EMPTY'::geometry, ST_SRID({value})) "
            f"ELSE ST_CurveToLine({value}) END"
        )

    def _columns_with_large_integers(self) -> set[str]:
        """Find columns with integers beyond 2^53 in the database, which need not send their values for that."""
        wide = [name for name, column in self._columns.items() if column.type_code in (_INT8, _NUMERIC)]
        if not wide:
            return set()
        tests = ", ".join(f"coalesce(bool_or({_is_large(f'{self._quoted(name)}::numeric')}), false)" for name in wide)
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT {tests} {self._from}", self._query.parameters)
            return {name for name, large in zip(wide, cursor.fetchone(), strict=True) if large}

    def _several_srids(self, srids: set[int]) -> UnreadableSourceError:
        listed = ", ".join(str(srid) if srid else "none" for srid in sorted(srids))
        geometry = _identifier(self._geometry)
        return UnreadableSourceError(
            f"Column {self._geometry!r} of the query has geometries in several reference systems (SRID {listed}).\n"
            f"Transform them to one: ST_Transform({geometry}, 4326), after ST_SetSRID({geometry}, …) for those without."
        )

    def _crs(self, srid: int) -> CRS | None:
        if srid == _NO_SRID:
            return None
        if srid not in self._systems:
            self._systems[srid] = self._look_up(srid)
        return self._systems[srid]

    def _look_up(self, srid: int) -> CRS | None:
        """Return the reference system of an SRID, or None if the database or PROJ does not know it."""
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT auth_name, auth_srid, srtext FROM spatial_ref_sys WHERE srid = %s", [srid])
            row = cursor.fetchone()
        for definition in () if row is None else (f"{row[0]}:{row[1]}", row[2]):
            try:
                return CRS.from_user_input(definition)
            except CRSError:
                continue
        return None


def _statement(sql: str) -> str:
    """Return a query without semicolons and comments at its end: a subquery must not have a semicolon."""
    end = 0
    for token in _SQL_TOKEN.finditer(sql):
        if token["void"] is None:
            end = token.end()
    return sql[:end]


def _is_large(value: str) -> str:
    # To PostgreSQL, NaN and infinity are larger than all numbers.
    return f"abs({value}) > {MAX_EXACT_INTEGER} AND {value}::text NOT IN ('NaN', 'Infinity', '-Infinity')"


def _srids(ewkb: Sequence[bytes | None]) -> set[int]:
    """Return the SRIDs of geometries in EWKB."""
    srids = set()
    for head in {geometry[:9] for geometry in ewkb if geometry is not None}:
        order: Any = "little" if head[:1] == b"\x01" else "big"
        has_srid = int.from_bytes(head[1:5], order) & 0x20000000
        srids.add(int.from_bytes(head[5:9], order) if has_srid else _NO_SRID)
    return srids


def _column(column: psycopg.Column, values: Sequence[Any]) -> Column:
    kind = column.type_code
    if kind == _NUMERIC:
        return _decimals(column.precision, column.scale, values)
    if kind == _INTERVAL:
        return pa.array(values, pa.float64())
    if kind in _COUNTED_TYPES:
        return _dates(kind, values)
    return pa.array(values, _ARROW_TYPES.get(kind, pa.binary() if kind == _BYTEA else pa.string()))


def _dates(kind: int, values: Sequence[int | None]) -> pa.Array:
    """Convert PostgreSQL's counts to dates and times. The smallest and the largest count are the infinities."""
    count_type, start = _COUNTED_TYPES[kind]
    smallest = -(1 << (count_type.bit_width - 1))
    counts = pa.array(values, count_type)
    counts = pc.if_else(pc.is_in(counts, pa.array([smallest, -smallest - 1], count_type)), None, counts)
    return pc.add(counts, pa.scalar(start, count_type)).cast(_ARROW_TYPES[kind])


def _decimals(precision: int | None, scale: int | None, values: Sequence[Any]) -> Column:
    """
    Convert decimals of any length, exactly.

    If the query does not declare the number of digits, the values stay Python decimals. With a type for the values of
    one batch, the same number would be 1.5 in one batch and 1.50 in the next.
    """
    finite = [value if value is not None and value.is_finite() else None for value in values]
    if precision is None or scale is None or not 0 <= scale <= precision <= _MAX_DECIMAL_DIGITS:
        return pd.Series(finite, dtype=object)
    return pa.array(finite, (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale))


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _prepare(connection: psycopg.Connection[Any]) -> None:
    """Set up one read-only transaction that returns rows as tuples, whatever the settings of the connection."""
    from psycopg import IsolationLevel
    from psycopg.rows import tuple_row
    from psycopg.types.numeric import Int4BinaryLoader, Int8BinaryLoader

    connection.autocommit = False
    connection.read_only = True
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.row_factory = tuple_row
    for kind, (count_type, _) in _COUNTED_TYPES.items():
        connection.adapters.register_loader(kind, Int4BinaryLoader if count_type == pa.int32() else Int8BinaryLoader)


@contextmanager
def _named() -> Iterator[None]:
    """
    Convert errors of psycopg, and tell whether a retry may help.

    :raises UnreadableSourceError: if psycopg is not installed, or the query is refused.
    :raises SourceUnavailableError: if the server does not reply.
    """
    try:
        import psycopg
    except ImportError as error:
        raise UnreadableSourceError(
            f"A query of PostGIS needs psycopg ({error}).\n"
            "Install the extra: pip install 'airflow-provider-mapbox[postgis]'."
        ) from None
    try:
        yield
    except psycopg.OperationalError as error:
        raise SourceUnavailableError(
            f"PostgreSQL did not answer the query: {_problem(error)}.\nCheck the connection and the server, or retry "
            "later."
        ) from None
    except psycopg.Error as error:
        raise UnreadableSourceError(f"PostgreSQL refused the query: {_problem(error)}.\nTry it in psql.") from None


def _problem(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
