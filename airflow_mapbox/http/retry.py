"""When to try again: exponential back-off for faults, the reset of the window for a rate limit."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from airflow_mapbox.limits import RATE_LIMIT_INTERVAL_SECONDS

# No window is this long: what a header says beyond it makes no sense.
_LONGEST_INTERVAL = 3600.0


# What gateways answer in the place of a server that may have done what it was asked: Request Timeout, Too Early, and
# nginx's Client Closed Request. A Misdirected Request has reached a server that knows nothing of it.
LOST_ON_THE_WAY = frozenset({408, 421, 425, 499})


@dataclass(frozen=True)
class RetryPolicy:
    """
    How long one call may go on.

    :param attempts: tries at a request that meets faults: 5xx answers and broken connections. A rate limit uses none.
    :param base: seconds before the second try; each further one waits up to twice as long.
    :param cap: seconds that no pause between tries exceeds.
    :param max_throttle_wait: seconds that a call may spend waiting out rate limits in all; 0 raises
        :class:`~airflow_mapbox.uploads.errors.ThrottledError` at once, None waits as long as it takes.
    """

    attempts: int = 5
    base: float = 1.0
    cap: float = 30.0
    max_throttle_wait: float | None = None

    def backoff(self, attempt: int, rng: random.Random) -> float:
        """
        Give the pause after a failed try: half fixed, half random, so that clients that failed together part.

        :param attempt: the try that failed, from 1.
        :param rng: the source of the jitter.
        :return: seconds.
        """
        ceiling = min(self.cap, self.base * 2.0 ** (attempt - 1))
        return ceiling / 2 + rng.uniform(0, ceiling / 2)


# A look at an upload: one request, which raises at a fault or a rate limit, since what waits knows better what to do.
ONE_TRY = RetryPolicy(attempts=1, max_throttle_wait=0)


def throttle_delay(headers: Mapping[str, str], now: float, rng: random.Random) -> float:
    """
    Give the pause after a 429: until the window's reset, plus jitter.

    The reset is a time of the server's clock, so it is measured from the answer's own ``Date`` where there is one:
    a worker whose clock is off by a minute waits no minute too long. A window cannot reset later than it is long,
    which bounds a reset that makes no sense.

    :param headers: of the answer: ``X-Rate-Limit-Interval`` in seconds, ``X-Rate-Limit-Reset`` in unix time (Uploads
        API, "Restrictions and limits"); ``Retry-After``, not seen so far, is a lower bound.
    :param now: the unix time, for an answer without a ``Date``.
    :param rng: the source of the jitter, up to a tenth of the window and five seconds.
    :return: seconds.
    """
    interval = min(_positive(headers.get("X-Rate-Limit-Interval")) or RATE_LIMIT_INTERVAL_SECONDS, _LONGEST_INTERVAL)
    reset = _positive(headers.get("X-Rate-Limit-Reset"))
    delay = interval if reset is None else reset - (server_time(headers) or now)
    delay = min(max(delay, 0.0), interval)
    delay = max(delay, retry_after(headers, now) or 0.0)
    return delay + rng.uniform(0, min(5.0, interval / 10))


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """
    Return the seconds that a ``Retry-After`` header asks for, at most an hour.

    :param headers: of the answer. The header is a number of seconds or a date (RFC 9110, section 10.2.3).
    :param now: the unix time, for an answer without a ``Date``.
    :return: None if there is no such header, or it makes no sense.
    """
    told = headers.get("Retry-After")
    seconds = _positive(told)
    if seconds is None and told:
        date = _unix_time(told)
        seconds = None if date is None else max(0.0, date - (server_time(headers) or now))
    return None if seconds is None else min(seconds, _LONGEST_INTERVAL)


def server_time(headers: Mapping[str, str]) -> float | None:
    """
    Read the server's clock from an answer.

    :param headers: of the answer.
    :return: unix time, whole seconds, or None where the answer has no readable ``Date``.
    """
    return _unix_time(headers.get("Date", ""))


def _unix_time(date: str) -> float | None:
    try:
        parsed = parsedate_to_datetime(date)
        # HTTP's dates are in UTC, also in the forms that do not say so (RFC 9110, section 5.6.7).
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _positive(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None
