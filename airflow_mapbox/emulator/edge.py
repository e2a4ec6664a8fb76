"""The cache of a content delivery network: a response stays as it was for some minutes, whatever changes behind it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

MAX_BYTES = 64 << 20


class EdgeCache:
    """Responses by URL, each kept for the same time since it was stored; thread-safe.

    :param seconds: the time that a response is kept, by ``clock``; 0 keeps nothing.
    :param clock: Unix time in seconds.
    :param max_bytes: the oldest responses are dropped above this size.
    """

    def __init__(self, *, seconds: float, clock: Callable[[], float], max_bytes: int = MAX_BYTES) -> None:
        self._seconds = seconds
        self._clock = clock
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, tuple[float, int, Any]] = OrderedDict()
        self._bytes = 0

    def get(self, url: Hashable) -> Any | None:
        """Return the stored response of a URL, or None."""
        with self._lock:
            entry = self._entries.get(url)
            if entry is None:
                return None
            if not entry[0] <= self._clock() < entry[0] + self._seconds:
                self._drop(url)
                return None
            return entry[2]

    def put(self, url: Hashable, response: Any, *, size: int) -> None:
        """Store a response.

        :param size: its bytes.
        """
        if not self._seconds:
            return
        with self._lock:
            self._drop(url)
            self._entries[url] = (self._clock(), size, response)
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def _drop(self, url: Hashable) -> None:
        entry = self._entries.pop(url, None)
        if entry is not None:
            self._bytes -= entry[1]
