"""Faults on demand: what goes wrong, with which requests, how often."""

from __future__ import annotations

import re
import threading
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class RequestFault(StrEnum):
    """What happens to a matching request."""

    STATUS = "status"  # answered with `status` and `message`, without taking effect
    DROP_BEFORE = "drop_before"  # the connection is cut, and nothing took effect
    DROP_AFTER = "drop_after"  # it takes effect, and the connection is cut instead of the answer
    HANG = "hang"  # no answer for `seconds`, then the connection is cut
    DELAY = "delay"  # answered as always, `seconds` later
    GARBAGE = "garbage"  # it takes effect and is answered with bytes that are no JSON
    HTML = "html"  # a proxy's error page, with `status`


class ProcessingFault(StrEnum):
    """What happens to the processing of a matching tileset."""

    STALL = "stall"  # stays at `progress` until the fault is taken away
    FAIL = "fail"  # fails with `message` when it reaches `progress`
    BACKWARDS = "backwards"  # progress drops to half at `progress`, then goes on


class Where(StrEnum):
    """Which server a fault is at."""

    API = "api"
    S3 = "s3"
    PROCESSING = "processing"


@dataclass(frozen=True)
class Fault:
    """
    One fault.

    :param kind: what happens, one of :class:`RequestFault`, or of :class:`ProcessingFault` at ``processing``.
    :param where: ``api``, ``s3`` or ``processing``.
    :param method: the HTTP method it is for; empty for all.
    :param path: a regular expression that is looked for in the path and query (at ``processing``: the tileset).
    :param times: matching requests it is for; 0 for all until it is taken away.
    :param after: matching requests that pass first.
    :param status: of the answer.
    :param code: the S3 error code, such as ``SlowDown``.
    :param message: of the answer, or of the failed upload.
    :param seconds: to wait, by the real clock.
    :param progress: from 0 to 1, where processing goes wrong.
    """

    kind: str
    where: str = Where.API
    method: str = ""
    path: str = ""
    times: int = 1
    after: int = 0
    status: int = 500
    code: str = "InternalError"
    message: str = "Internal Server Error"
    seconds: float = 0.0
    progress: float = 0.0
    id: int = field(default=0)

    def __post_init__(self) -> None:
        kinds: type[StrEnum] = ProcessingFault if Where(self.where) is Where.PROCESSING else RequestFault
        if self.kind not in list(kinds):
            raise ValueError(f"at {self.where} a fault is one of {', '.join(kinds)}, not {self.kind!r}")
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path {self.path!r} is no regular expression: {error}") from None
        if not 100 <= self.status <= 599:
            raise ValueError("status must be an HTTP status")
        if min(self.times, self.after) < 0 or not 0 <= self.seconds < float("inf") or not 0 <= self.progress <= 1:
            raise ValueError("times, after and seconds are not negative, progress is from 0 to 1")

    def matches(self, where: Where, method: str, path: str) -> bool:
        """Say whether it is for a request, or for a tileset's processing."""
        return self.where == where and self.method in ("", method) and re.search(self.path, path) is not None

    def as_json(self) -> dict[str, Any]:
        """Give it as the control endpoint shows it."""
        return asdict(self)


class Faults:
    """The faults that are to come; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._next_id = 1

    def add(self, kind: str, **options: Any) -> Fault:
        """
        Put a fault behind those that are there; a request meets the first that matches.

        :param kind: what happens.
        :param options: the other fields of :class:`Fault`.
        :raises ValueError: for values that make no fault.
        :raises TypeError: for a field that no fault has.
        """
        fault = Fault(kind, **options)
        with self._lock:
            fault = replace(fault, id=self._next_id)
            self._next_id += 1
            self._faults.append(fault)
        return fault

    def take(self, where: Where, method: str, path: str) -> Fault | None:
        """Give the fault for a request, and count it."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if not fault.matches(where, method, path):
                    continue
                if fault.after:
                    self._faults[index] = replace(fault, after=fault.after - 1)
                    continue
                if fault.times == 1:
                    del self._faults[index]
                elif fault.times:
                    self._faults[index] = replace(fault, times=fault.times - 1)
                return fault
        return None

    def find(self, where: Where, path: str) -> Fault | None:
        """Give the fault for a tileset's processing without counting it, so that a stall ends when it is taken away."""
        with self._lock:
            return next((fault for fault in self._faults if fault.matches(where, "", path)), None)

    def all(self) -> list[Fault]:
        """Give those that are still to come."""
        with self._lock:
            return list(self._faults)

    def clear(self, fault_id: int | None = None) -> None:
        """Take one away, or all."""
        with self._lock:
            self._faults = [] if fault_id is None else [fault for fault in self._faults if fault.id != fault_id]
