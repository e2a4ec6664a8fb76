"""The defaults that operator, sensor, trigger, hook and command line share."""

from __future__ import annotations

from airflow_mapbox.limits import MAX_PROCESSING_SECONDS

CONN_ID = "mapbox_default"
# Mapbox stops the processing of MBTiles after two hours, of other formats after one. The remaining 30 minutes allow for
# queueing.
WAIT_TIMEOUT_SECONDS = MAX_PROCESSING_SECONDS + 1800.0
# Shortest and longest time between two polls, in seconds.
MIN_POLL_INTERVAL = 10
MAX_POLL_INTERVAL = 120
# What to do if Mapbox is processing another upload of the tileset.
IF_ACTIVE_CHOICES = ("wait", "fail", "skip")
IF_ACTIVE = "wait"
PARTS_IN_FLIGHT = 4
# Seconds between two reads of the list of tilesets, while a change is waited for.
TILESET_POLL_INTERVAL = 60.0
# Wait out a rate limit of this many seconds in the worker slot. A longer one gives the slot back.
MAX_RATE_LIMIT_WAIT_IN_SLOT = 60.0
