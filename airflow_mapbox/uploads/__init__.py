"""The Mapbox Uploads API, with no Airflow in it."""

from __future__ import annotations
