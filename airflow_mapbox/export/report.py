"""What an export did, in numbers that can be logged, returned and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ExportReport:
    """
    What an export did.

    :param path: the file.
    :param bytes: its size.
    :param sha256: its digest, as hexadecimal text.
    :param features_read: features in the source.
    :param features: features in the file.
    :param dropped: how many were left out, by reason.
    :param crs_from: the reference systems of the source, by name; more than one where its frames differ.
    :param crs_to: the reference system of the file.
    :param bounds: west, south, east, north in degrees.
    """

    path: Path
    bytes: int
    sha256: str
    features_read: int
    features: int
    dropped: Mapping[str, int]
    crs_from: tuple[str, ...]
    crs_to: str
    bounds: tuple[float, float, float, float]

    def __str__(self) -> str:
        dropped = ", ".join(f"{count:,} dropped ({reason})" for reason, count in self.dropped.items()) or "none dropped"
        west, south, east, north = self.bounds
        return (
            f"{self.features_read:,} features read, {self.features:,} written, {dropped}; "
            f"CRS {' and '.join(self.crs_from)} to {self.crs_to}; "
            f"bounds {west:.6g}, {south:.6g}, {east:.6g}, {north:.6g}; {self.bytes:,} bytes in {self.path}"
        )

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON types, small enough to travel between tasks."""
        return {
            "path": str(self.path),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "features_read": self.features_read,
            "features": self.features,
            "dropped": dict(self.dropped),
            "crs_from": list(self.crs_from),
            "crs_to": self.crs_to,
            "bounds": list(self.bounds),
        }
