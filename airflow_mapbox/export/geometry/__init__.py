"""Make geometries valid in CRS84 as RFC 7946 and Mapbox need them: arrays in, arrays out."""

from __future__ import annotations
