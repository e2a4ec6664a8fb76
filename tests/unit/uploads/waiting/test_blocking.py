from __future__ import annotations

import pytest

from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import UploadFailedError, WaitTimeoutError
from airflow_mapbox.uploads.waiting.blocking import wait_for_upload
from tests.unit.conftest import MakeClient
from tests.unit.support import FakeTime, Reply, ScriptedServer, upload_json

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


def test_a_wait_ends_at_its_timeout_with_a_last_poll(
    server: ScriptedServer, client: UploadsClient, fake_time: FakeTime
) -> None:
    server.script(*(Reply(json=upload_json(progress=0.25)) for _ in range(4)))

    with pytest.raises(WaitTimeoutError, match=r"(?s)25% after 40 s.*wait again"):
        wait_for_upload(client, UPLOAD_ID, timeout=40, poll_interval=15, sleep=fake_time.sleep, clock=fake_time.clock)

    assert fake_time.slept == [15, 15, 10]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(429, {"message": "Too Many Requests"}, headers={"X-Rate-Limit-Interval": "60"}),
        Reply(429, {"message": "Too Many Requests"}, headers={"Retry-After": "3000"}),
        Reply(503, {"message": "Service Unavailable"}),
        Reply(503, {"message": "Service Unavailable"}, headers={"Retry-After": "3000"}),
        Reply(fault="drop"),
        Reply(404, {"message": "Not Found"}),
    ],
    ids=["429", "429 for long", "503", "503 for long", "dropped", "404"],
)
def test_a_wait_ends_in_time_with_every_reply(
    server: ScriptedServer, client: UploadsClient, fake_time: FakeTime, reply: Reply
) -> None:
    server.script(*[reply] * 4)
    began = fake_time.now

    with pytest.raises(WaitTimeoutError, match="was not seen within"):
        wait_for_upload(client, UPLOAD_ID, timeout=5, poll_interval=2, sleep=fake_time.sleep, clock=fake_time.clock)

    assert fake_time.now - began == pytest.approx(5, abs=0.1)


def test_a_wait_ends_in_time_if_the_server_never_answers(
    server: ScriptedServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_mapbox.uploads.waiting.blocking._LAST_POLL_SECONDS", 0.2)
    server.script(Reply(fault="hang"), Reply(fault="hang"), Reply(fault="hang"))
    patient = make_client(timeout=(10.0, 500.0, 500.0))  # which alone would outlast pytest's timeout

    with pytest.raises(WaitTimeoutError):
        wait_for_upload(patient, UPLOAD_ID, timeout=0.3, poll_interval=0.1)
