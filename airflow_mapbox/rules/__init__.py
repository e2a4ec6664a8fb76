"""Mapbox's reasons to refuse a file: one table for the preflight, failed uploads and the documentation."""

from __future__ import annotations
