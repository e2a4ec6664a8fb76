"""A piece of a source: geometries and attributes of some features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyproj import CRS

from airflow_mapbox.export.geometry.decode import GeometryColumn, sizes
from airflow_mapbox.export.geometry.shapes import Kind
from airflow_mapbox.export.text.attributes import Column, named_column

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Coordinates and attributes of a slice: of less, calls take longer than what they do; of more, what one makes falls out
# of the processor's cache before the next one reads it.
SLICE_BYTES = 2 << 20
# Of many columns a slice has at least so many rows of numbers: each column is a few calls a slice, whatever its rows.
_LEAST_ROWS, _NUMBER_BYTES = 256, 8
_SAMPLES = 100  # objects of a column that are looked at


@dataclass(frozen=True)
class Batch:
    """
    A piece of a source.

    :param geometry: one a feature.
    :param columns: attributes by name, each as long as the geometry.
    :param crs: what the source says of its reference system.
    :param origin: what the source is called in messages.
    :param first: the index of the first feature in the source.
    :param kind: of all geometries, where they are nested lists.
    :param as_text: columns of numbers to write as text, because some cannot be written exactly otherwise.
    :param unreadable: what the source has for coordinates in a row whose geometry cannot be read from them; null for
        other rows. None if the source tells them apart by an error.
    """

    geometry: GeometryColumn
    columns: Mapping[str, Column]
    crs: CRS | None
    origin: str
    first: int = 0
    kind: Kind | None = None
    as_text: frozenset[str] = field(default=frozenset())
    unreadable: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.geometry)

    def slices(self, rows: int | None = None) -> Iterator[Batch]:
        """
        Cut into pieces of about two megabytes, however uneven the features are.

        :param rows: features a piece, at most.
        """
        widths, same = sizes(self.geometry), 0
        for name, column in self.columns.items():
            with named_column(name):
                width = row_bytes(column)
            if isinstance(width, int):
                same += width
            else:
                widths = widths + width
        ends = np.cumsum(widths + same)
        room = max(SLICE_BYTES, _LEAST_ROWS * _NUMBER_BYTES * len(self.columns))
        start, before = 0, 0
        while start < len(self):
            stop = max(int(np.searchsorted(ends, before + room, side="right")), start + 1)
            stop = stop if rows is None else min(stop, start + rows)
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
    Say how much memory each row of a column takes, codes of repeated values by what they stand for.

    :param column: of Arrow or pandas.
    :return: bytes a row, as an array or one number for all.
    """
    if isinstance(column, pd.Series):
        if isinstance(column.dtype, pd.CategoricalDtype):
            return _of_codes(column.cat.codes.to_numpy(), column.cat.categories)
        if column.dtype == object or isinstance(column.array, pd.arrays.StringArray):
            # To look at each would take longer than to write it.
            some = column.iloc[:: max(1, len(column) // _SAMPLES)]
            return sum(len(str(value)) for value in some) // max(len(some), 1)
        return int(column.memory_usage(index=False)) // max(len(column), 1)
    if pa.types.is_dictionary(column.type):
        return _of_codes(column.indices.fill_null(-1).to_numpy(zero_copy_only=False), column.dictionary)
    return int(column.nbytes) // max(len(column), 1)


def _of_codes(codes: NDArray[Any], values: pd.Index | pa.Array) -> NDArray[np.int64]:
    # Frames that are parts of one table may each have all of its values.
    used = np.unique(codes[codes >= 0]) if len(values) > len(codes) else np.arange(len(values))
    lengths = np.zeros(len(values) + 1, np.int64)  # the last one for -1, which is no value
    lengths[used] = [len(str(value)) for value in values.take(used).tolist()]
    found: NDArray[np.int64] = lengths[codes.astype(np.int64)]
    return found
