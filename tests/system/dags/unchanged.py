"""Tilesets that are uploaded only where their data has changed."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor

DATA = Path(os.environ.get("MAPBOX_EXPORT_FOLDER", ".")) / "unchanged.geojson"

with DAG("unchanged", schedule=None, start_date=datetime(2018, 1, 1, tzinfo=UTC), max_active_runs=1):
    upload = StageAndCreateUploadOperator(
        task_id="upload", source=str(DATA), tileset="kept-{{ 'file' }}", skip_unchanged=True
    )
    UploadCompleteSensor(task_id="wait", upload_id=upload.output)

    @task.mapbox_upload(tileset="kept-{{ 'frames' }}", skip_unchanged=True)
    def frames() -> Any:
        import geopandas

        return geopandas.GeoDataFrame.from_features(json.loads(DATA.read_text()), crs="OGC:CRS84")

    UploadCompleteSensor(task_id="wait_for_frames", upload_id=frames())

    @task.mapbox_upload(tileset="mapped-{{ task_instance.map_index }}", skip_unchanged=True)
    def parts(number: int) -> Any:
        import geopandas
        import shapely

        return geopandas.GeoDataFrame({"n": [number]}, geometry=[shapely.Point(number, number)], crs="OGC:CRS84")

    UploadCompleteSensor.partial(task_id="wait_for_parts").expand(upload_id=parts.expand(number=[1, 2]))
