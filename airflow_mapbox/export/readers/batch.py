"""A batch: the geometries and attributes of some features of a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyproj import CRS

from airflow_mapbox.export.geometry.decode import GeometryColumn, geometry_bytes
from airflow_mapbox.export.geometry.shapes import Kind
from airflow_mapbox.export.text.attributes import Column, named_column

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Coordinates and attributes of a batch that is encoded. Smaller batches are dominated by call overhead; larger ones
# fall out of the CPU cache.
BATCH_BYTES = 2 << 20
# A last batch that is smaller than this share of the others is a part of the one before: its calls cost as much.
_SMALLEST_REST = 1 / 8
# Each column costs a few calls a batch. With many columns, a batch has room for at least this many rows of numbers.
_MIN_ROWS, _BYTES_PER_NUMBER = 256, 8
# Measure this many objects of a column. Measuring all would take longer than writing them.
_SAMPLES = 100


@dataclass(frozen=True)
class Batch:
    """
    Some features of a source.

    :param geometry: one geometry for each feature.
    :param columns: attributes by name, each as long as the geometry.
    :param crs: the reference system that the source declares, or None.
    :param origin: the source's name in messages.
    :param first: the index of the first feature in the source, from 0.
    :param kind: the kind of all geometries, if they are nested lists.
    :param as_text: columns of numbers to write as strings, because some cannot be written exactly as numbers.
    :param total: number of features in the whole source, or None if it is unknown.
    :param unreadable: the source's coordinates in each row whose geometry cannot be read from them, and null in other
        rows. It is None if the source raises an error instead.
    """

    geometry: GeometryColumn
    columns: Mapping[str, Column]
    crs: CRS | None
    origin: str
    first: int = 0
    kind: Kind | None = None
    as_text: frozenset[str] = field(default=frozenset())
    unreadable: pa.Array | None = None
    total: int | None = None

    def __len__(self) -> int:
        return len(self.geometry)

    def split(self, max_rows: int | None = None) -> Iterator[Batch]:
        """
        Split into batches of about two megabytes. The sizes of features may differ.

        :param max_rows: maximum features in a batch.
        """
        sizes, constant = geometry_bytes(self.geometry), 0
        for name, column in self.columns.items():
            with named_column(name):
                size = row_bytes(column)
            if isinstance(size, int):
                constant += size
            else:
                sizes = sizes + size
        ends = np.cumsum(sizes + constant)
        room = max(BATCH_BYTES, _MIN_ROWS * _BYTES_PER_NUMBER * len(self.columns))
        start, before = 0, 0
        while start < len(self):
            stop = max(int(np.searchsorted(ends, before + room, side="right")), start + 1)
            if ends[-1] - ends[min(stop, len(self)) - 1] < room * _SMALLEST_REST:
                stop = len(self)
            stop = stop if max_rows is None else min(stop, start + max_rows)
            before = int(ends[stop - 1])
            yield self._slice(start, min(stop, len(self)))
            start = stop

    def _slice(self, start: int, stop: int) -> Batch:
        columns = {
            name: column.iloc[start:stop] if isinstance(column, pd.Series) else column.slice(start, stop - start)
            for name, column in self.columns.items()
        }
        return replace(
            self,
            geometry=self.geometry[start:stop],
            columns=columns,
            first=self.first + start,
            unreadable=None if self.unreadable is None else self.unreadable.slice(start, stop - start),
        )


def row_bytes(column: Column) -> Any:
    """
    Return about how many bytes each row of a column takes. A code of a repeated value counts as that value.

    :param column: an array of Arrow or a series of pandas.
    :return: bytes of each row, shape (n,), or one number for all rows.
    """
    if isinstance(column, pd.Series):
        if isinstance(column.dtype, pd.CategoricalDtype):
            return _value_bytes(column.cat.codes.to_numpy(), column.cat.categories)
        if column.dtype == object or isinstance(column.array, pd.arrays.StringArray):
            sample = column.iloc[:: max(1, len(column) // _SAMPLES)]
            return sum(len(str(value)) for value in sample) // max(len(sample), 1)
        return int(column.memory_usage(index=False)) // max(len(column), 1)
    if pa.types.is_dictionary(column.type):
        return _value_bytes(column.indices.fill_null(-1).to_numpy(zero_copy_only=False), column.dictionary)
    return arrow_bytes(column) // max(len(column), 1)


def arrow_bytes(values: pa.Array | pa.RecordBatch) -> int:
    """Return how many bytes an array or a batch of Arrow takes."""
    try:
        return int(values.nbytes)
    except pa.ArrowTypeError:
        # pyarrow before version 24 cannot tell which bytes of a view's buffers are its own. Count all of them.
        return int(values.get_total_buffer_size())


def _value_bytes(codes: NDArray[Any], values: pd.Index | pa.Array) -> NDArray[np.int64]:
    """Return the length of the value of each code; -1 stands for a missing value."""
    # Each frame of a table may have all values of the table, and use few.
    used = np.unique(codes[codes >= 0]) if len(values) > len(codes) else np.arange(len(values))
    lengths = np.zeros(len(values) + 1, np.int64)  # the last one is for the code -1
    lengths[used] = [len(str(value)) for value in values.take(used).tolist()]
    sizes: NDArray[np.int64] = lengths[codes.astype(np.int64)]
    return sizes
