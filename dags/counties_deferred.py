"""
Wait in the triggerer: all deferred waits of all DAGs share one status request per hundred uploads.

It needs a running triggerer. Set `[operators] default_deferrable` to make this the default of every task.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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
def counties_deferred() -> None:
    upload = StageAndCreateUploadOperator(
        task_id="upload",
        source=str(COUNTIES),
        format="geojson",
        tileset="virginia-counties-deferred",
        name="Counties of Virginia",
    )
    UploadCompleteSensor(
        task_id="wait",
        upload_id=upload.output,
        deferrable=True,
        timeout=timedelta(hours=2),
        stall_timeout=timedelta(minutes=30),
    )


counties_deferred()
