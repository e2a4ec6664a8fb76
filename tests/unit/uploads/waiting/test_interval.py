from __future__ import annotations

import random

import pytest

from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.waiting.interval import interval_by_progress, with_jitter
from tests.unit.support import upload_json

CREATED = 1_700_000_000.0


def _pause(
    elapsed: float, progress: float, *, min_interval: float = 5, max_interval: float = 300, **changed: str | None
) -> float:
    upload = Upload.from_json(upload_json(progress=progress, **changed))
    return interval_by_progress(upload, CREATED + elapsed, min_interval=min_interval, max_interval=max_interval)


def test_half_of_the_time_that_is_left_at_the_rate_so_far() -> None:
    assert _pause(100, 0.5) == pytest.approx(50)
    assert _pause(90, 0.9) == pytest.approx(5)
    assert _pause(60, 0.25) == pytest.approx(90)


def test_without_progress_the_interval_is_the_time_so_far() -> None:
    assert _pause(42, 0) == pytest.approx(42)


@pytest.mark.parametrize(("elapsed", "progress"), [(0, 0), (1, 0), (1000, 1), (1000, 0.999), (-500, 0.5)])
def test_the_interval_is_never_less_than_the_floor(elapsed: float, progress: float) -> None:
    assert _pause(elapsed, progress) == 5


@pytest.mark.parametrize(("elapsed", "progress"), [(5000, 0), (5000, 0.01), (1e9, 0.5)])
def test_the_interval_is_never_more_than_the_ceiling(elapsed: float, progress: float) -> None:
    assert _pause(elapsed, progress) == 300


@pytest.mark.parametrize("progress", [-1, 2, 1e300, 5e-324])
def test_progress_beyond_its_range_gives_a_pause_within_bounds(progress: float) -> None:
    assert 5 <= _pause(100, progress) <= 300


@pytest.mark.parametrize("created", [None, "soon"])
def test_without_a_creation_time_the_interval_is_the_floor(created: str | None) -> None:
    assert _pause(1000, 0.5, created=created) == 5


def test_a_long_wait_takes_few_polls_and_the_end_is_noticed_soon() -> None:
    elapsed, looks, whole = 0.0, 0, 3600.0

    while elapsed < whole:
        elapsed += _pause(elapsed, elapsed / whole)
        looks += 1

    assert looks < 40
    assert elapsed - whole <= 5


@pytest.mark.parametrize(("min_interval", "max_interval"), [(10, 12), (5, 300), (10, 10), (10, 5)])
@pytest.mark.parametrize("pause", [1, 10, 30, 1000])
def test_a_pause_is_moved_within_its_bounds(pause: float, min_interval: float, max_interval: float) -> None:
    moved = [
        with_jitter(pause, random.Random(seed), min_interval=min_interval, max_interval=max_interval)
        for seed in range(200)
    ]

    assert min_interval <= min(moved) <= max(moved) <= max(min_interval, max_interval)
