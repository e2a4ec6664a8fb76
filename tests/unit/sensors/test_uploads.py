"""The sensor: what a poke makes of an upload, and when the next one comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.exceptions import MapboxFailError, MapboxUploadFailedError
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from tests.connections import connection
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(tmp_path: Path, clock: Clock, make_settings: Callable[..., EmulatorSettings]) -> Iterator[Emulator]:
    settings = make_settings(processing_seconds=100)
    with Emulator(tmp_path / "emulator", settings=settings, clock=clock) as running:
        yield running


@pytest.fixture(autouse=True)
def connected(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator))


@pytest.fixture
def upload(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "points.geojson"
    path.write_text('{"type": "Point", "coordinates": [7.1, 50.7]}')
    return MapboxUploadsHook().upload(path, "points").to_json()


def sensor(upload_id: Any, **options: Any) -> UploadCompleteSensor:
    return UploadCompleteSensor(task_id="wait", upload_id=upload_id, **options)


def poke(waiting: UploadCompleteSensor, context: Any = None) -> Any:
    return waiting.poke(context or {})


def next_look(waiting: UploadCompleteSensor, run_duration: float = 0) -> float:
    return waiting._get_next_poke_interval(datetime.now(UTC), lambda: run_duration, 1)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for the emulator's worker threads to have done what the clock allows them."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def test_the_sensor_reschedules_by_default(upload: dict[str, Any]) -> None:
    assert sensor(upload["id"]).mode == "reschedule"
    assert sensor(upload["id"], mode="poke").mode == "poke"


def test_an_upload_in_processing_is_not_done(upload: dict[str, Any]) -> None:
    for upload_id in (upload["id"], upload):  # an id, or the operator's whole result
        assert not poke(sensor(upload_id))


def test_a_poke_is_one_request(upload: dict[str, Any], emulator: Emulator) -> None:
    before = len(emulator.requests)

    poke(sensor(upload["id"]))

    assert len(emulator.requests) == before + 1


def test_the_finished_upload_is_the_result(upload: dict[str, Any], clock: Clock) -> None:
    waiting = sensor(upload["id"])

    def done() -> bool:
        clock.now += 50
        return bool(poke(waiting))

    until(done)

    result = poke(waiting).xcom_value
    assert (result["id"], result["complete"], result["progress"]) == (upload["id"], True, 1)


def test_a_rate_limit_moves_the_next_poll_to_the_reset_and_is_not_a_failure(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, make_settings: Callable[..., EmulatorSettings]
) -> None:
    settings = make_settings(processing_seconds=3, rate_limit=1, rate_window=60)
    with Emulator(tmp_path / "limited", settings=settings, clock=clock) as limited:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(limited))
        list(MapboxUploadsHook().list_uploads(limit=1))  # spends what the window allows
        waiting = sensor("cwhateverupload0123456789")

        assert not poke(waiting)

        assert limited.requests[-1].status == 429
        assert 55 <= next_look(waiting) <= 66  # the window's minute, and the jitter of at most five seconds


def test_the_next_poll_is_not_before_airflow_has_noticed_the_last_exit(
    upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "5")
    waiting = sensor(upload["id"], poke_interval=1)
    poke(waiting)

    assert 10 <= next_look(waiting) <= 12


def test_in_poke_mode_the_floor_is_the_users(upload: dict[str, Any]) -> None:
    waiting = sensor(upload["id"], mode="poke", poke_interval=3)
    poke(waiting)

    assert 3 <= next_look(waiting) <= 3.6


@pytest.mark.slow
def test_the_next_poll_is_seldom_when_the_upload_has_far_to_go_and_soon_when_it_is_nearly_done(
    upload: dict[str, Any], clock: Clock
) -> None:
    waiting = sensor(upload["id"], max_wait=timedelta(seconds=40), poke_interval=5)
    looks = []
    for share in (0.1, 0.5, 0.9):

        def reached(share: float = share) -> bool:
            clock.now += 0.5
            return progress(waiting) >= share

        until(reached)
        looks.append(next_look(waiting))

    far, halfway, nearly = looks
    assert 32 <= far <= 40  # half of what is left is 45 s, and max_wait is less
    assert 16 <= halfway <= 40
    assert 6 <= nearly <= 7.2  # the floor at the heartbeat of 1 s that the tests run with


def progress(waiting: UploadCompleteSensor) -> float:
    poke(waiting)
    assert waiting._decision is not None
    return waiting._decision.state.progress or 0


@pytest.mark.parametrize("options", [{}, {"poke_interval": 60}])
def test_airflows_exponential_backoff_keeps_its_meaning(upload: dict[str, Any], options: dict[str, float]) -> None:
    waiting = sensor(upload["id"], exponential_backoff=True, timeout=100_000, max_wait=70_000, **options)
    poke(waiting)

    assert next_look(waiting, 2_000) > 600
    assert next_look(waiting, 20_000) > 6_000


def test_exponential_backoff_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="poke_interval"):
        sensor("cwhatever", exponential_backoff=True, poke_interval=0)


@pytest.mark.parametrize("upload_id", [None, "", "None", {}, {"id": None}, 7])
def test_a_missing_id_is_a_clear_error(upload_id: Any) -> None:
    with pytest.raises(MapboxFailError, match="Give it the id of an upload"):
        poke(sensor(upload_id))


def test_a_failed_upload_is_not_retried(tmp_path: Path, clock: Clock) -> None:
    empty = tmp_path / "empty.kml"
    empty.write_text('<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document></Document></kml>')
    upload = MapboxUploadsHook().upload(empty, "places", preflight=False)
    waiting = sensor(upload.id)

    def ended() -> bool:
        clock.now += 50
        return bool(poke(waiting))

    with pytest.raises(MapboxUploadFailedError, match="KML does not contain any layers") as failure:
        until(ended)

    assert isinstance(failure.value, AirflowFailException)
