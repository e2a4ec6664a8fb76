"""
Update one tileset each day with that day's earthquakes, and rebuild the month when all of its days are there.

`quakes_by_day` runs for a partition key such as 2018-02-06. Choose Trigger and enter the key, or backfill it. The event
of its tileset has this key. Airflow starts `quakes_by_month` for 2018-02 after an event for each day of that month.

The bundled file has the eight days from 2018-01-31 to 2018-02-07. Runs for other days are skipped, unless the parameter
`feed` is the event service of the U.S. Geological Survey.
"""

from __future__ import annotations

import io
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import (
    Asset,
    CronPartitionTimetable,
    MonthWindow,
    Param,
    PartitionedAssetTimetable,
    RollupMapper,
    StartOfMonthMapper,
    WaitForAll,
    dag,
    task,
)
from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

log = logging.getLogger(__name__)

# A tileset is an asset if its whole id is known when this file is parsed. Enter your account here.
ACCOUNT = os.environ.get("MAPBOX_ACCOUNT", "demo")
LATEST_DAY = f"{ACCOUNT}.quakes-latest-day"
EIGHT_DAYS = Path(__file__).parent / "data" / "usgs-earthquakes-2018-01-31-to-02-07.geojson"
USGS_SERVICE = "https://earthquake.usgs.gov/fdsnws/event/1/query"
FEED = {
    "feed": Param(
        str(EIGHT_DAYS),
        type="string",
        title="Feed",
        description=f"A GeoJSON file (default: eight days of 2018), or the USGS event service: {USGS_SERVICE}",
    )
}


def read_earthquakes(feed: str, start: datetime, end: datetime) -> GeoDataFrame:
    """Return the earthquakes from `start` until before `end`. Skip the task if there are none."""
    import geopandas
    import pandas
    import requests

    if feed.startswith(("http://", "https://")):
        interval = {"starttime": start.isoformat(), "endtime": end.isoformat()}
        response = requests.get(feed, params={"format": "geojson", **interval}, timeout=60)
        response.raise_for_status()
        quakes = geopandas.read_file(io.BytesIO(response.content))
    else:
        quakes = geopandas.read_file(feed)
    quakes["time"] = pandas.to_datetime(quakes["time"], unit="ms", utc=True)
    quakes = quakes[(quakes["time"] >= start) & (quakes["time"] < end)]
    if quakes.empty:
        reason = f"Skipped: {feed} has no earthquakes from {start:%Y-%m-%d} until before {end:%Y-%m-%d}."
        log.warning(reason)  # Airflow hides the exception's message in a collapsed group of the log
        raise AirflowSkipException(reason)
    # The third coordinate is a depth in kilometres. GeoJSON defines it as a height in metres.
    quakes = quakes.assign(geometry=quakes.geometry.force_2d())
    return quakes[["id", "title", "mag", "time", "geometry"]]


@dag(
    # The run that starts at midnight has the key of the day that has just ended.
    schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    start_date=datetime(2018, 1, 31, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # all runs replace the same tileset
    tags=["mapbox", "example"],
    params=FEED,
    doc_md=__doc__,
)
def quakes_by_day() -> None:
    @task.mapbox_upload(
        tileset=LATEST_DAY,
        name="Earthquakes of {{ partition_key }}",
        wait_for_completion=True,
        partition="{{ partition_key }}",
    )
    def publish(params: dict[str, Any], partition_key: str) -> GeoDataFrame:
        start = datetime.fromisoformat(partition_key).replace(tzinfo=UTC)
        return read_earthquakes(params["feed"], start, start + timedelta(days=1))

    publish()


@dag(
    schedule=PartitionedAssetTimetable(
        assets=Asset(f"mapbox://tilesets/{LATEST_DAY}"),
        default_partition_mapper=RollupMapper(
            upstream_mapper=StartOfMonthMapper(input_format="%Y-%m-%d"), window=MonthWindow(), wait_policy=WaitForAll()
        ),
    ),
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mapbox", "example"],
    params=FEED,
    doc_md=__doc__,
)
def quakes_by_month() -> None:
    @task.mapbox_upload(
        tileset="quakes-{{ partition_key }}", name="Earthquakes of {{ partition_key }}", wait_for_completion=True
    )
    def publish(params: dict[str, Any], partition_key: str) -> GeoDataFrame:
        start = datetime.fromisoformat(f"{partition_key}-01").replace(tzinfo=UTC)
        return read_earthquakes(params["feed"], start, (start + timedelta(days=31)).replace(day=1))

    publish()


quakes_by_day()
quakes_by_month()
