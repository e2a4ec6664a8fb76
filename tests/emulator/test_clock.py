"""The emulator's clock: it can be advanced and sped up, and rate limits, expiry and processing follow it."""

from __future__ import annotations

import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.clock import END, AdjustableClock
from tests.emulator.conftest import TOWNS, Account, Clock


def test_clock_follows_its_source_and_adds_the_advanced_seconds() -> None:
    source = Clock()
    clock = AdjustableClock(source)
    start = clock()

    source.now += 5
    clock.advance(60)

    assert clock() == start + 65


def test_clock_runs_at_another_speed_after_the_change() -> None:
    source = Clock()
    clock = AdjustableClock(source)
    source.now += 1
    before = clock()

    clock.run(60)
    source.now += 2
    clock.run(0.5)
    source.now += 2

    assert clock() == before + 121
    assert clock.speed == 0.5


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e308])
def test_clock_cannot_be_set_back_or_advanced_beyond_the_last_date(seconds: float) -> None:
    clock = AdjustableClock(Clock())
    with pytest.raises(ValueError, match="can only be advanced"):
        clock.advance(seconds)


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf"), 1e9])
def test_clock_speed_cannot_be_zero_negative_or_too_large(speed: float) -> None:
    clock = AdjustableClock(Clock())
    with pytest.raises(ValueError, match="above 0"):
        clock.run(speed)


def test_clock_stops_at_the_last_date_and_this_date_can_be_formatted() -> None:
    source = Clock()
    clock = AdjustableClock(source)
    clock.advance(END - source.now)
    clock.run(1e6)
    source.now += 1e6

    assert clock() == END
    assert datetime.datetime.fromtimestamp(clock(), tz=datetime.UTC).year == 9998


def test_advancing_the_clock_ends_a_rate_limit_window(tmp_path: Path) -> None:
    settings = EmulatorSettings(account="acme", rate_limit=1, rate_window=60)
    with Emulator(tmp_path, settings=settings) as emulator:
        acme = Account(emulator)
        assert [acme.call("GET").status_code for _ in range(2)] == [200, 429]
        before = parsedate_to_datetime(acme.call("GET").headers["Date"])

        emulator.clock.advance(60)

        response = acme.call("GET")
        assert response.status_code == 200
        assert (parsedate_to_datetime(response.headers["Date"]) - before).total_seconds() >= 60


def test_advancing_the_clock_expires_credentials(acme: Account) -> None:
    credentials = acme.credentials()

    acme.emulator.clock.advance(3600)

    with pytest.raises(Exception, match="ExpiredToken"):
        acme.s3(credentials).put_object(Bucket=credentials["bucket"], Key=credentials["key"], Body=b"x")


@pytest.mark.parametrize("method", ["advance", "run"])
def test_moving_the_clock_finishes_long_processing(tmp_path: Path, method: str) -> None:
    # Without a limit: on a busy machine, the fast clock passes the usual one before tippecanoe ends.
    settings = EmulatorSettings(account="acme", rate_limit=0, processing_seconds=1800, processing_limit=1e9)
    with Emulator(tmp_path, settings=settings) as emulator:
        acme = Account(emulator)
        upload = acme.create(acme.stage(TOWNS)["url"]).json()["id"]
        if method == "run":
            emulator.clock.run(3600)

        def is_finished(upload: dict[str, Any]) -> bool:
            if method == "advance":
                # At each poll, because the processing may start after the first one.
                emulator.clock.advance(1800)
            return bool(upload["complete"]) or upload["error"] is not None

        assert acme.wait(upload, until=is_finished)["complete"]


def test_emulator_with_an_external_clock_has_no_clock_to_advance(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path, clock=Clock())
    with pytest.raises(RuntimeError, match="clock="):
        _ = emulator.clock
