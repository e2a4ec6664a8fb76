"""Checks for what Mapbox would refuse, and estimates of what it would bill, before a byte is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mapbox.preflight.report import SourceReport
from airflow_mapbox.preflight.source import check_source

if TYPE_CHECKING:
    from airflow_mapbox.preflight.area import estimate_area, expected_maxzoom

__all__ = ["SourceReport", "check_source", "estimate_area", "expected_maxzoom"]


def __getattr__(name: str) -> Any:
    # estimate_area reads data with the export's readers, which take about a second to import on first use.
    if name in ("estimate_area", "expected_maxzoom"):
        from airflow_mapbox.preflight import area

        return getattr(area, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
