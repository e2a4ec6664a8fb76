"""The bill of a checked file, as far as a check knows its size, its bounds and its zooms."""

from __future__ import annotations

from pathlib import Path

from airflow_mapbox.billing.bill import Bill
from airflow_mapbox.billing.zooms import expected_maxzoom, tier_of
from airflow_mapbox.errors import MapboxError
from airflow_mapbox.preflight.findings import Content
from airflow_mapbox.preflight.formats import CSV, MBTILES, TIFF, Format

_NOT_MEASURED = "The area was not measured. area=True, --area on the command line or max_area_km2 measures it."
_NOT_LOCAL = "The area of a remote file is not measured, because all of it would have to be read."
_OF_TIFF = "The maxzoom of a TIFF follows from its pixels, in a way that Mapbox does not document."


def bill_of(source_format: Format | None, size: int | None, content: Content, path: Path | None, *, area: bool) -> Bill:
    """
    Return the bill of a file.

    :param source_format: its format.
    :param size: its size in bytes; None if it is unknown.
    :param content: what is known about its content.
    :param path: the local file, or None.
    :param area: whether to measure the area. This reads the file.
    """
    if source_format is TIFF:
        return Bill(size, area_note=_OF_TIFF)
    is_tiles = source_format is MBTILES
    if is_tiles:
        maxzoom = content.maxzoom
    elif size and content.bounds is not None and _is_on_earth(content.bounds):
        maxzoom = expected_maxzoom(content.counted_bytes or size, content.bounds)
    else:
        maxzoom = None
    if maxzoom is None:
        return Bill(size, savings=content.savings)
    tier = tier_of(maxzoom)
    area_km2, note = _area(path, tier, source_format) if area else (None, _NOT_MEASURED if path else _NOT_LOCAL)
    return Bill(
        bytes=size,
        maxzoom=maxzoom,
        maxzoom_is_expected=not is_tiles,
        tier=tier,
        area_km2=area_km2,
        area_note=note,
        mbtiles_bytes=size if is_tiles else None,
        savings=content.savings,
    )


def _is_on_earth(bounds: tuple[float, float, float, float]) -> bool:
    west, south, east, north = bounds
    return west >= -180 and east <= 180 and south >= -90 and north <= 90


def _area(path: Path | None, tier: str, source_format: Format | None) -> tuple[float | None, str | None]:
    """Return the area in km², or a note on why it is unknown."""
    # Imported here: reading geodata takes most of a second to import.
    from airflow_mapbox.preflight.area import estimate_area
    from airflow_mapbox.preflight.tiled_area import estimate_tiled_area

    if path is None:
        return None, _NOT_LOCAL
    try:
        if source_format is MBTILES:
            return estimate_tiled_area(path, tier=tier), None
        return estimate_area(path, tier=tier, crs="OGC:CRS84" if source_format is CSV else None), None
    except MapboxError as error:
        first_line, _, _ = str(error).partition("\n")
        return None, f"The area could not be measured: {first_line}"
