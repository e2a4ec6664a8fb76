"""
Publish one tileset a day, and keep the last eight days: upload, wait, delete older days.

The bundled file has the eight days from 2018-01-31 to 2018-02-07. Choose Trigger, then Backfill, for these days. The
days may run in any order and at the same time.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import CronDataIntervalTimetable, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mapbox.operators.tilesets import DeleteTilesetsOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

log = logging.getLogger(__name__)

EIGHT_DAYS = Path(__file__).parent / "data" / "usgs-earthquakes-2018-01-31-to-02-07.geojson"


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2018, 1, 31, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def earthquakes_last_days() -> None:
    @task.mapbox_upload(
        tileset="earthquakes-last-{{ data_interval_start | ds_nodash }}",
        name="Earthquakes of {{ data_interval_start | ds }}, kept for eight days",
        retries=2,
    )
    def day(data_interval_start: datetime | None = None, data_interval_end: datetime | None = None) -> GeoDataFrame:
        import geopandas
        import pandas

        if data_interval_start is None or data_interval_end is None:
            # A run that was triggered without a logical date has no data interval.
            raise AirflowFailException("This run has no data interval. Give it a logical date, or backfill the DAG.")
        quakes = geopandas.read_file(EIGHT_DAYS, columns=["id", "title", "mag", "place", "time"])
        times = pandas.to_datetime(quakes["time"], unit="ms", utc=True)
        quakes = quakes[(times >= data_interval_start) & (times < data_interval_end)]
        if quakes.empty:
            reason = f"Skipped: {EIGHT_DAYS.name} has no earthquakes of {data_interval_start:%Y-%m-%d}."
            log.warning(reason)
            raise AirflowSkipException(reason)
        return quakes

    wait = UploadCompleteSensor(task_id="wait", upload_id=day())
    retention = DeleteTilesetsOperator(
        task_id="retention",
        match="earthquakes-last-*",  # no other tileset of the account has such a name
        keep=8,  # the newest days by the date in the name: a backfilled day is not newer because it is made later
        max_deletions=20,  # the task fails rather than delete more
        retries=2,
        retry_delay=timedelta(minutes=5),
    )
    wait >> retention


earthquakes_last_days()
