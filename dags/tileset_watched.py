"""
Run after each change of a tileset, for example in Mapbox Studio.

Airflow's triggerer reads the account's list once a minute, for all watched tilesets together. The first read tells it
how the tileset is now; each later change starts a run. It needs a running triggerer, and a token with the scope
tilesets:list.

Do not watch a tileset that a DAG of yours uploads: that DAG sends an event of its own, so each upload would start two
runs.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_mapbox.triggers.tilesets import TilesetUpdatedTrigger

log = logging.getLogger(__name__)

# The account is part of an asset's URI. Enter yours here.
ACCOUNT = os.environ.get("MAPBOX_ACCOUNT", "demo")
FIELD_NOTES = Asset(
    f"mapbox://tilesets/{ACCOUNT}.field-notes",
    watchers=[AssetWatcher(name="mapbox", trigger=TilesetUpdatedTrigger(f"{ACCOUNT}.field-notes"))],
)


@dag(
    schedule=[FIELD_NOTES],
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def tileset_watched() -> None:
    @task
    def announce(triggering_asset_events: dict[Asset, list[Any]]) -> str:
        # Several changes may have been seen since the last run. The last event has the tileset as it is now.
        tileset = triggering_asset_events[FIELD_NOTES][-1].extra["payload"]["tileset"]
        log.info("The tileset %s was changed at %s", tileset["id"], tileset["modified"])
        return str(tileset["modified"])

    announce()


tileset_watched()
