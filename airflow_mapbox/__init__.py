"""An Apache Airflow provider for the Mapbox Uploads API."""

from __future__ import annotations

__version__ = "0.1.0"
