"""The time between two polls: short near the end of processing. The triggerer's rounds are in ``poller.py``."""

from __future__ import annotations

import random

from airflow_mapbox.uploads.models import Upload

# Make an interval shorter or longer by up to this share, so that waits that started together poll at different times.
_JITTER = 0.2
# Seconds after a rate limit's reset over which polls are spread. Doubled with each refusal in a row.
_SPREAD_SECONDS = 15.0
_MAX_SPREAD_SECONDS = 60.0


def interval_by_progress(upload: Upload, now: float, *, min_interval: float, max_interval: float) -> float:
    """
    Return the time until the next poll of an upload in processing.

    It is half of the remaining time, if processing continues at its average rate. So a long wait takes few requests,
    and the end is noticed soon. Without any progress yet, it is the time since the upload was created.

    :param upload: the upload at the last poll.
    :param now: Unix time by the server's clock.
    :param min_interval: lower bound in seconds.
    :param max_interval: upper bound in seconds.
    :return: seconds.
    """
    if upload.created_at is None:
        return min_interval
    elapsed = max(0.0, now - upload.created_at.timestamp())
    progress = min(max(upload.progress, 0.0), 1.0)
    remaining = elapsed * (1 - progress) / progress if progress else 2 * elapsed
    return max(min_interval, min(remaining / 2, max_interval))


def fit_to_deadline(interval: float, remaining: float, *, min_interval: float) -> float:
    """
    Return an interval such that the last poll comes at the deadline: not later, and not just after another poll.

    :param interval: seconds until the next poll.
    :param remaining: seconds until the deadline.
    :param min_interval: shortest time between two polls, in seconds.
    :return: seconds.
    """
    return interval if remaining - interval >= min_interval else max(remaining, min_interval)


def with_jitter(interval: float, rng: random.Random, *, min_interval: float, max_interval: float) -> float:
    """
    Change an interval at random by up to a fifth, within its bounds.

    :param interval: seconds.
    :param rng: the source of the jitter.
    :param min_interval: lower bound in seconds. An interval at this bound always gets longer.
    :param max_interval: upper bound in seconds.
    :return: seconds.
    """
    max_interval = max(min_interval, max_interval)
    interval = min(max(interval, min_interval), max_interval)
    return rng.uniform(max(min_interval, interval * (1 - _JITTER)), min(max_interval, interval * (1 + _JITTER)))


def spread_after_rate_limit(throttled: int, rng: random.Random) -> float:
    """
    Return the time that a throttled wait adds to the rate limit's reset.

    It is zero at the first time. When more tasks wait than the limit allows, most polls at the next reset are refused
    again, and each refused poll wastes a task start. So they spread more widely each time.

    :param throttled: number of earlier polls in a row that met the rate limit.
    :param rng: the source of the jitter.
    :return: seconds.
    """
    return rng.uniform(0, min(_MAX_SPREAD_SECONDS, _SPREAD_SECONDS * 2.0 ** min(throttled, 10))) if throttled else 0.0


def interval_while_active(waited: float) -> float:
    """
    Return the time until the next create call for a tileset that Mapbox is still processing.

    :param waited: seconds since this was first seen.
    :return: a quarter of that time, at least 15 s and at most two minutes.
    """
    return min(max(waited / 4, 15.0), 120.0)
