"""Uploads and waits that last until a test has killed what runs them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor

DATA = Path(os.environ.get("MAPBOX_EXPORT_FOLDER", "."))
SMALL, LARGE = DATA / "small.csv", DATA / "large.csv"
DEFERRED = [f"held-deferred-{number}" for number in range(3)]
# A poll every six seconds, so that the wait is on a worker soon after a test has let the upload finish.
PROMPT = {"poke_interval": 6, "max_wait": 6}

# These tasks go first, so that the test can kill what runs them while the backfill runs.
FIRST = {"priority_weight": 100}

with DAG("under_fire", schedule=None, start_date=datetime(2018, 1, 1, tzinfo=UTC), default_args=FIRST):
    staged = StageAndCreateUploadOperator(
        task_id="stage", source=str(LARGE), tileset="staged", part_size=5 * 2**20, parts_in_flight=1
    )
    UploadCompleteSensor(task_id="wait_for_staged", upload_id=staged.output)

    poked = StageAndCreateUploadOperator(task_id="create_poked", source=str(SMALL), tileset="held-poked")
    # It stays on its worker.
    UploadCompleteSensor(task_id="poke", upload_id=poked.output, mode="poke", **PROMPT)

    rescheduled = StageAndCreateUploadOperator(
        task_id="create_rescheduled", source=str(SMALL), tileset="held-rescheduled"
    )
    UploadCompleteSensor(task_id="reschedule", upload_id=rescheduled.output, **PROMPT)

    # The worker that stages is the first to be killed. When the second is, sensors are to wait.
    [poked, rescheduled] >> staged

    deferred = StageAndCreateUploadOperator.partial(task_id="create_deferred", source=str(SMALL)).expand(
        tileset=DEFERRED
    )
    UploadCompleteSensor.partial(task_id="defer", deferrable=True).expand(upload_id=deferred.output)
