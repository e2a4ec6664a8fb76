"""Measure how many bytes of GeoJSON coordinates and attributes take, by the first features of a source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mapbox.export.geometry.stages import PreparedGeometries
from airflow_mapbox.export.text.attributes import Column
from airflow_mapbox.export.text.join import RowParts
from airflow_mapbox.export.text.positions import position_strings

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Measure so many positions. More take longer and hardly change the result.
_MAX_POSITIONS = 1 << 13
# Look into so many features for the attributes that most of them have.
_MAX_ROWS = 1000
_SEPARATOR_BYTES = len("],[")
# Fewer decimals than these are coarser than Mapbox's most precise tiles: 5 are about a metre.
_FEWEST_DECIMALS = 5


@dataclass(frozen=True)
class Sample:
    """
    The bytes of the first features of a source.

    :param features: the number of features.
    :param bytes: their size.
    :param coordinates: bytes of their coordinates.
    :param decimals: bytes that fewer decimals would save, by the number of decimals.
    :param attributes: bytes of each attribute, with its name.
    :param fields: the attributes that at least half of the features have.
    """

    features: int
    bytes: int
    coordinates: int
    decimals: Mapping[int, int]
    attributes: Mapping[str, int]
    fields: tuple[str, ...]


def measure(
    columns: Mapping[str, Column],
    properties: RowParts,
    written: NDArray[np.int64],
    prepared: PreparedGeometries,
    features: pa.Array,
) -> Sample:
    """
    Measure the features of the first batch of a source.

    :param columns: the attributes by name.
    :param properties: the parts of the properties of all rows, as ``encode_properties`` returns them.
    :param written: the rows that are written.
    :param prepared: the geometries that are written.
    :param features: the features as they are written, one string each.
    """
    coordinates = _coordinate_bytes(prepared, prepared.decimals)
    rows = max(map(len, columns.values()), default=1)
    fewer = range(prepared.decimals - 1, _FEWEST_DECIMALS - 1, -1)
    return Sample(
        features=len(features),
        bytes=max(_bytes(features), 1),
        coordinates=coordinates,
        decimals={decimals: coordinates - _coordinate_bytes(prepared, decimals) for decimals in fewer},
        attributes={
            name: size * len(features) // rows for name, size in _attribute_bytes(columns, properties, rows).items()
        },
        fields=tuple(name for name, column in columns.items() if _is_filled(column, written[:_MAX_ROWS])),
    )


def _is_filled(column: Column, written: NDArray[np.int64]) -> bool:
    """Return whether at least half of the written rows have a value that GeoJSON does not write as null."""
    if isinstance(column, pd.Series) and isinstance(column.dtype, pd.ArrowDtype):
        return _is_filled(pa.array(column.iloc[written]), np.arange(len(written)))
    if isinstance(column, pd.Series):
        present = sum(map(_is_written, column.iloc[written].dropna().astype(object)))
    else:
        # Not `take`, which Arrow lacks for views of strings.
        present = sum(_is_written_scalar(column[row]) for row in written.tolist())
    return 2 * present >= len(written)


def _is_written(value: object) -> bool:
    """Return whether a value is written as it is. Numbers that JSON lacks are written as null."""
    return not isinstance(value, float | np.floating) or bool(np.isfinite(value))


def _is_written_scalar(scalar: pa.Scalar) -> bool:
    """Return the same of Arrow's value, which Python may not have: its dates begin with the year 1."""
    while scalar.is_valid and isinstance(scalar, pa.DictionaryScalar | pa.ExtensionScalar):
        scalar = scalar.value
    if not scalar.is_valid:
        return False
    return not pa.types.is_floating(scalar.type) or _is_written(scalar.as_py())


def _coordinate_bytes(prepared: PreparedGeometries, decimals: int) -> int:
    """Return the bytes of all coordinates with a number of decimals, by the first positions of each kind."""
    total = 0.0
    for shapes in prepared.shapes:
        ordinates = [shapes.x, shapes.y] if shapes.z is None else [shapes.x, shapes.y, shapes.z]
        sampled = [_rounded(ordinate[:_MAX_POSITIONS], prepared.decimals - decimals) for ordinate in ordinates]
        size = _bytes(position_strings(sampled, decimals, None)) / len(sampled[0])
        total += (size + _SEPARATOR_BYTES) * len(shapes.x)
    return round(total)


def _rounded(ordinate: NDArray[np.float64], fewer: int) -> NDArray[np.float64]:
    return ordinate if not fewer else np.rint(ordinate / 10.0**fewer)


def _attribute_bytes(names: Iterable[str], properties: RowParts, rows: int) -> dict[str, int]:
    """Return the bytes of each attribute with its name in all rows."""
    sizes = dict.fromkeys(names, 0)
    remaining = iter(sizes)
    name = key = None
    following = next(remaining, None)
    for part in properties:
        key = None if following is None else f"{',' if name is not None else '{'}{orjson.dumps(following).decode()}:"
        if isinstance(part, str) and part == key:
            name, following = following, next(remaining, None)
        if name is not None:
            sizes[name] += len(part.encode()) * rows if isinstance(part, str) else _bytes(part)
    if name is not None:
        sizes[name] -= rows  # the bracket at the end of the object
    return sizes


def _bytes(strings: pa.Array) -> int:
    return int(pc.sum(pc.binary_length(strings)).as_py() or 0)
