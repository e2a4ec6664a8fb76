"""Read GeoDataFrames as batches."""

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
    has_large_integers,
    index_attributes,
    named_column,
)


def read_frames(frames: Iterable[geopandas.GeoDataFrame], selection: Selection) -> Iterator[Iterator[Batch]]:
    """
    Yield each frame as a batch. Memory holds no frame when the next one is requested.

    :param frames: the frames, which may be made on demand.
    :param selection: the columns to read.
    :raises UnreadableSourceError: for an item that is not a GeoDataFrame, or has no geometry.
    """
    first = 0
    as_text: set[str] = set()
    as_numbers: set[str] = set()
    indices = count()
    for frame in frames:  # enumerate would keep a reference to the frame
        batch = _batch(frame, next(indices), first, selection)
        # A column is written in the same way in all frames, as the first frame that has it decides.
        names = batch.columns.keys()
        as_text.update({name for name, column in batch.columns.items() if _is_large(name, column)} - as_numbers)
        as_numbers.update(names - as_text)
        rows = len(batch)
        del frame
        yield iter((replace(batch, as_text=frozenset(names & as_text)),))
        del batch, names
        first += rows


def _is_large(name: str, column: Column) -> bool:
    with named_column(name):
        return has_large_integers(column)


def _batch(frame: object, index: int, first: int, selection: Selection) -> Batch:
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise UnreadableSourceError(_describe_wrong_item(frame, index))
    if frame.active_geometry_name is None:
        raise UnreadableSourceError(
            f"Item {index} of the source is a GeoDataFrame without an active geometry column.\n"
            "Name one with frame.set_geometry(column)."
        )
    # By position: two columns may have the same name, which columns_by_name refuses.
    columns = columns_by_name(
        (
            *_index_columns(frame),
            *(
                (name, _column(frame.iloc[:, index]))
                for index, (name, kind) in enumerate(zip(frame.columns, frame.dtypes, strict=True))
                if not isinstance(kind, geopandas.array.GeometryDtype)
            ),
        )
    )
    columns = {name: columns[name] for name in selection.choose_columns(columns)}
    crs = None if frame.crs is None else CRS.from_user_input(frame.crs)
    return Batch(np.asarray(frame.geometry, dtype=object), columns, crs, "The GeoDataFrame", first)


def _describe_wrong_item(item: object, index: int) -> str:
    if item is None:
        return (
            f"Item {index} of the source is None, not a GeoDataFrame.\n"
            "Leave the item out, or use an empty GeoDataFrame."
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
    """Return the Arrow array of a series, if it has one: pandas supports fewer of its types than Arrow itself."""
    if not isinstance(series.dtype, pd.ArrowDtype):
        return series
    chunks = pa.chunked_array(series.array.__arrow_array__())
    return chunks.combine_chunks() if chunks.num_chunks != 1 else chunks.chunk(0)
