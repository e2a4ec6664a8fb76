"""
Publish a file only if it has changed since its last upload: unchanged data costs nothing.

The first run uploads. A later run skips both tasks unless the file or the options of the export have changed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import dag

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor

COUNTIES = Path(__file__).parent / "data" / "virginia-counties-utm17n.zip"


@dag(
    schedule=None,
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def counties_if_changed() -> None:
    upload = StageAndCreateUploadOperator(
        task_id="upload",
        source=str(COUNTIES),
        format="geojson",
        tileset="virginia-counties-if-changed",
        name="Counties of Virginia",
        skip_unchanged=True,
    )
    # The whole result tells the sensor what the tileset was made from, and the tileset's asset keeps it.
    UploadCompleteSensor(task_id="wait", upload_id=upload.output)


counties_if_changed()
