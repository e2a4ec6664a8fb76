"""
Publish what a function returns: the decorator `@task.mapbox_upload` exports a GeoDataFrame while it is sent.

No file is written. A retry calls the function again only if nothing has been staged yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import dag, task

from airflow_mapbox.sensors.uploads import UploadCompleteSensor

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

EIGHT_DAYS = Path(__file__).parent / "data" / "usgs-earthquakes-2018-01-31-to-02-07.geojson"


@dag(
    schedule=None,
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def earthquakes_decorated() -> None:
    @task.mapbox_upload(tileset="earthquakes-strong", name="Strong earthquakes", retries=2)
    def strong_earthquakes() -> Iterator[GeoDataFrame]:
        import geopandas

        quakes = geopandas.read_file(EIGHT_DAYS, columns=["id", "title", "mag", "place"])
        # Frames are yielded one after the other, so that memory holds one of them.
        for _, region in quakes[quakes["mag"] >= 4].groupby(quakes["place"].str.split(", ").str[-1]):
            yield region

    upload = strong_earthquakes()
    UploadCompleteSensor(task_id="wait", upload_id=upload)


earthquakes_decorated()
