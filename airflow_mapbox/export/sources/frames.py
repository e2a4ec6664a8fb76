"""GeoDataFrames as batches."""

from __future__ import annotations

from collections.abc import Iterator

import geopandas
import numpy as np
from pyproj import CRS

from airflow_mapbox.export.attributes import columns_by_name, large_integers
from airflow_mapbox.export.batch import Batch
from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.sources.selection import Selection


def read_frames(frames: Iterator[geopandas.GeoDataFrame], selection: Selection) -> Iterator[Iterator[Batch]]:
    """
    Give each frame as a batch; none is held when the next one is asked for.

    :param frames: which may be made on demand.
    :param selection: of their columns.
    :raises UnreadableSourceError: for an item that is no GeoDataFrame, or has no geometry.
    """
    index = first = 0
    as_text: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    while True:
        frame = next(frames, None)
        if frame is None:
            return
        batch = _batch(frame, index, first, selection)
        # A column that was text in one frame is text in all that follow; one that was not cannot become it.
        as_text |= {name for name, column in batch.columns.items() if large_integers(column)} - numbers
        numbers |= batch.columns.keys() - as_text
        rows = len(batch)
        del frame
        yield iter((_with_text(batch, as_text),))
        del batch
        first += rows
        index += 1


def _with_text(batch: Batch, as_text: frozenset[str]) -> Batch:
    return Batch(batch.geometry, batch.columns, batch.crs, batch.origin, batch.first, as_text=as_text)


def _batch(frame: object, index: int, first: int, selection: Selection) -> Batch:
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise UnreadableSourceError(
            f"Item {index} of the source is a {type(frame).__name__}, not a GeoDataFrame. Make one of it with "
            "geopandas.GeoDataFrame(frame, geometry=…, crs=…)."
        )
    if frame.active_geometry_name is None:
        raise UnreadableSourceError(
            "A GeoDataFrame has no active geometry column. Name one with frame.set_geometry(column)."
        )
    # By place, since two columns may have one name, which is told then.
    columns = columns_by_name(
        (name, frame.iloc[:, place])
        for place, (name, kind) in enumerate(zip(frame.columns, frame.dtypes, strict=True))
        if not isinstance(kind, geopandas.array.GeometryDtype)
    )
    columns = {name: columns[name] for name in selection.chosen(columns)}
    crs = None if frame.crs is None else CRS.from_user_input(frame.crs)
    return Batch(np.asarray(frame.geometry, dtype=object), columns, crs, "The GeoDataFrame", first)
