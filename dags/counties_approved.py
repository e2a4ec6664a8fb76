"""
Publish the counties of Virginia after a person has approved it: export, check, ask, upload, wait.

Trigger this DAG without parameters. Its data is bundled. Then open the task "approve" and choose Approve or Reject.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor

EXPORT_FOLDER = Path(
    os.environ.get("MAPBOX_EXPORT_FOLDER") or Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "exports"
)
COUNTIES = Path(__file__).parent / "data" / "virginia-counties-utm17n.zip"
TILESET = "virginia-counties-approved"


@dag(
    schedule=None,
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # all runs write the same file and replace the same tileset
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def counties_approved() -> None:
    @task
    def export() -> dict[str, Any]:
        import geopandas

        from airflow_mapbox.export import write_geojson

        return write_geojson(geopandas.read_file(COUNTIES), EXPORT_FOLDER / "counties_approved.geojson").to_json()

    @task
    def check(exported: dict[str, Any]) -> str:
        from airflow_mapbox.preflight import check_source

        report = check_source(exported["path"], tileset=TILESET, name="Counties of Virginia", area=True)
        if not report.ok:
            raise AirflowFailException(str(report))  # a person should not approve what Mapbox would refuse
        return report.to_markdown()

    exported = export()
    approve = ApprovalOperator(
        task_id="approve",
        subject=f"Publish tileset {TILESET}?",
        body=check(exported),  # type: ignore[arg-type] - a templated field takes the output of a task
        response_timeout=timedelta(days=1),
    )
    upload = StageAndCreateUploadOperator(
        task_id="upload",
        source=exported,
        tileset=TILESET,
        name="Counties of Virginia",
        max_megabytes=50,  # a file larger than this needs more than an approval
    )
    approve >> upload
    UploadCompleteSensor(task_id="wait", upload_id=upload.output)


counties_approved()
