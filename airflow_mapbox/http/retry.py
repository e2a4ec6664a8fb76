"""When to retry a request: exponential backoff for faults, the reset of the window for a rate limit."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from airflow_mapbox.errors import MapboxError, NoAnswerError, NotSentError, ServerError, ThrottledError
from airflow_mapbox.limits import RATE_LIMIT_INTERVAL_SECONDS

# No window is this long. A larger value in a header is an error of the server.
_MAX_INTERVAL_SECONDS = 3600.0

# Statuses with which a gateway answers instead of the server: Request Timeout, Misdirected Request, Too Early, and
# nginx's Client Closed Request. The server may have handled the request all the same.
LOST_ON_THE_WAY = frozenset({408, 421, 425, 499})


@dataclass(frozen=True)
class RetryPolicy:
    """
    How long one call may take.

    :param attempts: maximum number of attempts if a request fails with 5xx replies or broken connections. A rate limit
        does not count.
    :param base: seconds before the second attempt. Each further delay is up to twice as long.
    :param cap: upper bound of the delay between two attempts, in seconds.
    :param max_throttle_wait: seconds that one call may wait for rate limits in all. With 0, it raises
        :class:`~airflow_mapbox.errors.ThrottledError` at once; None waits as long as necessary.
    """

    attempts: int = 5
    base: float = 1.0
    cap: float = 30.0
    max_throttle_wait: float | None = None

    def backoff(self, attempt: int, rng: random.Random) -> float:
        """
        Return the delay after a failed attempt. Half of it is random, so that clients do not retry at the same moment.

        :param attempt: the failed attempt, from 1.
        :param rng: the source of the jitter.
        :return: seconds.
        """
        ceiling = min(self.cap, self.base * 2.0 ** (attempt - 1))
        return ceiling / 2 + rng.uniform(0, ceiling / 2)


# One request that raises at a fault or a rate limit. For polls: the wait itself decides what to do next.
ONE_TRY = RetryPolicy(attempts=1, max_throttle_wait=0)


class Attempts:
    """
    The attempts of one call.

    :param policy: how long the call may take.
    :param rng: the source of the jitter.
    """

    def __init__(self, policy: RetryPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._waited = 0.0
        self.number = 1

    def delay_after(self, error: MapboxError, *, repeatable: bool) -> float | None:
        """
        Return the seconds until the next attempt; None if the call has failed.

        :param error: the error of this attempt.
        :param repeatable: whether the request may be sent again after its reply was lost.
        """
        if isinstance(error, ThrottledError):
            return error.retry_after if self._may_wait(error.retry_after, at_all=True) else None
        if not self._is_transient(error, repeatable=repeatable) or self.number >= self._policy.attempts:
            return None
        requested = error.retry_after or 0.0
        if not self._may_wait(requested, at_all=requested > 0):
            return None
        delay = max(self._policy.backoff(self.number, self._rng), requested)
        self.number += 1
        return delay

    def _may_wait(self, seconds: float, *, at_all: bool) -> bool:
        """Count seconds that the server asks for, unless that exceeds ``max_throttle_wait``."""
        limit = self._policy.max_throttle_wait
        if at_all and limit is not None and (limit <= 0 or self._waited + seconds > limit):
            return False
        self._waited += seconds
        return True

    @staticmethod
    def _is_transient(error: MapboxError, *, repeatable: bool) -> bool:
        if isinstance(error, NotSentError):
            return error.retryable
        return repeatable and isinstance(error, NoAnswerError | ServerError)


def throttle_delay(headers: Mapping[str, str], now: float, rng: random.Random) -> float:
    """
    Return the delay after a 429: until the window's reset, plus jitter.

    The reset is a time by the server's clock, so it is compared with the reply's own ``Date``. A worker whose clock is
    wrong then waits no longer than necessary. A window cannot reset later than its length, which bounds a wrong reset.

    :param headers: headers of the reply: ``X-Rate-Limit-Interval`` in seconds, ``X-Rate-Limit-Reset`` in Unix time
        (Uploads API, "Restrictions and limits"). ``Retry-After``, if there is one, is a lower bound.
    :param now: Unix time, for a reply without ``Date``.
    :param rng: the source of the jitter, up to a tenth of the window and five seconds.
    :return: seconds.
    """
    interval = min(
        _positive(headers.get("X-Rate-Limit-Interval")) or RATE_LIMIT_INTERVAL_SECONDS, _MAX_INTERVAL_SECONDS
    )
    reset = _positive(headers.get("X-Rate-Limit-Reset"))
    delay = interval if reset is None else reset - (server_time(headers) or now)
    delay = min(max(delay, 0.0), interval)
    delay = max(delay, retry_after(headers, now) or 0.0)
    return delay + rng.uniform(0, min(5.0, interval / 10))


def seconds_per_request(headers: Mapping[str, str]) -> float | None:
    """
    Return how many seconds of the rate limit's window one request takes.

    :param headers: headers of any reply: ``X-Rate-Limit-Interval`` in seconds, ``X-Rate-Limit-Limit`` in requests
        (Uploads API, "Restrictions and limits").
    :return: None if the reply names no limit.
    """
    limit = _positive(headers.get("X-Rate-Limit-Limit"))
    interval = _positive(headers.get("X-Rate-Limit-Interval")) or RATE_LIMIT_INTERVAL_SECONDS
    return min(interval, _MAX_INTERVAL_SECONDS) / limit if limit else None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """
    Return the seconds in a ``Retry-After`` header, at most an hour.

    :param headers: headers of the reply. The value is a number of seconds or a date (RFC 9110, section 10.2.3).
    :param now: Unix time, for a reply without ``Date``.
    :return: None if the header is missing or invalid.
    """
    value = headers.get("Retry-After")
    seconds = _positive(value)
    if seconds is None and value:
        date = _unix_time(value)
        seconds = None if date is None else max(0.0, date - (server_time(headers) or now))
    return None if seconds is None else min(seconds, _MAX_INTERVAL_SECONDS)


def server_time(headers: Mapping[str, str]) -> float | None:
    """
    Return the server's clock at a reply.

    :param headers: headers of the reply.
    :return: Unix time in whole seconds; None if ``Date`` is missing or invalid.
    """
    return _unix_time(headers.get("Date", ""))


def _unix_time(date: str) -> float | None:
    try:
        parsed = parsedate_to_datetime(date)
        # HTTP dates are in UTC, also those without a time zone (RFC 9110, section 5.6.7).
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _positive(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None
