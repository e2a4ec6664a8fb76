"""
Ask a person only if an upload is larger than a limit: export, check, branch, perhaps ask, upload, wait.

Trigger it with a small `limit_kilobytes` to be asked. The answer is due within a day. Without one, the task "approve"
fails and nothing is uploaded.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, TriggerRule, dag, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor

EXPORT_FOLDER = Path(
    os.environ.get("MAPBOX_EXPORT_FOLDER") or Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "exports"
)
COUNTIES = Path(__file__).parent / "data" / "virginia-counties-utm17n.zip"
TILESET = "virginia-counties-limited"


@dag(
    schedule=None,
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # all runs write the same file and replace the same tileset
    tags=["mapbox", "example"],
    params={
        "limit_kilobytes": Param(
            5_000, type="integer", minimum=0, description="Ask a person if the file has more than this many kilobytes."
        )
    },
    doc_md=__doc__,
)
def counties_approved_above() -> None:
    @task
    def export() -> dict[str, Any]:
        import geopandas

        from airflow_mapbox.export import write_geojson

        return write_geojson(geopandas.read_file(COUNTIES), EXPORT_FOLDER / "counties_approved_above.geojson").to_json()

    @task(multiple_outputs=True)
    def check(exported: dict[str, Any]) -> dict[str, Any]:
        from airflow_mapbox.preflight import check_source

        report = check_source(exported["path"], tileset=TILESET, name="Counties of Virginia", area=True)
        if not report.ok:
            raise AirflowFailException(str(report))  # a person should not approve what Mapbox would refuse
        return {"bytes": report.bytes, "report": report.to_markdown()}

    @task.branch
    def ask_or_upload(size: int, **context: Any) -> str:
        return "approve" if size > context["params"]["limit_kilobytes"] * 1000 else "upload"

    exported = export()
    checked = check(exported)
    approve = ApprovalOperator(
        task_id="approve",
        subject=f"Publish tileset {TILESET}?",
        body=checked["report"],
        response_timeout=timedelta(days=1),
    )
    upload = StageAndCreateUploadOperator(
        task_id="upload",
        source=exported,
        tileset=TILESET,
        name="Counties of Virginia",
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    )
    ask_or_upload(checked["bytes"]) >> [approve, upload]
    approve >> upload
    UploadCompleteSensor(task_id="wait", upload_id=upload.output)


counties_approved_above()
