"""The report of an export: numbers and notes that can be logged, returned and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mapbox.billing.bill import Bill
from airflow_mapbox.export.counts import Counts
from airflow_mapbox.export.geometry.accuracy import MissingGrids
from airflow_mapbox.export.geometry.stages import BEYOND, CLIPPED
from airflow_mapbox.export.options import Options

_NOTED_EDGE_ERROR_METRES = 1.0
_MAX_GRIDS_NAMED = 5  # data of a continent may lack a grid for each of its states


@dataclass(frozen=True)
class ExportReport:
    """
    The report of an export.

    :param path: the file, or None for a stream.
    :param bytes: size of the output.
    :param sha256: SHA-256 of the output in hexadecimal.
    :param features_read: number of features in the source.
    :param features: number of features in the output.
    :param geometries: number of geometries in the output; each member of a collection counts.
    :param dropped: number of dropped features, by reason.
    :param changed: number of geometries that were changed other than by the transformation, by the change.
    :param crs_from: names of the source's reference systems. There are several if its frames differ.
    :param crs_to: the reference system of the output.
    :param accuracy: how far off positions may be after the transformation, in metres; None if PROJ does not know.
    :param edge_error: how far off straight edges of a projected system are at worst, in metres, because they are curves
        in longitude, latitude.
    :param bounds: west, south, east, north in degrees.
    :param fields: the attributes that at least half of the first features have.
    :param notes: notes for the reader, in whole sentences.
    :param bill: the size, area and price tier that the bill of the output depends on.

    Example::

        report = write_geojson("parcels.parquet", "parcels.geojson")
        print(report)
        print(report.to_json()["features"])
    """

    path: Path | None
    bytes: int
    sha256: str
    features_read: int
    features: int
    geometries: int
    dropped: Mapping[str, int]
    changed: Mapping[str, int]
    crs_from: tuple[str, ...]
    crs_to: str
    accuracy: float | None
    edge_error: float
    bounds: tuple[float, float, float, float]
    fields: tuple[str, ...]
    notes: tuple[str, ...]
    bill: Bill

    def __str__(self) -> str:
        dropped = ", ".join(f"{count:,} dropped ({reason})" for reason, count in self.dropped.items()) or "none dropped"
        changed = "".join(f", {count:,} {what}" for what, count in self.changed.items())
        west, south, east, north = self.bounds
        accuracy = "unknown accuracy" if self.accuracy is None else f"an accuracy of {self.accuracy:g} m"
        where = "" if self.path is None else f" in {self.path}"
        notes = "".join(f" {note}" for note in self.notes)
        savings = "" if self.bill.savings is None else f" {self.bill.savings}"
        return (
            f"{self.features_read:,} features read, {self.features:,} written, {dropped}{changed}; "
            f"CRS {' and '.join(self.crs_from)} to {self.crs_to} with {accuracy}; "
            f"bounds {west:.6g}, {south:.6g}, {east:.6g}, {north:.6g}; "
            f"{self.bytes:,} bytes{where}, SHA-256 {self.sha256}.{notes} {self.bill}{savings}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types, small enough for an XCom."""
        return {
            "path": None if self.path is None else str(self.path),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "features_read": self.features_read,
            "features": self.features,
            "geometries": self.geometries,
            "dropped": dict(self.dropped),
            "changed": dict(self.changed),
            "crs_from": list(self.crs_from),
            "crs_to": self.crs_to,
            "accuracy": self.accuracy,
            "edge_error": self.edge_error,
            "bounds": list(self.bounds),
            "fields": list(self.fields),
            "notes": list(self.notes),
            "bill": self.bill.to_json(),
        }


def export_report(counts: Counts, options: Options, *, size: int, sha256: str, crs_to: str, bill: Bill) -> ExportReport:
    """
    Build the report of a stream.

    :param counts: the counts of all features.
    :param options: the options of the export.
    :param size: number of bytes written.
    :param sha256: their SHA-256 in hexadecimal.
    :param crs_to: the reference system of the output.
    :param bill: the bill of the output.
    """
    return ExportReport(
        path=None,
        bytes=size,
        sha256=sha256,
        features_read=counts.read,
        features=counts.written,
        geometries=counts.geometries,
        dropped=dict(counts.dropped),
        changed=dict(counts.changed),
        crs_from=tuple(counts.crs_from),
        crs_to=crs_to,
        accuracy=counts.accuracy,
        edge_error=counts.edge_error,
        bounds=counts.bounds,
        notes=(*counts.notes, *_notes(counts, options)),
        bill=bill,
        fields=() if counts.sample is None else counts.sample.fields,
    )


def data_notes(counts: Counts) -> Iterator[str]:
    """
    Yield notes on problems of the data.

    :param counts: the counts of all features.
    """
    if counts.unreadable is not None:
        row, coordinates = counts.unreadable
        yield f"Row {row + 1} (from 1, without a header) is the first with unreadable coordinates: {coordinates}."
    clipped, beyond = counts.changed[CLIPPED], counts.dropped[BEYOND]
    if clipped or beyond:
        numbers = [f"{clipped:,} clipped there"] * bool(clipped) + [f"{beyond:,} dropped"] * bool(beyond)
        yield (
            f"Mapbox's map ends at ±85.0511 degrees of latitude, and some features reach beyond: {', '.join(numbers)}. "
            'With beyond_mercator="error" they are an error.'
        )


def transformation_warnings(counts: Counts, options: Options) -> Iterator[str]:
    """
    Yield warnings about positions that may be wrong after the transformation.

    :param counts: the counts of all features.
    :param options: the options, which have the threshold.
    """
    for name, accuracy in counts.crs_from.items():
        if accuracy.missing is not None:
            yield _missing_grids(name, accuracy.missing)
    if counts.accuracy is None:
        yield "PROJ does not know how accurate the transformation to WGS 84 is."
    elif counts.accuracy > options.accuracy_warning:
        yield f"The transformation to WGS 84 may be off by {counts.accuracy:g} m."


def _missing_grids(crs: str, missing: MissingGrids) -> str:
    distance = "an unknown distance" if missing.without is None else f"{missing.without:g} m"
    names = sorted(missing.names)
    more = f" and {len(names) - _MAX_GRIDS_NAMED} more" if len(names) > _MAX_GRIDS_NAMED else ""
    listed = ", ".join(names[:_MAX_GRIDS_NAMED]) + more
    grids = f"grid {listed}, which is" if len(names) == 1 else f"grids {listed}, which are"
    return (
        f"From {crs} positions may be off by {distance}. With PROJ's {grids} not installed, it would be "
        f"{missing.better:g} m (install with projsync, or set PROJ_NETWORK=ON)."
    )


def _notes(counts: Counts, options: Options) -> Iterator[str]:
    yield from data_notes(counts)
    yield from transformation_warnings(counts, options)
    if counts.edge_error > _NOTED_EDGE_ERROR_METRES:
        yield (
            "Straight edges of the source's system are curves in longitude, latitude: up to "
            f"{counts.edge_error:,.0f} m off. Add vertices to long edges with max_segment=."
        )
