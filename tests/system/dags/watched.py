"""A DAG that each change of two tilesets starts, and one that waits for a change in the triggerer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_mapbox.sensors.tilesets import TilesetUpdatedSensor
from airflow_mapbox.triggers.tilesets import TilesetUpdatedTrigger

NAMES = ("watched-a", "watched-b")
ASSETS = [
    Asset(
        f"mapbox://tilesets/demo.{name}",
        watchers=[AssetWatcher(name=name, trigger=TilesetUpdatedTrigger(f"demo.{name}", poll_interval=1))],
    )
    for name in NAMES
]


@dag(schedule=ASSETS[0] | ASSETS[1], start_date=datetime(2018, 1, 1, tzinfo=UTC), catchup=False)
def after_a_change() -> None:
    @task
    def changed(triggering_asset_events: dict[Asset, list[Any]]) -> list[str]:
        events = [event for of_asset in triggering_asset_events.values() for event in of_asset]
        return sorted(
            f"{event.extra['payload']['tileset']['id']} {event.extra['payload']['tileset']['modified']}"
            for event in events
        )

    changed()


@dag(schedule=None, start_date=datetime(2018, 1, 1, tzinfo=UTC))
def waits_for_a_change() -> None:
    TilesetUpdatedSensor(task_id="wait", tileset="awaited", deferrable=True, poke_interval=1, timeout=200)


after_a_change()
waits_for_a_change()
