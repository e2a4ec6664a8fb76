"""GeoDataFrames as batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
from pyproj import CRS

from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.options import Selection
from airflow_mapbox.export.readers.batch import Batch
from airflow_mapbox.export.text.attributes import (
    Column,
    columns_by_name,
    index_attributes,
    large_integers,
    named_column,
)


def read_frames(frames: Iterable[geopandas.GeoDataFrame], selection: Selection) -> Iterator[Iterator[Batch]]:
    """
    Give each frame as a batch; none is held when the next one is asked for.

    :param frames: which may be made on demand.
    :param selection: of their columns.
    :raises UnreadableSourceError: for an item that is not a GeoDataFrame, or has no geometry.
    """
    first = 0
    as_text: set[str] = set()
    numbers: set[str] = set()
    places = count()
    for frame in frames:  # enumerate would hold the last one
        batch = _batch(frame, next(places), first, selection)
        # A column that was text in one frame is text in all that follow; one that was not cannot become it.
        names = batch.columns.keys()
        as_text.update({name for name, column in batch.columns.items() if _is_large(name, column)} - numbers)
        numbers.update(names - as_text)
        rows = len(batch)
        del frame
        yield iter((replace(batch, as_text=frozenset(names & as_text)),))
        del batch, names
        first += rows


def _is_large(name: str, column: Column) -> bool:
    with named_column(name):
        return large_integers(column)


def _batch(frame: object, index: int, first: int, selection: Selection) -> Batch:
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise UnreadableSourceError(_not_a_frame(frame, index))
    if frame.active_geometry_name is None:
        raise UnreadableSourceError(
            f"Item {index} of the source is a GeoDataFrame without an active geometry column.\n"
            "Name one with frame.set_geometry(column)."
        )
    # By place, since two columns may have one name, which is told then.
    columns = columns_by_name(
        (
            *_index_columns(frame),
            *(
                (name, _column(frame.iloc[:, place]))
                for place, (name, kind) in enumerate(zip(frame.columns, frame.dtypes, strict=True))
                if not isinstance(kind, geopandas.array.GeometryDtype)
            ),
        )
    )
    columns = {name: columns[name] for name in selection.choose_columns(columns)}
    crs = None if frame.crs is None else CRS.from_user_input(frame.crs)
    return Batch(np.asarray(frame.geometry, dtype=object), columns, crs, "The GeoDataFrame", first)


def _not_a_frame(item: object, index: int) -> str:
    if item is None:
        return (
            f"Item {index} of the source is None, not a GeoDataFrame.\n"
            "Leave out what has no data, or give an empty GeoDataFrame for it."
        )
    return (
        f"Item {index} of the source is a {type(item).__name__}, not a GeoDataFrame.\n"
        "Make one of it with geopandas.GeoDataFrame(frame, geometry=…, crs=…)."
    )


def _index_columns(frame: geopandas.GeoDataFrame) -> Iterator[tuple[str, Column]]:
    for level, name in enumerate(index_attributes(frame.index.names, map(str, frame.columns))):
        if name is not None:
            yield name, _column(pd.Series(frame.index.get_level_values(level)))


def _column(series: pd.Series) -> Column:
    """Take Arrow's array out of a series: pandas knows fewer of its types than Arrow itself."""
    if not isinstance(series.dtype, pd.ArrowDtype):
        return series
    found = pa.chunked_array(series.array.__arrow_array__())
    return found.combine_chunks() if found.num_chunks != 1 else found.chunk(0)
