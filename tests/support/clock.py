"""A clock for emulators and their clients."""

from __future__ import annotations

import time

# This machine's clock is another one, so a test fails that uses it.
ANOTHER_TIME = 1_790_000_000.0


class Clock:
    """
    A clock that stands until it is moved.

    :param now: its first unix time; None for that of this machine.
    """

    def __init__(self, now: float | None = None) -> None:
        self.now = float(int(time.time())) if now is None else now

    def __call__(self) -> float:
        return self.now
