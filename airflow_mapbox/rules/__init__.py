"""The rules by which Mapbox refuses files: one table for the preflight, for failed uploads and for the documentation."""

from __future__ import annotations
