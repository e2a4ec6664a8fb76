"""The log of requests, without secrets, for tests that count requests."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

MAX_RECORDS = 100_000


@dataclass(frozen=True)
class RequestRecord:
    """A request to the API, without the query string, which contains the token.

    :param status: HTTP status of the response; 0 if there was no response.
    :param time: time of the response, by the emulator's clock.
    """

    method: str
    path: str
    status: int
    time: float


class RequestLog:
    """The last requests, oldest first; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[RequestRecord] = deque(maxlen=MAX_RECORDS)

    def add(self, request: RequestRecord) -> None:
        """Add a request."""
        with self._lock:
            self._records.append(request)

    def all(self) -> list[RequestRecord]:
        """Return a copy of all records."""
        with self._lock:
            return list(self._records)
