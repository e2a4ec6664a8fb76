"""The scheme ``mapbox`` of Airflow's asset URIs."""

from __future__ import annotations
