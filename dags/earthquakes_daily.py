"""
One tileset a day of that day's earthquakes: read, export to CRS84 GeoJSON, upload, wait.

The bundled file has the eight days from 2018-01-31 to 2018-02-07: backfill these (Trigger, Backfill). A run for any
other day is skipped, unless its parameter `feed` is the event service of the U.S. Geological Survey.
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

# Where the export waits for its upload; on several machines this is a folder that all workers share.
EXPORT_FOLDER = Path(
    os.environ.get("MAPBOX_EXPORT_FOLDER") or Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "exports"
)
EIGHT_DAYS = Path(__file__).parent / "data" / "usgs-earthquakes-2018-01-31-to-02-07.geojson"
USGS_SERVICE = "https://earthquake.usgs.gov/fdsnws/event/1/query"


def read_earthquakes(feed: str, start: datetime, end: datetime) -> GeoDataFrame:
    """Give the earthquakes from `start` to before `end`, of a GeoJSON file or of an FDSN event service."""
    import geopandas
    import pandas
    import requests

    if feed.startswith(("http://", "https://")):
        interval = {"starttime": start.isoformat(), "endtime": end.isoformat()}
        answer = requests.get(feed, params={"format": "geojson", "orderby": "time-asc", **interval}, timeout=60)
        answer.raise_for_status()
        quakes = geopandas.read_file(io.BytesIO(answer.content))
    else:
        quakes = geopandas.read_file(feed)
    if quakes.empty:
        return quakes
    quakes["time"] = pandas.to_datetime(quakes["time"], unit="ms", utc=True)
    quakes = quakes[(quakes["time"] >= start) & (quakes["time"] < end)]
    # The third coordinate is a depth below ground in kilometres, which no map would take for a height in metres.
    quakes = quakes.assign(depth_km=quakes.geometry.z, geometry=quakes.geometry.force_2d())
    return quakes[["id", "title", "mag", "place", "time", "depth_km", "type", "url", "geometry"]]


@dag(
    # Airflow 3 gives a bare "@daily" an empty data interval; this one spans the day.
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
            description=f"A GeoJSON file, by default eight days of 2018, or the USGS event service: {USGS_SERVICE}",
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
            # A run that was triggered without a logical date has no interval either.
            raise AirflowFailException("This run has no data interval: run the DAG by its schedule or a backfill.")
        quakes = read_earthquakes(params["feed"], data_interval_start, data_interval_end)
        if quakes.empty and params["feed"] == str(EIGHT_DAYS):
            reason = (
                f"Skipped: {EIGHT_DAYS.name} has no earthquakes of {data_interval_start:%Y-%m-%d}. Backfill the days "
                f"from 2018-01-31 to 2018-02-07, or trigger the DAG with the parameter feed set to {USGS_SERVICE}."
            )
            # Airflow shows the exception's text in a collapsed group of the log only.
            log.warning(reason)
            raise AirflowSkipException(reason)
        # The same name at every try and every backfill of a day, so that running it again leaves nothing behind.
        path = EXPORT_FOLDER / "earthquakes_daily" / f"{data_interval_start:%Y-%m-%d}.geojson"
        try:
            return write_geojson(quakes, path).to_json()
        except ExportError as error:
            raise AirflowFailException(str(error)) from None  # the same data would fail again

    upload = StageAndCreateUploadOperator(
        task_id="upload",
        source=export(),  # the report: its counts and bounds go on to the tileset's asset
        tileset="earthquakes-{{ data_interval_start | ds_nodash }}",
        name="Earthquakes of {{ data_interval_start | ds }}",
        retries=2,  # a retry never makes a second upload
        # One that waits for the rate limit's next window keeps its slot: more at a time would end no sooner, and keep
        # the exports and the waits of a backfill from theirs.
        max_active_tis_per_dag=4,
    )
    UploadCompleteSensor(task_id="wait", upload_id=upload.output)


earthquakes_daily()
