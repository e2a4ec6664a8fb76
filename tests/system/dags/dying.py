"""Uploads whose task dies at its first try, after each step and by each signal, under a real scheduler."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.tasks.state import TaskLedger
from tests.crashes.one_try import Step, die_after

if TYPE_CHECKING:
    from airflow.sdk import Context

DATA = Path(os.environ.get("MAPBOX_EXPORT_FOLDER", "."))
STAGING = (Step.FIRST_PART, Step.LAST_PART)
CASES = [
    {
        "source": str(DATA / f"{size}.csv"),
        "tileset": f"dying-{size}-{step.name.lower()}-{by.name[3:].lower()}"[:32],
        "step": step.name,
        "by": by.name,
    }
    for size in ("small", "large")
    for step in Step
    if size == "large" or step not in STAGING
    for by in (signal.SIGKILL, signal.SIGTERM)
]


class DyingUploadOperator(StageAndCreateUploadOperator):
    """Dies at its first try."""

    def __init__(self, *, step: str, by: str, **options: Any) -> None:
        super().__init__(**options)
        self.step = step
        self.by = by

    def execute(self, context: Context) -> dict[str, Any]:
        def die() -> None:
            os.kill(os.getpid(), signal.Signals[self.by])

        dies = context["ti"].try_number == 1
        if dies:
            die_after(Step[self.step], die, TaskLedger)
        upload = super().execute(context)
        if dies and Step[self.step] is Step.RETURNED:
            die()
        return upload


with DAG("dying", schedule=None, start_date=datetime(2018, 1, 1, tzinfo=UTC)):
    DyingUploadOperator.partial(
        task_id="upload", retries=2, retry_delay=timedelta(seconds=1), part_size=5 * 2**20, parts_in_flight=2
    ).expand_kwargs(CASES)
