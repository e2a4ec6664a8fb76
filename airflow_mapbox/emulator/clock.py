"""The emulator's clock: the machine's time, unless a test advances it or makes it run faster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# The last second that `datetime` can represent, minus a year, so that expiry times after it can be computed.
END = 253_402_300_799.0 - 366 * 86_400
FASTEST = 1e6


class AdjustableClock:
    """
    Unix time that can be advanced and sped up, but never set back.

    :param source: the underlying clock, which returns the Unix time in seconds.
    """

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._speed = 1.0
        self._since = source()
        self._at_since = self._since

    def __call__(self) -> float:
        """Return the Unix time in seconds."""
        with self._lock:
            return self._now()

    @property
    def speed(self) -> float:
        """Seconds of this clock per real second."""
        with self._lock:
            return self._speed

    def advance(self, seconds: float) -> None:
        """
        Advance the clock.

        :param seconds: not negative.
        :raises ValueError: for a negative number, or if the clock would pass the year 9998.
        """
        with self._lock:
            if not 0 <= seconds <= END - self._now():
                raise ValueError("a clock can only be advanced, and at most to the year 9998")
            self._restart(self._now() + seconds)

    def run(self, speed: float) -> None:
        """
        Set the clock's speed from now on.

        :param speed: seconds of this clock per real second; above 0, at most a million.
        :raises ValueError: for any other number.
        """
        if not 0 < speed <= FASTEST:
            raise ValueError(f"the speed of a clock must be above 0 and at most {FASTEST:g}")
        with self._lock:
            self._restart(self._now())
            self._speed = speed

    def _now(self) -> float:
        return min(self._at_since + (self._source() - self._since) * self._speed, END)

    def _restart(self, now: float) -> None:
        self._since, self._at_since = self._source(), now
