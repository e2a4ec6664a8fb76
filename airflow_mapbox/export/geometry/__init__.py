"""Make geometries valid for RFC 7946 and Mapbox, in longitude, latitude. Pure functions on arrays."""

from __future__ import annotations
