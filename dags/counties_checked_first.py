"""
Look at a new version of a tileset before it replaces the old one.

The counties are uploaded as `virginia-counties-next` first, and that tileset is compared with its source. Only then are
they uploaded as `virginia-counties-checked`, which maps use. So a wrong version never reaches a map.

Mapbox replaces a tileset in place, without a gap, so most DAGs need the second upload only. This one costs twice as
much: both uploads are billed. `virginia-counties-next` stays until the next run replaces it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import chain, dag

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
def counties_checked_first() -> None:
    tasks = []
    for step, tileset in (("next", "virginia-counties-next"), ("final", "virginia-counties-checked")):
        upload = StageAndCreateUploadOperator(
            task_id=f"upload_{step}",
            source=str(COUNTIES),
            format="geojson",
            tileset=tileset,
            name="Counties of Virginia",
        )
        # Bounds and attributes are compared with the source. With "sample": 16, tiles are read, too. That takes five
        # minutes more, until Mapbox's network has them.
        verify = UploadCompleteSensor(task_id=f"verify_{step}", upload_id=upload.output, verify={"fields": ["NAME"]})
        tasks += [upload, verify]
    chain(*tasks)


counties_checked_first()
