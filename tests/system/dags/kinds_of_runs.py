"""DAGs of each kind of schedule, whose task returns what the usual templates render to in its run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    CronDataIntervalTimetable,
    CronPartitionTimetable,
    PartitionedAssetTimetable,
    get_current_context,
    task,
)

TEMPLATES = {
    "ds": "{{ ds }}",
    "ds_nodash": "{{ ds_nodash }}",
    "logical_date": "{{ logical_date | ds }}",
    "data_interval_start": "{{ data_interval_start | ds }}",
    "data_interval_end": "{{ data_interval_end | ds }}",
    "partition_key": "{{ partition_key }}",
    "run_after": "{{ dag_run.run_after | ds_nodash }}",
    "triggering_asset_events": "{{ triggering_asset_events.values() | list | length }}",
}
SCHEDULES: dict[str, Any] = {
    "kind_interval": CronDataIntervalTimetable("@daily", timezone="UTC"),
    "kind_cron": "@daily",
    "kind_partition": CronPartitionTimetable("0 0 * * *", timezone="UTC", key_format="%Y-%m-%d"),
    "kind_asset": [Asset("mapbox://tilesets/demo.kinds")],
    "kind_partitioned_asset": PartitionedAssetTimetable(assets=Asset("mapbox://tilesets/demo.kinds")),
}


@task
def rendered() -> dict[str, str]:
    """Return the templates, or the class of the error that rendering one raises."""
    context: Any = get_current_context()
    environment = context["task"].get_template_env()

    def render(template: str) -> str:
        try:
            return str(environment.from_string(template).render(context))
        except Exception as error:
            return type(error).__name__

    return {name: render(template) for name, template in TEMPLATES.items()}


for dag_id, schedule in SCHEDULES.items():
    with DAG(dag_id, schedule=schedule, start_date=datetime(2018, 1, 1, tzinfo=UTC), catchup=False) as dag:
        rendered()
    globals()[dag_id] = dag
