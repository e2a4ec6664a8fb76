from __future__ import annotations

import pytest

from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import UploadFailedError, WaitTimeoutError
from airflow_mapbox.uploads.waiting import wait_for_upload

from ..support import FakeTime, Reply, ScriptedServer, upload_json

UPLOAD_ID = upload_json()["id"]


def test_the_upload_is_asked_for_until_it_has_succeeded(
    server: ScriptedServer, client: UploadsClient, fake_time: FakeTime
) -> None:
    server.script(
        Reply(json=upload_json(progress=0)),
        Reply(json=upload_json(progress=0.5)),
        Reply(json=upload_json(progress=1, complete=True)),
    )

    upload = wait_for_upload(
        client, UPLOAD_ID, timeout=100, poll_interval=15, sleep=fake_time.sleep, clock=fake_time.clock
    )

    assert upload.is_successful
    assert fake_time.slept == [15, 15]


@pytest.mark.parametrize("complete", [True, False])
def test_a_failed_upload_ends_the_wait_with_its_message(
    server: ScriptedServer, client: UploadsClient, fake_time: FakeTime, complete: bool
) -> None:
    server.script(Reply(json=upload_json(error="Tileset is empty.", complete=complete)))

    with pytest.raises(UploadFailedError, match="Tileset is empty"):
        wait_for_upload(client, UPLOAD_ID, timeout=100, poll_interval=15, sleep=fake_time.sleep, clock=fake_time.clock)


def test_a_wait_ends_at_its_timeout_with_a_last_look(
    server: ScriptedServer, client: UploadsClient, fake_time: FakeTime
) -> None:
    server.script(*(Reply(json=upload_json(progress=0.25)) for _ in range(4)))

    with pytest.raises(WaitTimeoutError, match=r"(?s)25% after 40 s.*wait again"):
        wait_for_upload(client, UPLOAD_ID, timeout=40, poll_interval=15, sleep=fake_time.sleep, clock=fake_time.clock)

    assert fake_time.slept == [15, 15, 10]
