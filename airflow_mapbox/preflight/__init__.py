"""Checks for what Mapbox would refuse, before a byte is sent."""

from __future__ import annotations

from airflow_mapbox.preflight.report import SourceReport
from airflow_mapbox.preflight.source import check_source

__all__ = ["SourceReport", "check_source"]
