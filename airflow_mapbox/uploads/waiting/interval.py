"""When to look at an upload again: soon when it is nearly done, seldom when it has far to go."""

from __future__ import annotations

import random

from airflow_mapbox.uploads.models import Upload

# The share by which a pause is made shorter or longer, so that waits that began together part.
_JITTER = 0.2
# Seconds after a rate limit's reset over which looks are spread, doubled with each refusal in a row.
_SPREAD = 15.0
_WIDEST_SPREAD = 60.0


def seconds_to_next_look(upload: Upload, now: float, *, floor: float, ceiling: float) -> float:
    """
    Choose the pause before the next status request.

    Half of the time that is left if processing goes on at the rate so far, so that a long wait takes few requests and
    the end is noticed soon; the time so far where there is no progress to go by.

    :param upload: as last seen.
    :param now: unix time by the server's clock.
    :param floor: seconds, at least.
    :param ceiling: seconds, at most.
    :return: seconds.
    """
    if upload.created_at is None:
        return floor
    elapsed = max(0.0, now - upload.created_at.timestamp())
    progress = min(max(upload.progress, 0.0), 1.0)
    left = elapsed * (1 - progress) / progress if progress else 2 * elapsed
    return max(floor, min(left / 2, ceiling))


def fit(pause: float, left: float, *, least: float) -> float:
    """
    Move a pause so that the last look comes when the time is over: not later, and with no other one shortly before it.

    :param pause: seconds.
    :param left: seconds until the time is over.
    :param least: seconds between two looks, at least.
    :return: seconds.
    """
    return pause if left - pause >= least else max(left, least)


def spread(pause: float, rng: random.Random, *, floor: float, ceiling: float) -> float:
    """
    Move a pause at random by up to a fifth, within its bounds.

    :param pause: seconds.
    :param rng: the source of the jitter.
    :param floor: seconds, at least; at the floor itself the pause can only grow, and does.
    :param ceiling: seconds, at most.
    :return: seconds.
    """
    ceiling = max(floor, ceiling)
    pause = min(max(pause, floor), ceiling)
    return rng.uniform(max(floor, pause * (1 - _JITTER)), min(ceiling, pause * (1 + _JITTER)))


def spread_after_throttles(before: int, rng: random.Random) -> float:
    """
    Choose what a look that met a rate limit waits beyond the reset.

    Nothing at the first time. Where more wait than the limit allows, all of them at the next reset would be refused but
    the first few, and each refused look is a task started for nothing: so they part more widely each time.

    :param before: looks of the same wait in a row that were refused before this one.
    :param rng: the source of the jitter.
    :return: seconds.
    """
    return rng.uniform(0, min(_WIDEST_SPREAD, _SPREAD * 2.0 ** min(before, 10))) if before else 0.0


def seconds_to_next_try(waited: float) -> float:
    """
    Choose the pause before a create call is tried again that found its tileset being processed by another upload.

    :param waited: seconds since that was first found.
    :return: seconds: a quarter of the time so far, from 15 s to two minutes.
    """
    return min(max(waited / 4, 15.0), 120.0)
