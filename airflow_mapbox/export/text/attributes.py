"""Encode columns of attributes as JSON, a whole column at a time."""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from airflow_mapbox.errors import ExportError
from airflow_mapbox.export.errors import AttributeNameError, AttributeValueError
from airflow_mapbox.export.text.join import RowParts, join_rows
from airflow_mapbox.export.text.numbers import number_strings

if TYPE_CHECKING:
    from numpy.typing import NDArray

Column: TypeAlias = "pa.Array | pd.Series"

# JavaScript and readers of vector tiles store integers in 64-bit floats, which are exact up to here.
MAX_EXACT_INTEGER = 2**53

_TICKS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_CONTROL_CHARACTERS = {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


def columns_by_name(columns: Iterable[tuple[object, Column]]) -> dict[str, Column]:
    """
    Return columns by name, as strings.

    :param columns: names of any type, and values.
    :raises AttributeNameError: if two columns have the same name, or a name cannot be written.
    """
    named: dict[str, Column] = {}
    for name, column in columns:
        string = str(name)
        if string in named:
            raise AttributeNameError(f"More than one column is called {string}.\nRename them, or keep one.")
        try:
            string.encode()
        except UnicodeEncodeError:
            raise AttributeNameError(f"The column name {string!r} cannot be written as UTF-8: rename it.") from None
        named[string] = column
    return named


def index_attributes(names: Sequence[object], columns: Iterable[str]) -> list[str | None]:
    """
    Return the names of a pandas index's levels as attributes, in the way in which geopandas writes them to a file.

    A named index is an attribute, and so is each level of a MultiIndex. A single unnamed level only counts rows. A
    level that is also a column (``set_index(…, drop=False)``) is written once.

    :param names: the names of the levels; None for a level without a name.
    :param columns: the names of the columns.
    :return: a name for each level, or None if it is not an attribute.
    """
    column_names = set(columns)
    named = [f"level_{n}" if name is None and len(names) > 1 else name for n, name in enumerate(names)]
    return [None if name is None or str(name) in column_names else str(name) for name in named]


@contextmanager
def named_column(name: str) -> Iterator[None]:
    """Name the column in any error that pandas and Arrow raise for its type or values."""
    problem = None
    try:
        yield
    except (ExportError, MemoryError):
        raise
    except RecursionError:
        problem = "lists or records that are nested too deeply"
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        problem = f"a value or a type that JSON cannot represent ({type(error).__name__}: {reason})"
    if problem is not None:
        raise AttributeValueError(
            f"Column {name!r} has {problem}.\nConvert it to a string or a number, or drop the column."
        )


def encode_properties(columns: Mapping[str, Column], as_text: frozenset[str]) -> RowParts:
    """
    Encode the properties of features.

    :param columns: the attributes by name.
    :param as_text: columns of numbers to write as strings.
    :return: the parts of one JSON object a row.
    :raises AttributeValueError: for a value that JSON cannot represent. The message names its column.
    """
    parts: RowParts = []
    for name, column in columns.items():
        key = orjson.dumps(name).decode()
        with named_column(name):
            encoded = _Encoder(name, as_text=name in as_text).encode(column)
        parts += [f"{',' if parts else '{'}{key}:", *encoded]
    return [*parts, "}"] if parts else ["{}"]


def has_large_integers(column: Column) -> bool:
    """
    Return whether a column has integers beyond 2^53, which only strings represent exactly.

    :param column: a column of any type.
    """
    if isinstance(column, pd.Series):
        if isinstance(column.dtype, pd.CategoricalDtype):
            return has_large_integers(pd.Series(column.dtype.categories))
        if column.dtype != object and pd.api.types.is_integer_dtype(column.dtype):
            present = column.dropna()
            return bool(len(present)) and (
                int(present.max()) > MAX_EXACT_INTEGER or int(present.min()) < -MAX_EXACT_INTEGER
            )
        if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) in ("integer", "decimal"):
            return any(abs(value) > MAX_EXACT_INTEGER for value in column.dropna() if _is_finite(value))
        if isinstance(column.dtype, pd.ArrowDtype):
            return any(has_large_integers(chunk) for chunk in column.array.__arrow_array__().chunks)
        return False
    if types.is_dictionary(column.type):
        return has_large_integers(column.dictionary)
    if not can_hold_large_integers(column.type):
        return False
    smallest, largest = pc.min_max(_at_least_128_bits(column)).values()
    return bool(smallest.is_valid and (largest.as_py() > MAX_EXACT_INTEGER or smallest.as_py() < -MAX_EXACT_INTEGER))


def can_hold_large_integers(kind: pa.DataType) -> bool:
    """Return whether a type can represent integers beyond 2^53."""
    return bool(types.is_int64(kind) or types.is_uint64(kind) or types.is_decimal(kind))


def _at_least_128_bits(column: pa.Array) -> pa.Array:
    """Widen decimals that Arrow cannot compute with."""
    kind = column.type
    narrow = types.is_decimal(kind) and kind.bit_width < 128
    return column.cast(pa.decimal128(kind.precision, kind.scale)) if narrow else column


def _is_finite(value: Any) -> bool:
    return not isinstance(value, decimal.Decimal) or value.is_finite()


class _JSONValues(NamedTuple):
    """
    One JSON value a row, or null for a missing value.

    :param values: strings.
    :param unquoted: whether the strings still need quotation marks.
    """

    values: pa.Array
    unquoted: bool = False

    def parts(self) -> RowParts:
        """Return the parts of one JSON value a row."""
        if self.unquoted and not self.values.null_count:
            return ['"', self.values, '"']  # joined with all other parts later, which saves a copy of the column
        values = join_rows(['"', self.values, '"']) if self.unquoted else self.values
        return [pc.fill_null(values, "null")]

    def take(self, indices: pa.Array) -> _JSONValues:
        """Choose rows."""
        return self._replace(values=self.values.take(indices))


class _Encoder:
    """
    Encodes one column.

    :param name: its name in messages.
    :param as_text: write its numbers as strings.
    """

    def __init__(self, name: str, *, as_text: bool) -> None:
        self._name = name
        self._as_text = as_text

    def encode(self, column: Column) -> RowParts:
        """Return the parts of one JSON value a row."""
        return (self._pandas(column) if isinstance(column, pd.Series) else self._arrow(column)).parts()

    def _pandas(self, column: pd.Series) -> _JSONValues:
        kind = column.dtype
        if isinstance(kind, pd.PeriodDtype | pd.IntervalDtype):
            return self._arrow(pa.array(column.astype(str).where(column.notna(), None), pa.string()))
        if isinstance(kind, pd.SparseDtype):
            return self._pandas(column.sparse.to_dense())
        if isinstance(kind, pd.CategoricalDtype):
            return self._categories(column.cat.codes.to_numpy(), kind.categories)
        if pd.api.types.is_object_dtype(kind):
            inferred = pd.api.types.infer_dtype(column, skipna=True)
            if inferred not in ("string", "boolean"):
                return self._values(column.tolist())
        elif kind.kind == "c":
            return self._values(column.tolist())
        try:
            array = pa.Array.from_pandas(column)
        except (pa.ArrowException, ValueError, TypeError):
            return self._values(column.tolist())
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        return self._arrow(array)

    def _categories(self, codes: NDArray[Any], categories: pd.Index) -> _JSONValues:
        missing = codes < 0
        if len(categories) > len(codes):
            # Encoding all categories for each batch would take time in proportion to rows squared if few repeat.
            used, codes = np.unique(np.where(missing, codes.max(initial=0), codes), return_inverse=True)
            categories = categories[used]
        return self._pandas(pd.Series(categories)).take(pa.array(codes, mask=missing))

    def _arrow(self, column: pa.Array) -> _JSONValues:
        kind = column.type
        for applies, encode in self._encoders():
            if applies(kind):
                return encode(column)
        raise AttributeValueError(
            f"Column {self._name!r} has the type {kind}, which JSON cannot represent.\nConvert it to a string or a "
            "number, or drop the column."
        )

    def _encoders(self) -> tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], _JSONValues]], ...]:
        """Arrow's types, and the method that encodes each."""
        return (
            (types.is_null, _cast),
            (lambda kind: isinstance(kind, pa.BaseExtensionType), self._extension),
            (types.is_dictionary, self._dictionary),
            (types.is_run_end_encoded, lambda column: self._arrow(pc.run_end_decode(column))),
            (types.is_boolean, _cast),
            (types.is_integer, self._numbers),
            (types.is_decimal, self._numbers),
            (types.is_floating, self._floats),
            (_is_string, self._strings),
            (types.is_timestamp, self._timestamps),
            (types.is_date, lambda column: self._formatted(column.cast(pa.date32()).cast(pa.string()))),
            (types.is_time, self._times),
            (types.is_duration, self._durations),
            (types.is_nested, self._nested),
        )

    def _dictionary(self, column: pa.Array) -> _JSONValues:
        if len(column.dictionary) > len(column):
            return self._arrow(column.dictionary.take(column.indices))  # see _categories
        return self._arrow(column.dictionary).take(column.indices)

    def _extension(self, column: pa.Array) -> _JSONValues:
        if isinstance(column.type, pa.UuidType):
            return self._strings(pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string()))
        if isinstance(column.type, pa.Bool8Type):
            return _cast(column.cast(pa.bool_()))
        return self._arrow(column.storage)

    def _numbers(self, column: pa.Array) -> _JSONValues:
        column = _at_least_128_bits(column)
        if not self._as_text and has_large_integers(column):
            raise AttributeValueError(
                f"Column {self._name!r} has integers beyond 2^53, which maps read inexactly, after others were "
                f"written as numbers.\nWrite the whole column as strings: as_text=[{self._name!r}]."
            )
        return _JSONValues(column.cast(pa.string()), unquoted=self._as_text)

    def _floats(self, column: pa.Array) -> _JSONValues:
        if types.is_float16(column.type):
            column = column.cast(pa.float32())
        values = column.to_numpy(zero_copy_only=False)
        if not len(values):
            return _JSONValues(pa.array([], pa.string()))
        # orjson also has the shortest form of 32-bit floats, and writes null for NaN and infinities.
        numbers = number_strings(np.ascontiguousarray(values))
        if not self._as_text:
            return _JSONValues(numbers)
        return _JSONValues(pc.if_else(pa.array(np.isfinite(values)), pc.utf8_trim(numbers, " "), None), unquoted=True)

    def _strings(self, column: pa.Array) -> _JSONValues:
        column = _compact(column)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            raise AttributeValueError(
                f"Column {self._name!r} has a string that is not UTF-8.\nDecode it with its own encoding."
            ) from None
        return _JSONValues(_escaped(column), unquoted=True)

    def _timestamps(self, column: pa.Array) -> _JSONValues:
        """Format as ISO 8601 with zero, six or nine digits of a second, and with the offset of the time zone."""
        if not column.type.tz:
            return self._formatted(_with_t(_with_fraction(column)))
        local, ticks = pc.local_timestamp(column), _TICKS_PER_SECOND[column.type.unit]
        ahead = pc.subtract(local.cast(pa.int64()), column.cast(pa.int64()))
        offsets = ahead.dictionary_encode()
        with_seconds = [offset for offset in offsets.dictionary.to_pylist() if offset % (60 * ticks)]
        if with_seconds:
            # Local times before there were time zones. ISO 8601 has no seconds in an offset: use UTC for them.
            in_minutes = pc.invert(pc.is_in(ahead, pa.array(with_seconds, pa.int64())))
            local = pc.if_else(in_minutes, local, column.cast(pa.int64()).cast(local.type))
            offsets = pc.if_else(in_minutes, ahead, 0).dictionary_encode()
        formatted = pa.array([_offset(offset // ticks) for offset in offsets.dictionary.to_pylist()], pa.string())
        zoned = pc.binary_join_element_wise(_with_fraction(local), formatted.take(offsets.indices), "")
        return self._formatted(_with_t(zoned))

    def _times(self, column: pa.Array) -> _JSONValues:
        return self._formatted(_with_fraction(column))

    def _formatted(self, strings: pa.Array) -> _JSONValues:
        """Return dates and times that Arrow has formatted, if it could format all of them."""
        if pc.any(pc.starts_with(strings, "<")).as_py():  # <value out of range: 86400>
            raise AttributeValueError(
                f"Column {self._name!r} has dates beyond the year 32767, or times of day after 23:59:59.\nConvert it "
                "to a string, in SQL with ::text, or drop the column."
            )
        return _JSONValues(strings, unquoted=True)

    def _durations(self, column: pa.Array) -> _JSONValues:
        """Encode durations in seconds."""
        ticks = column.cast(pa.int64()).cast(pa.float64(), safe=False)
        return self._floats(pc.divide(ticks, float(_TICKS_PER_SECOND[column.type.unit])))

    def _nested(self, column: pa.Array) -> _JSONValues:
        """Encode lists, records and maps as JSON in a string: attributes of vector tiles cannot be nested."""
        strings = self._values(column.to_pylist(maps_as_pydicts="lossy")).values
        return _JSONValues(pc.if_else(column.is_valid(), strings, None))

    def _values(self, values: list[Any]) -> _JSONValues:
        """Encode values of any type, one by one."""
        return _JSONValues(pa.array([self._value(value) for value in values], pa.string()))

    def _value(self, value: Any) -> str:
        if self._as_text and isinstance(value, decimal.Decimal) and value.is_finite():
            return f'"{value:f}"'
        plain = _python_value(value)
        if isinstance(plain, int) and not isinstance(plain, bool):
            return self._integer(plain)
        try:
            encoded = orjson.dumps(
                plain, default=_default, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
            )
            if isinstance(plain, dict | list | tuple):
                encoded = orjson.dumps(encoded.decode())
            elif self._as_text and isinstance(plain, float) and encoded != b"null":
                encoded = b'"%s"' % encoded
        except (orjson.JSONEncodeError, TypeError) as error:
            problem = str(error)
        else:
            return encoded.decode()
        raise AttributeValueError(
            f"Column {self._name!r} has a {type(value).__name__}, which JSON cannot represent ({problem}).\nConvert "
            "it to a string or a number, or drop the column."
        )

    def _integer(self, number: int) -> str:
        if self._as_text:
            return f'"{number}"'
        if abs(number) > MAX_EXACT_INTEGER:
            raise AttributeValueError(
                f"Column {self._name!r} has integers beyond 2^53, which maps read inexactly.\nWrite the whole "
                f"column as strings: as_text=[{self._name!r}]."
            )
        return str(number)


def _is_string(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _cast(column: pa.Array) -> _JSONValues:
    return _JSONValues(column.cast(pa.string()))


def _compact(strings: pa.Array) -> pa.Array:
    """
    Return strings without the memory of the rest of their column, which a slice of Arrow shares.

    Otherwise each batch would read the whole column's memory. That memory may also be too long for offsets of 32 bits.

    :param strings: an array of any of Arrow's string types.
    """
    if types.is_string_view(strings.type):
        return strings.cast(pa.string())
    _, offsets, data = strings.buffers()
    if data is None or not len(strings):
        return strings.cast(pa.string())
    offset_type = np.int64 if types.is_large_string(strings.type) else np.int32
    starts = np.frombuffer(offsets, offset_type)[strings.offset : strings.offset + len(strings) + 1]
    first, last = int(starts[0]), int(starts[-1])
    valid = pa.py_buffer(np.packbits(np.asarray(strings.is_valid()), bitorder="little")) if strings.null_count else None
    from_zero = pa.py_buffer((starts - first).astype(np.int32))
    return pa.Array.from_buffers(pa.string(), len(strings), [valid, from_zero, data.slice(first, last - first)])


def _escaped(strings: pa.Array) -> pa.Array:
    """Escape strings for JSON (RFC 8259, section 7). Most columns need no escapes, so look for each first."""
    _, _, data = strings.buffers()
    if data is None or not len(strings):
        return strings
    octets = np.frombuffer(data, np.uint8)
    if (octets == ord("\\")).any():
        strings = pc.replace_substring(strings, "\\", "\\\\")
    if (octets == ord('"')).any():
        strings = pc.replace_substring(strings, '"', '\\"')
    for code in np.unique(octets[octets < 32]):
        strings = pc.replace_substring(strings, chr(code), _CONTROL_CHARACTERS.get(code, f"\\u{code:04x}"))
    return strings


def _with_t(strings: pa.Array) -> pa.Array:
    """Replace Arrow's space between date and time by a T (ISO 8601)."""
    lengths = pc.binary_length(strings)
    if strings.null_count or strings.offset or pc.min(lengths).as_py() != 19 or pc.max(lengths).as_py() != 19:
        return pc.replace_substring(strings, " ", "T", max_replacements=1)
    _, offsets, data = strings.buffers()
    octets = np.frombuffer(data, np.uint8)[: 19 * len(strings)].copy()
    octets[10::19] = ord("T")
    return pa.Array.from_buffers(pa.string(), len(strings), [None, offsets, pa.py_buffer(octets)])


def _with_fraction(column: pa.Array) -> pa.Array:
    """Format times of day or timestamps, each with zero, six or nine digits of a second as needed."""
    kind = column.type
    if kind.unit == "s":
        return column.cast(pa.string())
    per_second = _TICKS_PER_SECOND[kind.unit]
    ticks = column.cast(pa.int32()).cast(pa.int64()) if types.is_time32(kind) else column.cast(pa.int64())
    strings = _cast_to(column, "s").cast(pa.string())
    fraction = pc.subtract(ticks, pc.multiply(_floor_divide(ticks, per_second), per_second))
    if not pc.any(pc.not_equal(fraction, 0)).as_py():
        return strings
    microseconds = _cast_to(column, "us").cast(pa.string())
    strings = pc.if_else(pc.equal(fraction, 0), strings, microseconds)
    if kind.unit != "ns":
        return strings
    nanoseconds = pc.subtract(fraction, pc.multiply(pc.divide(fraction, 1000), 1000))
    return pc.if_else(pc.equal(nanoseconds, 0), strings, column.cast(pa.string()))


def _floor_divide(ticks: pa.Array, divisor: int) -> pa.Array:
    """Divide towards minus infinity: times before 1970 are negative, and Arrow divides towards zero."""
    quotient = pc.divide(ticks, divisor)
    return pc.subtract(quotient, pc.less(ticks, pc.multiply(quotient, divisor)).cast(pa.int64()))


def _cast_to(column: pa.Array, unit: str) -> pa.Array:
    if types.is_timestamp(column.type):
        return (
            pc.floor_temporal(column, unit="second").cast(pa.timestamp("s"))
            if unit == "s"
            else column.cast(pa.timestamp(unit), safe=False)
        )
    return column.cast(pa.time32("s") if unit == "s" else pa.time64(unit), safe=False)


def _offset(seconds: int) -> str:
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}"


def _offset_in_minutes(moment: datetime.datetime) -> datetime.datetime:
    """Convert a time to UTC if its offset has seconds, which ISO 8601 cannot represent."""
    offset = moment.utcoffset()
    if offset is None or not offset % datetime.timedelta(minutes=1):
        return moment
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError:  # in the first hours of the year 1, which stand for a missing date
        return moment


def _python_value(value: Any) -> Any:
    """Convert a pandas or numpy scalar to a Python value; missing values become None."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.ndarray):
        return list(value) if value.dtype.kind in "mMO" else value.tolist()
    if isinstance(value, np.datetime64):
        return _python_value(pd.Timestamp(value))
    if isinstance(value, np.timedelta64):
        return _python_value(pd.Timedelta(value))
    if isinstance(value, np.longdouble):
        return _python_value(_to_float(value))  # its item() would be a longdouble again
    if isinstance(value, np.generic) and not isinstance(value, np.clongdouble):
        return _python_value(value.item())
    if isinstance(value, datetime.datetime):
        return _offset_in_minutes(value).isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            return None
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, pd.Period | pd.Interval | uuid.UUID):
        return str(value)
    return value


def _to_float(value: np.longdouble) -> float:
    number = float(value)
    if math.isinf(number) and np.isfinite(value):
        raise OverflowError(f"{value} is beyond 64-bit floats")
    return number


def _default(value: Any) -> Any:
    converted = _python_value(value)
    if converted is value:
        raise TypeError(f"{type(value).__name__} is not a JSON type")
    return converted
