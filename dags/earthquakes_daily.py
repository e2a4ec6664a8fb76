"""
Publish one tileset a day with that day's earthquakes: read, export to CRS84 GeoJSON, upload, wait.

The bundled file has the eight days from 2018-01-31 to 2018-02-07. Choose Trigger, then Backfill, for these days. Runs
for other days are skipped, unless the parameter `feed` is the event service of the U.S. Geological Survey.
"""

from __future__ import annotations

import io
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import CronDataIntervalTimetable, Param, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

log = logging.getLogger(__name__)

# The upload task reads the exported file. With several machines, all workers must share this folder.
EXPORT_FOLDER = Path(
    os.environ.get("MAPBOX_EXPORT_FOLDER") or Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "exports"
)
EIGHT_DAYS = Path(__file__).parent / "data" / "usgs-earthquakes-2018-01-31-to-02-07.geojson"
USGS_SERVICE = "https://earthquake.usgs.gov/fdsnws/event/1/query"


def read_earthquakes(feed: str, start: datetime, end: datetime) -> GeoDataFrame:
    """Return the earthquakes from `start` until before `end`, from a GeoJSON file or an FDSN event service."""
    import geopandas
    import pandas
    import requests

    if feed.startswith(("http://", "https://")):
        interval = {"starttime": start.isoformat(), "endtime": end.isoformat()}
        response = requests.get(feed, params={"format": "geojson", "orderby": "time-asc", **interval}, timeout=60)
        response.raise_for_status()
        quakes = geopandas.read_file(io.BytesIO(response.content))
    else:
        quakes = geopandas.read_file(feed)
    if quakes.empty:
        return quakes
    quakes["time"] = pandas.to_datetime(quakes["time"], unit="ms", utc=True)
    quakes = quakes[(quakes["time"] >= start) & (quakes["time"] < end)]
    # The third coordinate is a depth in kilometres. GeoJSON defines it as a height in metres, so it becomes a column.
    quakes = quakes.assign(depth_km=quakes.geometry.z, geometry=quakes.geometry.force_2d())
    return quakes[["id", "title", "mag", "place", "time", "depth_km", "type", "url", "geometry"]]


@dag(
    # The plain schedule "@daily" has an empty data interval in Airflow 3. This timetable's interval is the day.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2018, 1, 31, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    tags=["mapbox", "example"],
    params={
        "feed": Param(
            str(EIGHT_DAYS),
            type="string",
            title="Feed",
            description=f"A GeoJSON file (default: eight days of 2018), or the USGS event service: {USGS_SERVICE}",
        )
    },
    doc_md=__doc__,
)
def earthquakes_daily() -> None:
    @task(retries=2, retry_delay=timedelta(seconds=30))
    def export(
        params: dict[str, Any] | None = None,
        data_interval_start: datetime | None = None,
        data_interval_end: datetime | None = None,
    ) -> dict[str, Any]:
        from airflow_mapbox.export import ExportError, write_geojson

        if params is None or data_interval_start is None or data_interval_end is None:
            # A run that was triggered without a logical date has no data interval.
            raise AirflowFailException("This run has no data interval. Give it a logical date, or backfill the DAG.")
        quakes = read_earthquakes(params["feed"], data_interval_start, data_interval_end)
        if quakes.empty and params["feed"] == str(EIGHT_DAYS):
            reason = (
                f"Skipped: {EIGHT_DAYS.name} has no earthquakes of {data_interval_start:%Y-%m-%d}. Backfill the days "
                f"from 2018-01-31 to 2018-02-07, or set the parameter feed to {USGS_SERVICE}."
            )
            # Airflow hides the exception's message in a collapsed group of the log.
            log.warning(reason)
            raise AirflowSkipException(reason)
        # Retries and backfills of a day overwrite the same file.
        path = EXPORT_FOLDER / "earthquakes_daily" / f"{data_interval_start:%Y-%m-%d}.geojson"
        try:
            return write_geojson(quakes, path).to_json()
        except ExportError as error:
            raise AirflowFailException(str(error)) from None  # a retry would fail again

    upload = StageAndCreateUploadOperator(
        task_id="upload",
        source=export(),  # the report, whose counts and bounds become metadata of the tileset's asset
        tileset="earthquakes-{{ data_interval_start | ds_nodash }}",
        name="Earthquakes of {{ data_interval_start | ds }}",
        retries=2,  # a retry never creates a second upload
        # A task that waits for the rate limit's reset keeps its slot. More tasks at a time would finish no earlier, and
        # would block the exports and waits of a backfill.
        max_active_tis_per_dag=4,
    )
    UploadCompleteSensor(task_id="wait", upload_id=upload.output)


earthquakes_daily()
