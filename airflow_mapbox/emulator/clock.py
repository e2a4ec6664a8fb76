"""The emulator's time: the machine's, unless it is moved on or made to run faster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# The last second that a date can be written of, less a year for what is reckoned from it.
END = 253_402_300_799.0 - 366 * 86_400
FASTEST = 1e6


class AdjustableClock:
    """
    Unix time that can be moved on and sped up, never back.

    :param source: the time that it follows.
    """

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._speed = 1.0
        self._since = source()
        self._at_since = self._since

    def __call__(self) -> float:
        """Give the unix time."""
        with self._lock:
            return self._now()

    @property
    def speed(self) -> float:
        """How many of its seconds pass in one real second."""
        with self._lock:
            return self._speed

    def advance(self, seconds: float) -> None:
        """
        Move it on.

        :param seconds: not negative.
        :raises ValueError: for a negative number, and for one that leads beyond the year 9998.
        """
        with self._lock:
            if not 0 <= seconds <= END - self._now():
                raise ValueError("a clock can only be moved on, to no later than the year 9998")
            self._restart(self._now() + seconds)

    def run(self, speed: float) -> None:
        """
        Let it run faster or slower from now on.

        :param speed: its seconds in one real second, above 0, at most a million.
        :raises ValueError: for another number.
        """
        if not 0 < speed <= FASTEST:
            raise ValueError(f"the speed of a clock is a number above 0, at most {FASTEST:g}")
        with self._lock:
            self._restart(self._now())
            self._speed = speed

    def _now(self) -> float:
        return min(self._at_since + (self._source() - self._since) * self._speed, END)

    def _restart(self, now: float) -> None:
        self._since, self._at_since = self._source(), now
