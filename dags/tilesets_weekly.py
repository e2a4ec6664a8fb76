"""
Report once a week what the account's tilesets cost: size, precision, area, compute units and age of each.

The log shows the table. The task's result is the same table in Markdown, for a message to people.
It needs a token with the scope tilesets:list.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from airflow.sdk import dag, task

from airflow_mapbox.hooks.tilesets import MapboxTilesetsHook
from airflow_mapbox.tilesets.report import tileset_table

log = logging.getLogger(__name__)


@dag(
    schedule="@weekly",
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def tilesets_weekly() -> None:
    @task
    def report() -> str:
        table = tileset_table(MapboxTilesetsHook().list_tilesets())
        log.info("%s", table)
        return table

    report()


tilesets_weekly()
