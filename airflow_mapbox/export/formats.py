"""What geodata can be exported to on its way to Mapbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

ExportFormat: TypeAlias = Literal["geojson", "mbtiles", "auto"]
FORMATS: tuple[ExportFormat, ...] = ("geojson", "mbtiles", "auto")


def check_format(format: str | None, options: Mapping[str, Any] | None) -> None:
    """
    Check what somebody has chosen, before anything is read.

    :param format: of :data:`FORMATS`, or None for a source that is sent as it is.
    :param options: of the export.
    :raises ValueError: for a format that there is not, and for options without one.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"format is one of {', '.join(FORMATS)}, or None to send the source as it is, not {format!r}")
    if format is None and options:
        raise ValueError(f"export={dict(options)!r} has no meaning without a format: {', '.join(FORMATS)}")
