"""The limit on Uploads API requests: a fixed window per account."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether a request may pass, and the headers its answer carries either way."""

    allowed: bool
    headers: dict[str, str]


class RateLimiter:
    """Counts requests in windows that open with the first request after the last window's end.

    :param limit: requests in one window; 0 lets everything pass, without headers.
    :param window: seconds.
    :param clock: Unix time in seconds.
    """

    def __init__(self, *, limit: int, window: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[float, int]] = {}

    def check(self, account: str) -> Verdict:
        """Count one request of an account; a refused one is not counted."""
        if not self._limit:
            return Verdict(True, {})
        with self._lock:
            now = self._clock()
            started, count = self._windows.get(account, (now, 0))
            # A clock that was set back must not lock an account out for as long.
            if not started <= now < started + self._window:
                started, count = now, 0
            allowed = count < self._limit
            self._windows[account] = (started, count + allowed)
        # Rounded up, so that who waits until the reset is let in.
        reset = math.ceil(started + self._window)
        return Verdict(
            allowed,
            {
                "X-Rate-Limit-Interval": f"{self._window:g}",
                "X-Rate-Limit-Limit": str(self._limit),
                "X-Rate-Limit-Reset": str(reset),
            },
        )
