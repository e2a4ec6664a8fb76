"""A task's tries and its clearing, with Airflow's own task state store: what is one intent and what is another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.tasks.state import TaskLedger, task_ledger
from airflow_mapbox.uploads.errors import LedgerError
from tests.dags.conftest import Outcome

pytestmark = [pytest.mark.usefixtures("database", "mapbox_connection")]

RunDag = Callable[..., Outcome]


def creates(emulator: Emulator, since: int) -> int:
    """Count the create calls from a request on."""
    return sum(
        request.method == "POST" and not request.path.endswith("/credentials") for request in emulator.requests[since:]
    )


def uploads_of(tileset: str) -> list[str]:
    from airflow_mapbox.hooks.uploads import MapboxUploadsHook

    return [upload.id for upload in MapboxUploadsHook().list_uploads() if upload.tileset.endswith(f".{tileset}")]


class UploadAndThen(StageAndCreateUploadOperator):
    """Uploads, and then does something more at its first try."""

    def __init__(self, *, then: Callable[[Any], None], **options: Any) -> None:
        super().__init__(**options)
        self.then = then

    def execute(self, context: Any) -> dict[str, Any]:
        upload = super().execute(context)
        if context["ti"].try_number == 1:
            self.then(context)
        return upload


def fail(context: Any) -> None:
    raise RuntimeError("after the upload was created")


def test_a_retry_adopts_the_upload_of_the_previous_attempt(run_dag: RunDag, geojson: Path, emulator: Emulator) -> None:
    before = len(emulator.requests)

    outcome = run_dag(
        lambda: UploadAndThen(
            task_id="upload", source=str(geojson), tileset="retry", then=fail, retries=1, retry_delay=0
        )
    )

    assert (outcome.states, outcome.tries) == ({"upload": "success"}, {"upload": 2})
    assert len(uploads_of("retry")) == 1
    assert creates(emulator, before) == 1


def test_the_state_of_a_try_that_another_has_replaced_can_no_longer_be_written(run_dag: RunDag, geojson: Path) -> None:
    stores: list[Any] = []

    def keep_and_fail(context: Any) -> None:
        stores.append(context["task_state_store"])
        raise RuntimeError("taken for dead")

    class Replaced(UploadAndThen):
        def execute(self, context: Any) -> dict[str, Any]:
            if context["ti"].try_number == 2:
                entry = task_ledger(context).read()
                assert entry is not None
                with pytest.raises(LedgerError, match="could not be written"):
                    TaskLedger(stores[0], context["ti"].max_tries).write(entry)
                stores.append("refused")
            return super().execute(context)

    outcome = run_dag(
        lambda: Replaced(
            task_id="upload", source=str(geojson), tileset="replaced", then=keep_and_fail, retries=1, retry_delay=0
        )
    )

    assert outcome.states == {"upload": "success"}
    assert stores[1:] == ["refused"]


def test_a_busy_tileset_is_waited_for_without_a_slot_and_uses_no_retry(
    run_dag: RunDag, geojson: Path, emulator: Emulator
) -> None:
    before = len(emulator.requests)
    emulator.faults.add(
        "status", method="POST", path=r"/uploads/v1/[^/]*$", status=422, message="An upload is already active"
    )

    outcome = run_dag(lambda: StageAndCreateUploadOperator(task_id="upload", source=str(geojson), tileset="busy"))

    assert (outcome.states, outcome.tries) == ({"upload": "success"}, {"upload": 1})
    assert "the worker slot is free" in outcome.written
    assert "UP_FOR_RESCHEDULE" in outcome.written
    asked = [request.path.rpartition("/")[2] for request in emulator.requests[before:] if request.method == "POST"]
    assert asked == ["credentials", emulator.account, emulator.account], "staged once, asked twice"
    assert len(uploads_of("busy")) == 1


@pytest.mark.parametrize(("if_active", "state"), [("fail", "failed"), ("skip", "skipped")])
def test_a_busy_tileset_fails_or_skips_the_task_on_request(
    run_dag: RunDag, geojson: Path, emulator: Emulator, if_active: str, state: str
) -> None:
    emulator.faults.add(
        "status", method="POST", path=r"/uploads/v1/[^/]*$", status=422, message="An upload is already active"
    )

    outcome = run_dag(
        lambda: StageAndCreateUploadOperator(
            task_id="upload", source=str(geojson), tileset=f"busy-{if_active}", if_active=if_active
        )
    )

    assert outcome.states == {"upload": state}
    assert "An upload is already active" in outcome.written
