"""Every source as a stream of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from typing import TypeAlias

import geopandas

from airflow_mapbox.export.batch import Batch
from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.sources.files import OpenablePath, SourceFile, find_file
from airflow_mapbox.export.sources.frames import read_frames
from airflow_mapbox.export.sources.geoparquet import is_parquet, read_geoparquet
from airflow_mapbox.export.sources.ogr import read_ogr
from airflow_mapbox.export.sources.postgis import PostGISQuery, read_postgis
from airflow_mapbox.export.sources.selection import Selection

# A frame, frames, the file of any geodata, or a query.
ExportSource: TypeAlias = (
    "geopandas.GeoDataFrame | Iterable[geopandas.GeoDataFrame] | str | PathLike[str] | OpenablePath | PostGISQuery"
)


def read_source(source: ExportSource, selection: Selection) -> Iterator[Iterator[Batch]]:
    """
    Read a source.

    :param source: what to read.
    :param selection: of what is in it.
    :return: streams of batches; each is at its end before the next is begun, so that sources which make their data on
        demand hold no more of it than one piece.
    :raises UnreadableSourceError: where it is missing, or of a kind that cannot be read.
    """
    if isinstance(source, geopandas.GeoDataFrame):
        selection.only("columns", of="a GeoDataFrame")
        yield from read_frames(iter((source,)), selection)
    elif isinstance(source, PostGISQuery):
        yield read_postgis(source, selection)
    elif isinstance(source, str | PathLike | OpenablePath):
        yield _read_file(find_file(source), selection)
    elif isinstance(source, Iterable):
        selection.only("columns", of="GeoDataFrames")
        yield from read_frames(iter(source), selection)
    else:
        raise UnreadableSourceError(
            f"A {type(source).__name__} cannot be exported: give a GeoDataFrame, an iterable of them, the path of "
            "geodata, or a PostGISQuery."
        )


def _read_file(file: SourceFile, selection: Selection) -> Iterator[Batch]:
    return read_geoparquet(file, selection) if is_parquet(file) else read_ogr(file, selection)
