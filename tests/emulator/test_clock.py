"""The emulator's clock: moved on, sped up, never back, and what follows it."""

from __future__ import annotations

import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.clock import END, AdjustableClock
from tests.emulator.conftest import TOWNS, Account, Clock


def test_the_clock_follows_its_source_and_its_advances() -> None:
    source = Clock()
    clock = AdjustableClock(source)
    began = clock()

    source.now += 5
    clock.advance(60)

    assert clock() == began + 65


def test_the_clock_runs_at_another_speed_from_then_on() -> None:
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
def test_the_clock_is_not_moved_back_nor_out_of_the_calendar(seconds: float) -> None:
    clock = AdjustableClock(Clock())
    with pytest.raises(ValueError, match="moved on"):
        clock.advance(seconds)


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf"), 1e9])
def test_the_clock_neither_stands_nor_runs_back(speed: float) -> None:
    clock = AdjustableClock(Clock())
    with pytest.raises(ValueError, match="above 0"):
        clock.run(speed)


def test_at_the_end_of_the_calendar_it_stops_and_dates_can_still_be_written() -> None:
    source = Clock()
    clock = AdjustableClock(source)
    clock.advance(END - source.now)
    clock.run(1e6)
    source.now += 1e6

    assert clock() == END
    assert datetime.datetime.fromtimestamp(clock(), tz=datetime.UTC).year == 9998


def test_a_rate_limit_window_ends_at_once(tmp_path: Path) -> None:
    settings = EmulatorSettings(account="acme", rate_limit=1, rate_window=60)
    with Emulator(tmp_path, settings=settings) as emulator:
        acme = Account(emulator)
        assert [acme.call("GET").status_code for _ in range(2)] == [200, 429]
        before = parsedate_to_datetime(acme.call("GET").headers["Date"])

        emulator.clock.advance(60)

        answer = acme.call("GET")
        assert answer.status_code == 200
        assert (parsedate_to_datetime(answer.headers["Date"]) - before).total_seconds() >= 60


def test_credentials_come_to_their_end_when_it_is_moved_on(acme: Account) -> None:
    issued = acme.credentials()

    acme.emulator.clock.advance(3600)

    with pytest.raises(Exception, match="ExpiredToken"):
        acme.s3(issued).put_object(Bucket=issued["bucket"], Key=issued["key"], Body=b"x")


@pytest.mark.parametrize("quicker", ["advance", "run"])
def test_processing_of_an_hour_is_over_when_the_clock_says_so(tmp_path: Path, quicker: str) -> None:
    settings = EmulatorSettings(account="acme", rate_limit=0, processing_seconds=1800)
    with Emulator(tmp_path, settings=settings) as emulator:
        acme = Account(emulator)
        upload = acme.create(acme.stage(TOWNS)["url"]).json()["id"]
        if quicker == "advance":
            acme.wait(upload, until=lambda upload: (acme.emulator.folder / "work").exists())
            emulator.clock.advance(1800)
        else:
            emulator.clock.run(3600)

        assert acme.wait(upload)["complete"]


def test_a_clock_that_was_given_is_moved_by_who_gave_it(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path, clock=Clock())
    with pytest.raises(RuntimeError, match="given a clock"):
        _ = emulator.clock
