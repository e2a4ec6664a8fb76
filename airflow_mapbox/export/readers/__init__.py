"""Every source as a stream of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import TypeAlias

import geopandas
import pandas as pd

from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.options import Selection
from airflow_mapbox.export.readers.batch import Batch
from airflow_mapbox.export.readers.frames import read_frames
from airflow_mapbox.export.readers.geoparquet import is_parquet, read_geoparquet
from airflow_mapbox.export.readers.ogr import read_ogr
from airflow_mapbox.export.readers.postgis import PostGISQuery, read_postgis
from airflow_mapbox.sources.files import SourceFile, find_file
from airflow_mapbox.sources.source import OpenablePath

# A frame, frames, the file of any geodata, or a query.
ExportSource: TypeAlias = (
    "geopandas.GeoDataFrame | Iterable[geopandas.GeoDataFrame] | str | PathLike[str] | OpenablePath | PostGISQuery"
)

_SOURCES = "give a GeoDataFrame, an iterable of them, the path of geodata, or a PostGISQuery"
# What may be meant as a source, and how to make one of it.
_NEARLY: dict[type, str] = {
    geopandas.GeoSeries: "make a frame of it with series.to_frame()",
    pd.DataFrame: (
        "make a GeoDataFrame of it, with coordinates in columns geopandas.GeoDataFrame(frame, "
        "geometry=geopandas.points_from_xy(frame.lon, frame.lat), crs=4326)"
    ),
    Mapping: "several source layers go to write_mbtiles",
}


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
        selection.allow_only("columns", source="a GeoDataFrame")
        yield from read_frames((source,), selection)
    elif isinstance(source, PostGISQuery):
        yield read_postgis(source, selection)
    elif isinstance(source, str | PathLike | OpenablePath):
        yield _read_file(find_file(source), selection)
    elif isinstance(source, Iterable) and not isinstance(source, tuple(_NEARLY)):
        selection.allow_only("columns", source="GeoDataFrames")
        yield from read_frames(source, selection)
    else:
        advice = next((advice for kind, advice in _NEARLY.items() if isinstance(source, kind)), _SOURCES)
        raise UnreadableSourceError(f"A {type(source).__name__} cannot be exported.\n{advice[0].upper()}{advice[1:]}.")


def _read_file(file: SourceFile, selection: Selection) -> Iterator[Batch]:
    return read_geoparquet(file, selection) if is_parquet(file) else read_ogr(file, selection)
