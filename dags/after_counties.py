"""
Run whenever the tileset of the counties of Virginia is new: an example of a DAG that waits for a tileset's asset.

Trigger the DAG `virginia_counties`. This DAG then starts by itself, and its log shows what the event says about the
tileset.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, dag, task

log = logging.getLogger(__name__)

# The account is part of an asset's URI. Enter yours here.
ACCOUNT = os.environ.get("MAPBOX_ACCOUNT", "demo")
COUNTIES = Asset(f"mapbox://tilesets/{ACCOUNT}.virginia-counties")


@dag(
    schedule=[COUNTIES],
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def after_counties() -> None:
    @task
    def announce(triggering_asset_events: dict[Asset, list[Any]]) -> dict[str, Any]:
        # Several uploads may have finished since the last run. The last event describes the tileset as it is now.
        event = triggering_asset_events[COUNTIES][-1]
        names = ("upload_id", "modified", "features", "bounds", "bytes")
        tileset = {name: event.extra[name] for name in names if name in event.extra}
        log.info("The tileset %s is new: %s", COUNTIES.uri, tileset)
        return tileset

    announce()


after_counties()
