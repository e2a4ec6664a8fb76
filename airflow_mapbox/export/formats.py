"""What geodata can be exported to on its way to Mapbox."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

ExportFormat: TypeAlias = Literal["geojson", "mbtiles", "auto"]
FORMATS: tuple[ExportFormat, ...] = ("geojson", "mbtiles", "auto")


class GeoJSONKeywords(TypedDict, total=False):
    """What :func:`~airflow_mapbox.export.stream_geojson` takes beside the source."""

    crs: object
    decimals: int
    z: Literal["keep", "drop"]
    on_invalid: Literal["fix", "drop", "error"]
    beyond_mercator: Literal["clip", "error"]
    antimeridian: Literal["cut", "keep"]
    max_segment: float | None
    accuracy_warning: float
    write_bbox: bool
    as_text: Collection[str]
    layer: str | int | None
    where: str | None
    columns: Sequence[str] | None
    bbox: Sequence[float] | None
    x: str | None
    y: str | None
    id_attribute: str | None
    batch_rows: int | None
    threads: int | None
    limit_bytes: int | None


# What `write_mbtiles` and `write_auto` take beside these.
TILE_KEYWORDS = ("name", "minzoom", "maxzoom", "tier", "temporary_directory")


def check_format(format: str | None, options: Mapping[str, Any] | None) -> None:
    """
    Check what somebody has chosen, before anything is read.

    :param format: of :data:`FORMATS`, or None for a source that is sent as it is.
    :param options: of the export.
    :raises ValueError: for a format or an option that there is not, and for options without a format.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"format is one of {', '.join(FORMATS)}, or None to send the source as it is, not {format!r}")
    if format is None and options:
        raise ValueError(f"export={dict(options)!r} has no meaning without a format: {', '.join(FORMATS)}")
    known = (*GeoJSONKeywords.__annotations__, *(() if format == "geojson" else TILE_KEYWORDS))
    for name in options or ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known)}."
            if name in TILE_KEYWORDS:
                advice = "it is for tiles: choose mbtiles or auto."
            raise ValueError(f"export has {name!r}, which format {format!r} does not take: {advice}")
