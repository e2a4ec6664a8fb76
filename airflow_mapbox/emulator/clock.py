"""The emulator's time: the machine's, unless it is moved on or made to run faster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


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
        :raises ValueError: for a negative or infinite number.
        """
        if not 0 <= seconds < float("inf"):
            raise ValueError("a clock can only be moved on, by a finite number of seconds")
        with self._lock:
            self._restart(self._now() + seconds)

    def run(self, speed: float) -> None:
        """
        Let it run faster or slower from now on.

        :param speed: its seconds in one real second, above 0.
        :raises ValueError: for another number.
        """
        if not 0 < speed < float("inf"):
            raise ValueError("the speed of a clock is a number above 0")
        with self._lock:
            self._restart(self._now())
            self._speed = speed

    def _now(self) -> float:
        return self._at_since + (self._source() - self._since) * self._speed

    def _restart(self, now: float) -> None:
        self._since, self._at_since = self._source(), now
