"""The rules by which Mapbox refuses files: one table for the preflight, failed uploads and the documentation."""

from __future__ import annotations
