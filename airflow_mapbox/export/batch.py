"""A piece of a source: geometries and attributes of some features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from pyproj import CRS

from airflow_mapbox.export.attributes import Column
from airflow_mapbox.export.geometry_columns import GeometryColumn, sizes
from airflow_mapbox.export.shapes import Kind

# Coordinates and attributes of a slice: of less, calls take longer than what they do; of more, orjson's text falls out
# of the processor's cache.
SLICE_BYTES = 2 << 20


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
    """

    geometry: GeometryColumn
    columns: Mapping[str, Column]
    crs: CRS | None
    origin: str
    first: int = 0
    kind: Kind | None = None
    as_text: frozenset[str] = field(default=frozenset())

    def __len__(self) -> int:
        return len(self.geometry)

    def slices(self, rows: int | None = None) -> Iterator[Batch]:
        """
        Cut into pieces of about two megabytes, however uneven the features are.

        :param rows: features a piece, at most.
        """
        attributes = sum(column_bytes(column) for column in self.columns.values()) // max(len(self), 1)
        ends = np.cumsum(sizes(self.geometry) + attributes)
        start, before = 0, 0
        while start < len(self):
            stop = max(int(np.searchsorted(ends, before + SLICE_BYTES, side="right")), start + 1)
            stop = stop if rows is None else min(stop, start + rows)
            before = int(ends[stop - 1])
            yield self._slice(start, min(stop, len(self)))
            start = stop

    def _slice(self, start: int, stop: int) -> Batch:
        columns = {
            name: column.iloc[start:stop] if isinstance(column, pd.Series) else column.slice(start, stop - start)
            for name, column in self.columns.items()
        }
        return replace(self, geometry=self.geometry[start:stop], columns=columns, first=self.first + start)


def column_bytes(column: Column) -> int:
    """
    Say how much memory a column takes.

    :param column: of Arrow or pandas.
    """
    # Of an object in pandas only the reference is counted: looking at each would take longer than writing it.
    return int(column.memory_usage(index=False)) if isinstance(column, pd.Series) else int(column.nbytes)
