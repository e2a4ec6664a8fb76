"""
Publish the counties of Virginia: read projected polygons, export to CRS84 GeoJSON, upload, wait.

Trigger this DAG without parameters. Its data is bundled.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor

EXPORT_FOLDER = Path(
    os.environ.get("MAPBOX_EXPORT_FOLDER") or Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "exports"
)
COUNTIES = Path(__file__).parent / "data" / "virginia-counties-utm17n.zip"


@dag(
    schedule=None,
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # all runs write the same file and replace the same tileset
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def virginia_counties() -> None:
    @task
    def export() -> dict[str, Any]:
        import geopandas

        from airflow_mapbox.export import write_geojson

        counties = geopandas.read_file(COUNTIES)  # in EPSG:32617, which write_geojson reprojects
        return write_geojson(counties, EXPORT_FOLDER / "virginia_counties.geojson").to_json()

    upload = StageAndCreateUploadOperator(
        task_id="upload", source=export(), tileset="virginia-counties", name="Counties of Virginia"
    )
    UploadCompleteSensor(task_id="wait", upload_id=upload.output)


virginia_counties()
