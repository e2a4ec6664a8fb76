"""
Publish several layers of one file, each as its own tileset, by dynamic task mapping.

The layers are known only when the DAG runs. Each one becomes a mapped task, which exports its part of the file while it
is sent, and waits without a worker slot. In the UI, each has the name of its tileset.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator

EIGHT_DAYS = Path(__file__).parent / "data" / "usgs-earthquakes-2018-01-31-to-02-07.geojson"


@dag(
    schedule=None,
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def earthquakes_by_magnitude() -> None:
    @task
    def layers() -> list[dict[str, Any]]:
        # One item for each layer. Its keys are parameters of the operator.
        return [
            {
                "tileset": f"earthquakes-magnitude-{magnitude}",
                "name": f"Earthquakes from magnitude {magnitude}",
                "export": {"where": f"mag >= {magnitude} AND mag < {magnitude + 1}"},
            }
            for magnitude in (2, 4, 5)
        ]

    StageAndCreateUploadOperator.partial(
        task_id="upload",
        source=str(EIGHT_DAYS),
        format="geojson",
        wait_for_completion=True,
        max_active_tis_per_dag=4,
    ).expand_kwargs(layers())


earthquakes_by_magnitude()
