"""Wait until Mapbox has processed an upload."""

from __future__ import annotations
