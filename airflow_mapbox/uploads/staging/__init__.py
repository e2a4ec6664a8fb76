"""Send a file to Mapbox's staging bucket on S3."""

from __future__ import annotations
