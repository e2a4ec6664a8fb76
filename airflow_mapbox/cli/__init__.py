"""The commands ``airflow mapbox uploads``."""

from __future__ import annotations
