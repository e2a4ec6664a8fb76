"""The connection to Mapbox."""

from __future__ import annotations
