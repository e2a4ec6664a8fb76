"""What was asked of the emulator, without anything secret: for tests that count requests."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

KEPT = 100_000


@dataclass(frozen=True)
class SeenRequest:
    """One request to the API; the query string, which carries the token, is not kept.

    :param time: when it was answered, by the emulator's clock.
    """

    method: str
    path: str
    status: int
    time: float


class RequestLog:
    """The last requests, oldest first; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: deque[SeenRequest] = deque(maxlen=KEPT)

    def add(self, request: SeenRequest) -> None:
        """Remember a request."""
        with self._lock:
            self._seen.append(request)

    def all(self) -> list[SeenRequest]:
        """Return a copy of what was seen."""
        with self._lock:
            return list(self._seen)
