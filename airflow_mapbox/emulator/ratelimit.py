"""The rate limit of the Uploads API: a fixed window per account."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RateDecision:
    """Whether a request is allowed, and the rate limit headers of its response."""

    allowed: bool
    headers: dict[str, str]


class RateLimiter:
    """Counts requests in fixed windows. A window begins with the first request after the last window's end.

    :param limit: requests in one window; 0 allows everything, without headers.
    :param window: length of a window in seconds.
    :param clock: Unix time in seconds.
    """

    def __init__(self, *, limit: int, window: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[float, int]] = {}

    def check(self, account: str) -> RateDecision:
        """Count a request of an account, unless it is refused, and return the decision."""
        if not self._limit:
            return RateDecision(True, {})
        with self._lock:
            now = self._clock()
            started, count = self._windows.get(account, (now, 0))
            # `started <= now`, so that a clock that was set back does not lock an account out.
            if not started <= now < started + self._window:
                started, count = now, 0
            allowed = count < self._limit
            self._windows[account] = (started, count + allowed)
        # Rounded up, so that a client that waits until the reset is allowed.
        reset = math.ceil(started + self._window)
        return RateDecision(
            allowed,
            {
                "X-Rate-Limit-Interval": f"{self._window:g}",
                "X-Rate-Limit-Limit": str(self._limit),
                "X-Rate-Limit-Reset": str(reset),
            },
        )
