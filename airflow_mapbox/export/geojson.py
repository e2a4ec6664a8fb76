"""Writes a FeatureCollection in CRS84, batch by batch."""

from __future__ import annotations

import logging
from collections import Counter
from os import PathLike
from pathlib import Path

import geopandas
import numpy as np
import shapely
from pyproj import CRS

from airflow_mapbox.export.attributes import attributes, encode_properties
from airflow_mapbox.export.crs84 import CRS84, crs_name, crs_of, parse_crs, to_crs84
from airflow_mapbox.export.errors import EmptyExportError
from airflow_mapbox.export.files import WholeFile, whole_file
from airflow_mapbox.export.report import ExportReport
from airflow_mapbox.export.sources import BATCH_ROWS, ExportSource, batches

log = logging.getLogger(__name__)

# Mapbox sniffs the format from about the first 400 characters, and an attribute called "objects" or "tilejson" would
# mislead it: the spaces keep every attribute out of them (export-notes.md, "Traps").
_HEAD = b'{"type":"FeatureCollection","features":[' + b" " * 512 + b"\n"
_TAIL = b"\n]}\n"


def write_geojson(
    source: ExportSource,
    path: str | PathLike[str],
    *,
    crs: object = None,
    decimals: int = 7,
    batch_rows: int = BATCH_ROWS,
) -> ExportReport:
    """
    Write geodata as a GeoJSON FeatureCollection in longitude, latitude on WGS 84 (RFC 7946, section 4).

    Only one batch is in memory at a time. The file appears under its name when it is whole, or not at all. Features
    without a geometry are dropped and counted; rings are wound by the right-hand rule (RFC 7946, section 3.1.6).

    :param source: a GeoDataFrame, an iterable of them, or the path of a GeoParquet file.
    :param path: the file to write; folders above it are made, and a file of that name is replaced.
    :param crs: the reference system of data that does not name its own, as pyproj takes it.
    :param decimals: kept of each degree; seven are about a centimetre, and RFC 7946 (section 11.2) advises no more.
    :param batch_rows: features in memory at a time, at least 1.
    :return: what was done.
    :raises MissingCrsError: where nobody says which reference system the data is in.
    :raises UnknownCrsError: where PROJ cannot transform from there to longitude, latitude.
    :raises CoordinatesError: for coordinates that are not finite or that no Mercator map shows.
    :raises EmptyExportError: where there is no feature to write.
    :raises ExportError: for a source, column or value that cannot be written; the message names it.
    """
    if batch_rows < 1:
        raise ValueError(f"batch_rows={batch_rows}: a batch has at least one row")
    target = Path(path)
    given = None if crs is None else parse_crs(crs)
    with whole_file(target) as file:
        writer = _Writer(file, given, decimals)
        for frame in batches(source, rows=batch_rows):
            writer.add(frame)
        report = writer.finish(target)
    log.info("Exported %s", report)
    return report


class _Writer:
    """Adds batches to a file and keeps count."""

    def __init__(self, file: WholeFile, crs: CRS | None, decimals: int) -> None:
        self._file = file
        self._crs = crs
        self._decimals = decimals
        self._read = 0
        self._written = 0
        self._dropped: Counter[str] = Counter()
        self._crs_from: dict[str, None] = {}
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
        file.write(_HEAD)

    def add(self, frame: geopandas.GeoDataFrame) -> None:
        """Write one batch."""
        rows = np.arange(self._read, self._read + len(frame))
        self._read += len(frame)
        located = np.asarray(frame.geometry)
        missing, empty = shapely.is_missing(located), shapely.is_empty(located)
        self._drop("no geometry", int(missing.sum()))
        self._drop("empty geometry", int(empty.sum()))
        kept = ~(missing | empty)
        if not kept.any():
            return
        frame = frame[kept] if not kept.all() else frame
        crs = crs_of(frame, self._crs)
        self._crs_from[crs_name(crs)] = None
        geometries = to_crs84(frame.geometry, crs, decimals=self._decimals, rows=rows[kept])
        bounds = shapely.bounds(geometries)
        self._bounds[:2] = np.minimum(self._bounds[:2], bounds[:, :2].min(axis=0))
        self._bounds[2:] = np.maximum(self._bounds[2:], bounds[:, 2:].max(axis=0))
        features = [
            b'{"type":"Feature","geometry":%s,"properties":%s}' % (geometry.encode(), properties)
            for geometry, properties in zip(
                shapely.to_geojson(geometries), encode_properties(attributes(frame)), strict=True
            )
        ]
        self._file.write((b",\n" if self._written else b"") + b",\n".join(features))
        self._written += len(features)

    def _drop(self, reason: str, count: int) -> None:
        if count:
            self._dropped[reason] += count

    def finish(self, path: Path) -> ExportReport:
        """Close the collection and say what is in it."""
        if not self._written:
            dropped = ", ".join(f"{count} with {reason}" for reason, count in self._dropped.items())
            raise EmptyExportError(
                f"There is no feature to write to {path}: {self._read} were read{f', {dropped}' if dropped else ''}. "
                "Mapbox refuses an empty file: check the query or filter that chose the data."
            )
        self._file.write(_TAIL)
        west, south, east, north = (float(bound) for bound in self._bounds)
        return ExportReport(
            path=path,
            bytes=self._file.bytes,
            sha256=self._file.sha256,
            features_read=self._read,
            features=self._written,
            dropped=dict(self._dropped),
            crs_from=tuple(self._crs_from),
            crs_to=CRS84,
            bounds=(west, south, east, north),
        )
