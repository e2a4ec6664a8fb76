from __future__ import annotations

import random
from email.utils import formatdate

import pytest

from airflow_mapbox.http.retry import RetryPolicy, seconds_per_request, server_time, throttle_delay
from tests.unit.support import FixedRandom

NOW = 1_700_000_000.0


def _delay(share: float = 0.0, **headers: str) -> float:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return throttle_delay(named, NOW, FixedRandom(share))  # type: ignore[arg-type]


def test_the_pause_lasts_until_the_reset() -> None:
    assert _delay(X_Rate_Limit_Reset=str(int(NOW) + 25)) == 25


@pytest.mark.parametrize(("interval", "jitter"), [("60", 5), ("20", 2), ("600", 5)])
def test_the_jitter_is_a_tenth_of_the_window_and_at_most_five_seconds(interval: str, jitter: float) -> None:
    reset = str(int(NOW) + 15)

    assert _delay(1.0, X_Rate_Limit_Reset=reset, X_Rate_Limit_Interval=interval) == 15 + jitter


def test_clients_that_were_refused_together_do_not_come_back_together() -> None:
    headers = {"X-Rate-Limit-Reset": str(int(NOW) + 25)}

    assert len({throttle_delay(headers, NOW, random.Random(seed)) for seed in range(20)}) == 20


def test_a_reset_beyond_the_window_is_bounded_by_the_window() -> None:
    assert _delay(X_Rate_Limit_Reset=str(int(NOW) + 86_400), X_Rate_Limit_Interval="30") == 30


def test_the_answers_own_date_goes_before_the_local_clock() -> None:
    date = formatdate(NOW - 500, usegmt=True)

    assert _delay(X_Rate_Limit_Reset=str(int(NOW) - 480), Date=date) == pytest.approx(20, abs=1)


def test_retry_after_is_a_lower_bound() -> None:
    reset = str(int(NOW) + 10)

    assert _delay(X_Rate_Limit_Reset=reset, Retry_After="90") == 90
    assert _delay(X_Rate_Limit_Reset=reset, Retry_After="1") == 10


@pytest.mark.parametrize("text", ["", "x", "-5", "0", "nan", "inf", "-inf", "9e999", "1;2"])
def test_values_that_make_no_sense_count_as_absent(text: str) -> None:
    assert _delay(X_Rate_Limit_Reset=text, X_Rate_Limit_Interval=text, Retry_After=text) == 60


@pytest.mark.parametrize(
    "date", ["", "soon", "Tue, 99 Foo 2026", "Mon, 01 Jan 99999999999999 00:00:00 GMT", "\x00", "1700000000"]
)
def test_an_unreadable_date_gives_none(date: str) -> None:
    assert server_time({"Date": date}) is None
    assert server_time({}) is None


def test_backoff_doubles_and_stays_between_half_and_the_whole_of_its_ceiling() -> None:
    policy = RetryPolicy(base=2.0, cap=20.0)

    for attempt, ceiling in enumerate((2, 4, 8, 16, 20, 20), start=1):
        pauses = [policy.backoff(attempt, random.Random(seed)) for seed in range(50)]
        assert ceiling / 2 <= min(pauses) <= max(pauses) <= ceiling
        assert len(set(pauses)) == 50


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X-Rate-Limit-Limit": "60", "X-Rate-Limit-Interval": "60"}, 1.0),
        ({"X-Rate-Limit-Limit": "30", "X-Rate-Limit-Interval": "60"}, 2.0),
        ({"X-Rate-Limit-Limit": "30"}, 2.0),
        ({"X-Rate-Limit-Limit": "0"}, None),
        ({"X-Rate-Limit-Limit": "many"}, None),
        ({}, None),
    ],
)
def test_the_limit_in_the_headers_says_how_long_one_request_takes(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert seconds_per_request(headers) == seconds
