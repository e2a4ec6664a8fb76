"""The columns of a frame as the properties of features."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import geopandas
import numpy as np
import orjson
import pandas as pd

from airflow_mapbox.export.errors import AttributeNameError, AttributeValueError


def attributes(frame: geopandas.GeoDataFrame) -> pd.DataFrame:
    """
    Give the columns beside the geometry, in types that JSON has.

    Missing values of every kind (None, NaN, NaT, infinities) become null; dates and times ISO 8601, with the offset
    where they have a zone; further geometry columns are left out.

    :param frame: a batch.
    :raises AttributeNameError: where two columns have the same name as text.
    """
    geometries = {name for name, kind in frame.dtypes.items() if isinstance(kind, geopandas.array.GeometryDtype)}
    plain = pd.DataFrame(frame[[name for name in frame.columns if name not in geometries]])
    names = [str(name) for name in plain.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AttributeNameError(f"More than one column is called {', '.join(twice)}: rename them, or keep one.")
    converted = {name: _column(plain.iloc[:, index]) for index, name in enumerate(names)}
    return pd.DataFrame(converted, index=plain.index)


def encode_properties(frame: pd.DataFrame) -> list[bytes]:
    """
    Write each row as a JSON object.

    :param frame: what :func:`attributes` gave.
    :return: one encoded object for each row.
    :raises AttributeValueError: for a value that has no form in JSON; the message names its column.
    """
    names = list(frame.columns)
    if not names:
        return [b"{}"] * len(frame)
    columns = [frame[name].tolist() for name in names]
    encoded: list[bytes] = []
    for values in zip(*columns, strict=True):
        row = dict(zip(names, values, strict=True))
        try:
            encoded.append(orjson.dumps(row, default=_default))
        except (orjson.JSONEncodeError, TypeError):
            raise _cannot_encode(row) from None
    return encoded


def _column(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.DatetimeTZDtype) or pd.api.types.is_datetime64_dtype(column.dtype):
        text = column.map(lambda moment: moment.isoformat(), na_action="ignore")
        return text.astype(object).where(column.notna(), None)
    if pd.api.types.is_float_dtype(column.dtype):
        # Infinity has no form in JSON either. As objects, since a float column would turn None back into NaN.
        return column.astype(object).where(column.abs() < float("inf"), None)
    if column.isna().any():
        return column.astype(object).where(column.notna(), None)
    return column


def _default(value: Any) -> Any:
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, pd.Period):
        return str(value)
    # Not left to orjson, which knows no NaT: it refuses one alone and writes one in an array as a date in 1677.
    if isinstance(value, np.datetime64):
        return pd.Timestamp(value)
    if isinstance(value, np.timedelta64):
        return pd.Timedelta(value)
    if isinstance(value, np.ndarray):
        return list(value) if value.dtype.kind in "mM" else value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(type(value).__name__)


def _cannot_encode(row: dict[str, Any]) -> AttributeValueError:
    for name, value in row.items():
        try:
            orjson.dumps(value, default=_default)
        except (orjson.JSONEncodeError, TypeError) as error:
            return AttributeValueError(
                f"Column {name!r} has a {type(value).__name__}, which has no form in JSON ({error}). Convert it to "
                "text or a number, or drop the column."
            )
    return AttributeValueError("A row has no form in JSON.")
