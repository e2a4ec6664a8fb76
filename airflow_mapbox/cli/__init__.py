"""The commands ``airflow mapbox``."""

from __future__ import annotations
