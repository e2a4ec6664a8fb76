"""What an export did, in numbers that can be logged, returned and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mapbox.export.counts import Counts
from airflow_mapbox.export.geometry.accuracy import MissingGrids
from airflow_mapbox.export.geometry.stages import BEYOND, CLIPPED
from airflow_mapbox.export.options import Options

_EDGE_ERROR = 1.0  # metres, from which on it is worth a note
_GRIDS = 5  # files that are named: data of a continent may lack one for each of its states


@dataclass(frozen=True)
class ExportReport:
    """
    What an export did.

    :param path: the file, or None for a stream.
    :param bytes: its size.
    :param sha256: its digest, as hexadecimal text.
    :param features_read: features in the source.
    :param features: features in the file.
    :param geometries: in the file; a collection counts as many as it has.
    :param dropped: how many were left out, by reason.
    :param changed: how many geometries were changed otherwise than by the transformation, by what was done to them.
    :param crs_from: the reference systems of the source, by name; more than one where its frames differ.
    :param crs_to: the reference system of the file.
    :param accuracy: metres by which the transformation may be off, or None where PROJ does not know.
    :param edge_error: metres by which straight edges of a projected system are off at worst, being curves in
        longitude, latitude.
    :param bounds: west, south, east, north in degrees.
    :param notes: what the reader should know, in whole sentences.
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
    notes: tuple[str, ...]

    def __str__(self) -> str:
        dropped = ", ".join(f"{count:,} dropped ({reason})" for reason, count in self.dropped.items()) or "none dropped"
        changed = "".join(f", {count:,} {what}" for what, count in self.changed.items())
        west, south, east, north = self.bounds
        accuracy = "an accuracy unknown" if self.accuracy is None else f"an accuracy of {self.accuracy:g} m"
        where = "" if self.path is None else f" in {self.path}"
        notes = "".join(f" {note}" for note in self.notes)
        return (
            f"{self.features_read:,} features read, {self.features:,} written, {dropped}{changed}; "
            f"CRS {' and '.join(self.crs_from)} to {self.crs_to} with {accuracy}; "
            f"bounds {west:.6g}, {south:.6g}, {east:.6g}, {north:.6g}; "
            f"{self.bytes:,} bytes{where}, SHA-256 {self.sha256}.{notes}"
        )

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON types, small enough to travel between tasks."""
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
            "notes": list(self.notes),
        }


def export_report(counts: Counts, options: Options, *, size: int, sha256: str, crs_to: str) -> ExportReport:
    """
    Sum up.

    :param counts: of all features.
    :param options: which gave the thresholds.
    :param size: bytes that were written.
    :param sha256: their digest.
    :param crs_to: the reference system that they are in.
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
    )


def data_notes(counts: Counts) -> Iterator[str]:
    """
    Say what the reader of the data should look at.

    :param counts: of all features.
    """
    if counts.unreadable is not None:
        row, coordinates = counts.unreadable
        place = f"Row {row + 1} (from 1 on, without a header)"
        yield f"{place} is the first whose coordinates cannot be read: {coordinates}."
    clipped, beyond = counts.changed[CLIPPED], counts.dropped[BEYOND]
    if clipped or beyond:
        numbers = [f"{clipped:,} clipped there"] * bool(clipped) + [f"{beyond:,} left out"] * bool(beyond)
        yield (
            f"Mapbox's map ends at ±85.0511 degrees of latitude, and some features reach beyond: {', '.join(numbers)}. "
            'To have an error instead: beyond_mercator="error".'
        )


def transformation_warnings(counts: Counts, options: Options) -> Iterator[str]:
    """
    Say what may be wrong with positions after the transformation.

    :param counts: of all features.
    :param options: which gave the threshold.
    """
    for name, accuracy in counts.crs_from.items():
        if accuracy.missing is not None:
            yield _missing_grids(name, accuracy.missing)
    if counts.accuracy is None:
        yield "PROJ does not know how accurate the transformation to WGS 84 is."
    elif counts.accuracy > options.accuracy_warning:
        yield f"The transformation to WGS 84 may be off by {counts.accuracy:g} m."


def _missing_grids(crs: str, missing: MissingGrids) -> str:
    now = "an unknown distance" if missing.without is None else f"{missing.without:g} m"
    names = sorted(missing.names)
    more = f" and {len(names) - _GRIDS} more" if len(names) > _GRIDS else ""
    are = "grid {}, which is" if len(names) == 1 else "grids {}, which are"
    return (
        f"From {crs} positions may be off by {now}, and by {missing.better:g} m with PROJ's "
        f"{are.format(', '.join(names[:_GRIDS]) + more)} not installed (projsync, or PROJ_NETWORK=ON)."
    )


def _notes(counts: Counts, options: Options) -> Iterator[str]:
    yield from data_notes(counts)
    yield from transformation_warnings(counts, options)
    if counts.edge_error > _EDGE_ERROR:
        yield (
            "Straight edges of the source's system are curves in longitude, latitude: up to "
            f"{counts.edge_error:,.0f} m off. Add vertices to long edges with max_segment=."
        )
