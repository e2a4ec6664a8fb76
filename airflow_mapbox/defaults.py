"""Defaults that operator, sensor, hook and command line share."""

from __future__ import annotations

# Mapbox ends the processing of an upload after one hour, of MBTiles after two (Uploads API, "Restrictions and limits").
WAIT_TIMEOUT_SECONDS = 2.5 * 3600
