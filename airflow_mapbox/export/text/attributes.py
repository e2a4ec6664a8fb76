"""Columns of attributes as text that JSON has, a whole column at a time."""

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

# JavaScript and vector tiles' readers hold whole numbers in 64-bit floats, which are exact up to here.
EXACT = 2**53

_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # a second
_CONTROL = {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


def columns_by_name(columns: Iterable[tuple[object, Column]]) -> dict[str, Column]:
    """
    Name columns.

    :param columns: names of any type, and values.
    :raises AttributeNameError: where two have the same name as text, or one cannot be written.
    """
    named: dict[str, Column] = {}
    for name, column in columns:
        text = str(name)
        if text in named:
            raise AttributeNameError(f"More than one column is called {text}.\nRename them, or keep one.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise AttributeNameError(f"The column name {text!r} cannot be written as UTF-8: rename it.") from None
        named[text] = column
    return named


def index_attributes(names: Sequence[object], columns: Iterable[str]) -> list[str | None]:
    """
    Say under which names the levels of a pandas index are attributes, as geopandas writes them to a file.

    A named index is one, and every level of several; a single one without a name only counts rows. A level that is a
    column as well (``set_index(…, drop=False)``) is written once.

    :param names: of the levels, None for a level without a name.
    :param columns: names of the columns beside the index.
    :return: a name for each level, or None for one that is not an attribute.
    """
    taken = set(columns)
    named = [f"level_{n}" if name is None and len(names) > 1 else name for n, name in enumerate(names)]
    return [None if name is None or str(name) in taken else str(name) for name in named]


@contextmanager
def named_column(name: str) -> Iterator[None]:
    """Say which column it is that cannot be written: pandas and Arrow raise errors of many kinds for their types."""
    problem = None
    try:
        yield
    except (ExportError, MemoryError):
        raise
    except RecursionError:
        problem = "lists or records that are nested too deep"
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        problem = f"a value or a type that has no form in JSON ({type(error).__name__}: {reason})"
    if problem is not None:
        raise AttributeValueError(
            f"Column {name!r} has {problem}.\nConvert it to text or a number, or drop the column."
        )


def encode_properties(columns: Mapping[str, Column], as_text: frozenset[str]) -> RowParts:
    """
    Write the properties of features, as the pieces of text that make them up.

    :param columns: what to write.
    :param as_text: columns of numbers to write as text.
    :return: of a JSON object a row.
    :raises AttributeValueError: for a value that has no form in JSON; the message names its column.
    """
    pieces: RowParts = []
    for name, column in columns.items():
        key = orjson.dumps(name).decode()
        with named_column(name):
            encoded = _Encoder(name, as_text=name in as_text).encode(column)
        pieces += [f"{',' if pieces else '{'}{key}:", *encoded]
    return [*pieces, "}"] if pieces else ["{}"]


def large_integers(column: Column) -> bool:
    """
    Say whether a column has whole numbers that only text can hold exactly.

    :param column: of any type.
    """
    if isinstance(column, pd.Series):
        if isinstance(column.dtype, pd.CategoricalDtype):
            return large_integers(pd.Series(column.dtype.categories))
        if column.dtype != object and pd.api.types.is_integer_dtype(column.dtype):
            present = column.dropna()
            return bool(len(present)) and (int(present.max()) > EXACT or int(present.min()) < -EXACT)
        if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) in ("integer", "decimal"):
            return any(abs(value) > EXACT for value in column.dropna() if _is_finite(value))
        if isinstance(column.dtype, pd.ArrowDtype):
            return any(large_integers(chunk) for chunk in column.array.__arrow_array__().chunks)
        return False
    if types.is_dictionary(column.type):
        return large_integers(column.dictionary)
    if not may_be_large(column.type):
        return False
    least, most = pc.min_max(_wide(column)).values()
    return bool(least.is_valid and (most.as_py() > EXACT or least.as_py() < -EXACT))


def may_be_large(kind: pa.DataType) -> bool:
    """Say whether a type can hold whole numbers past 2^53."""
    return bool(types.is_int64(kind) or types.is_uint64(kind) or types.is_decimal(kind))


def _wide(column: pa.Array) -> pa.Array:
    """Give decimals of a width that Arrow can compute with."""
    kind = column.type
    narrow = types.is_decimal(kind) and kind.bit_width < 128
    return column.cast(pa.decimal128(kind.precision, kind.scale)) if narrow else column


def _is_finite(value: Any) -> bool:
    return not isinstance(value, decimal.Decimal) or value.is_finite()


class _Texts(NamedTuple):
    """
    One text a row, or null where there is no value.

    :param values: JSON, once they have their quotation marks.
    :param quotes: whether they lack them.
    """

    values: pa.Array
    quotes: bool = False

    def pieces(self) -> RowParts:
        """Give what makes up a JSON value a row."""
        if self.quotes and not self.values.null_count:
            return ['"', self.values, '"']  # put there with all the rest, instead of by a copy of the column
        values = join_rows(['"', self.values, '"']) if self.quotes else self.values
        return [pc.fill_null(values, "null")]

    def take(self, indices: pa.Array) -> _Texts:
        """Choose rows."""
        return self._replace(values=self.values.take(indices))


class _Encoder:
    """
    Writes one column.

    :param name: for messages.
    :param as_text: whether its numbers are written as text.
    """

    def __init__(self, name: str, *, as_text: bool) -> None:
        self._name = name
        self._as_text = as_text

    def encode(self, column: Column) -> RowParts:
        """Give what makes up a JSON value a row."""
        return (self._pandas(column) if isinstance(column, pd.Series) else self._arrow(column)).pieces()

    def _pandas(self, column: pd.Series) -> _Texts:
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
            found = pa.Array.from_pandas(column)
        except (pa.ArrowException, ValueError, TypeError):
            return self._values(column.tolist())
        if isinstance(found, pa.ChunkedArray):
            found = found.combine_chunks()
        return self._arrow(found)

    def _categories(self, codes: NDArray[Any], categories: pd.Index) -> _Texts:
        missing = codes < 0
        if len(categories) > len(codes):
            # Only those of this slice: all of them for each slice would be rows squared, if hardly any repeats.
            used, codes = np.unique(np.where(missing, codes.max(initial=0), codes), return_inverse=True)
            categories = categories[used]
        return self._pandas(pd.Series(categories)).take(pa.array(codes, mask=missing))

    def _arrow(self, column: pa.Array) -> _Texts:
        kind = column.type
        for test, write in self._writers():
            if test(kind):
                return write(column)
        raise AttributeValueError(
            f"Column {self._name!r} is of type {kind}, which has no form in JSON.\nConvert it to text or a number, or "
            "drop the column."
        )

    def _writers(self) -> tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], _Texts]], ...]:
        """The types of Arrow, and how each is written."""
        return (
            (types.is_null, _cast),
            (lambda kind: isinstance(kind, pa.BaseExtensionType), self._extension),
            (types.is_dictionary, self._dictionary),
            (types.is_run_end_encoded, lambda column: self._arrow(pc.run_end_decode(column))),
            (types.is_boolean, _cast),
            (types.is_integer, self._numbers),
            (types.is_decimal, self._numbers),
            (types.is_floating, self._floats),
            (_is_text, self._texts),
            (types.is_timestamp, self._moments),
            (types.is_date, lambda column: self._dated(column.cast(pa.date32()).cast(pa.string()))),
            (types.is_time, self._times),
            (types.is_duration, self._durations),
            (types.is_nested, self._nested),
        )

    def _dictionary(self, column: pa.Array) -> _Texts:
        if len(column.dictionary) > len(column):
            return self._arrow(column.dictionary.take(column.indices))  # see _categories
        return self._arrow(column.dictionary).take(column.indices)

    def _extension(self, column: pa.Array) -> _Texts:
        if isinstance(column.type, pa.UuidType):
            return self._texts(pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string()))
        if isinstance(column.type, pa.Bool8Type):
            return _cast(column.cast(pa.bool_()))
        return self._arrow(column.storage)

    def _numbers(self, column: pa.Array) -> _Texts:
        column = _wide(column)
        if not self._as_text and large_integers(column):
            raise AttributeValueError(
                f"Column {self._name!r} has whole numbers beyond 2^53, which maps read inexactly, after others of it "
                f"were written as numbers.\nWrite the whole column as text: as_text=[{self._name!r}]."
            )
        return _Texts(column.cast(pa.string()), quotes=self._as_text)

    def _floats(self, column: pa.Array) -> _Texts:
        if types.is_float16(column.type):
            column = column.cast(pa.float32())
        values = column.to_numpy(zero_copy_only=False)
        if not len(values):
            return _Texts(pa.array([], pa.string()))
        # orjson keeps the shortest form of 32 bits as well, and has null for NaN and infinities.
        texts = number_strings(np.ascontiguousarray(values))
        if not self._as_text:
            return _Texts(texts)
        return _Texts(pc.if_else(pa.array(np.isfinite(values)), pc.utf8_trim(texts, " "), None), quotes=True)

    def _texts(self, column: pa.Array) -> _Texts:
        column = _of_its_own(column)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            raise AttributeValueError(
                f"Column {self._name!r} has text that is not UTF-8.\nDecode it with the encoding that it is in."
            ) from None
        return _Texts(_escaped(column), quotes=True)

    def _moments(self, column: pa.Array) -> _Texts:
        """ISO 8601 with as many digits of a second as there are: none, six or nine; with the offset of its zone."""
        if not column.type.tz:
            return self._dated(_with_t(_with_fraction(column)))
        local, ticks = pc.local_timestamp(column), _TICKS[column.type.unit]
        ahead = pc.subtract(local.cast(pa.int64()), column.cast(pa.int64()))
        offsets = ahead.dictionary_encode()
        odd = [offset for offset in offsets.dictionary.to_pylist() if offset % (60 * ticks)]
        if odd:
            # Local time before there were zones: ISO 8601 has no seconds for an offset, so it is UTC then.
            exact = pc.invert(pc.is_in(ahead, pa.array(odd, pa.int64())))
            local = pc.if_else(exact, local, column.cast(pa.int64()).cast(local.type))
            offsets = pc.if_else(exact, ahead, 0).dictionary_encode()
        names = pa.array([_offset(offset // ticks) for offset in offsets.dictionary.to_pylist()], pa.string())
        zoned = pc.binary_join_element_wise(_with_fraction(local), names.take(offsets.indices), "")
        return self._dated(_with_t(zoned))

    def _times(self, column: pa.Array) -> _Texts:
        return self._dated(_with_fraction(column))

    def _dated(self, texts: pa.Array) -> _Texts:
        """Give dates and times, where Arrow has a text for all of them."""
        if pc.any(pc.starts_with(texts, "<")).as_py():  # <value out of range: 86400>
            raise AttributeValueError(
                f"Column {self._name!r} has dates beyond the year 32767, or times of day past 23:59:59.\nConvert it to "
                "text, in SQL with ::text, or drop the column."
            )
        return _Texts(texts, quotes=True)

    def _durations(self, column: pa.Array) -> _Texts:
        """Seconds."""
        ticks = column.cast(pa.int64()).cast(pa.float64(), safe=False)
        return self._floats(pc.divide(ticks, float(_TICKS[column.type.unit])))

    def _nested(self, column: pa.Array) -> _Texts:
        """Lists, records and maps as JSON in a text: a tile's attributes have no other form for them."""
        texts = self._values(column.to_pylist(maps_as_pydicts="lossy")).values
        return _Texts(pc.if_else(column.is_valid(), texts, None))

    def _values(self, values: list[Any]) -> _Texts:
        """Values of any type, one by one."""
        return _Texts(pa.array([self._value(value) for value in values], pa.string()))

    def _value(self, value: Any) -> str:
        if self._as_text and isinstance(value, decimal.Decimal) and value.is_finite():
            return f'"{value:f}"'
        plain = _plain(value)
        if isinstance(plain, int) and not isinstance(plain, bool):
            return self._whole(plain)
        try:
            text = orjson.dumps(
                plain, default=_default, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
            )
            if isinstance(plain, dict | list | tuple):
                text = orjson.dumps(text.decode())
            elif self._as_text and isinstance(plain, float) and text != b"null":
                text = b'"%s"' % text
        except (orjson.JSONEncodeError, TypeError) as error:
            problem = str(error)
        else:
            return text.decode()
        raise AttributeValueError(
            f"Column {self._name!r} has a {type(value).__name__}, which has no form in JSON ({problem}).\nConvert it "
            "to text or a number, or drop the column."
        )

    def _whole(self, number: int) -> str:
        if self._as_text:
            return f'"{number}"'
        if abs(number) > EXACT:
            raise AttributeValueError(
                f"Column {self._name!r} has whole numbers beyond 2^53, which maps read inexactly.\nWrite the whole "
                f"column as text: as_text=[{self._name!r}]."
            )
        return str(number)


def _is_text(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _cast(column: pa.Array) -> _Texts:
    return _Texts(column.cast(pa.string()))


def _of_its_own(texts: pa.Array) -> pa.Array:
    """
    Return strings with the memory that they take and no more: a slice shares that of the whole column.

    Whoever reads the memory of a slice would read all of the column for each slice otherwise. It may also be longer
    than the offsets of 32 bits reach.

    :param texts: of any of Arrow's types for strings.
    """
    if types.is_string_view(texts.type):
        return texts.cast(pa.string())
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return texts.cast(pa.string())
    wide = np.int64 if types.is_large_string(texts.type) else np.int32
    places = np.frombuffer(offsets, wide)[texts.offset : texts.offset + len(texts) + 1]
    first, last = int(places[0]), int(places[-1])
    valid = pa.py_buffer(np.packbits(np.asarray(texts.is_valid()), bitorder="little")) if texts.null_count else None
    own = pa.py_buffer((places - first).astype(np.int32))
    return pa.Array.from_buffers(pa.string(), len(texts), [valid, own, data.slice(first, last - first)])


def _escaped(texts: pa.Array) -> pa.Array:
    """Escape what JSON wants escaped (RFC 8259, section 7); most columns have nothing of it."""
    _, _, data = texts.buffers()
    if data is None or not len(texts):
        return texts
    octets = np.frombuffer(data, np.uint8)
    if (octets == ord("\\")).any():
        texts = pc.replace_substring(texts, "\\", "\\\\")
    if (octets == ord('"')).any():
        texts = pc.replace_substring(texts, '"', '\\"')
    for code in np.unique(octets[octets < 32]):
        texts = pc.replace_substring(texts, chr(code), _CONTROL.get(code, f"\\u{code:04x}"))
    return texts


def _with_t(texts: pa.Array) -> pa.Array:
    """Put a T where Arrow has a space between date and time (ISO 8601)."""
    lengths = pc.binary_length(texts)
    if texts.null_count or texts.offset or pc.min(lengths).as_py() != 19 or pc.max(lengths).as_py() != 19:
        return pc.replace_substring(texts, " ", "T", max_replacements=1)
    _, offsets, data = texts.buffers()
    dated = np.frombuffer(data, np.uint8)[: 19 * len(texts)].copy()
    dated[10::19] = ord("T")
    return pa.Array.from_buffers(pa.string(), len(texts), [None, offsets, pa.py_buffer(dated)])


def _with_fraction(column: pa.Array) -> pa.Array:
    """Write times of day or timestamps with as many digits of a second as each has: none, six or nine."""
    kind = column.type
    if kind.unit == "s":
        return column.cast(pa.string())
    per_second = _TICKS[kind.unit]
    ticks = column.cast(pa.int32()).cast(pa.int64()) if types.is_time32(kind) else column.cast(pa.int64())
    texts = _cast_to(column, "s").cast(pa.string())
    fraction = pc.subtract(ticks, pc.multiply(_floor_divide(ticks, per_second), per_second))
    if not pc.any(pc.not_equal(fraction, 0)).as_py():
        return texts
    micro = _cast_to(column, "us").cast(pa.string())
    texts = pc.if_else(pc.equal(fraction, 0), texts, micro)
    if kind.unit != "ns":
        return texts
    below = pc.subtract(fraction, pc.multiply(pc.divide(fraction, 1000), 1000))
    return pc.if_else(pc.equal(below, 0), texts, column.cast(pa.string()))


def _floor_divide(ticks: pa.Array, divisor: int) -> pa.Array:
    """Divide towards minus infinity, where moments before 1970 need it."""
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


def _whole_minutes(moment: datetime.datetime) -> datetime.datetime:
    """Give a moment in UTC where its offset has seconds, which ISO 8601 has not."""
    offset = moment.utcoffset()
    if offset is None or not offset % datetime.timedelta(minutes=1):
        return moment
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError:  # the first hours of the year 1, which stand for no date
        return moment


def _plain(value: Any) -> Any:
    """Give a scalar of pandas or numpy, and what means that there is none, as Python has it."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.ndarray):
        return list(value) if value.dtype.kind in "mMO" else value.tolist()
    if isinstance(value, np.datetime64):
        return _plain(pd.Timestamp(value))
    if isinstance(value, np.timedelta64):
        return _plain(pd.Timedelta(value))
    if isinstance(value, np.longdouble):
        return _plain(_narrowed(value))  # whose own item is itself
    if isinstance(value, np.generic) and not isinstance(value, np.clongdouble):
        return _plain(value.item())
    if isinstance(value, datetime.datetime):
        return _whole_minutes(value).isoformat()
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


def _narrowed(value: np.longdouble) -> float:
    number = float(value)
    if math.isinf(number) and np.isfinite(value):
        raise OverflowError(f"{value} is beyond 64-bit floats")
    return number


def _default(value: Any) -> Any:
    plain = _plain(value)
    if plain is value:
        raise TypeError(f"{type(value).__name__} is not of JSON")
    return plain
