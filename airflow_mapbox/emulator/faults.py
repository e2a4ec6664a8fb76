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
    HANG = "hang"  # no answer for `seconds`, with 0 until the emulator stops; then the connection is cut
    DELAY = "delay"  # answered as always, `seconds` later
    GARBAGE = "garbage"  # it takes effect and is answered with bytes that are no JSON
    HTML = "html"  # a proxy's error page, with `status`
    EXPIRE = "expire"  # S3 only: after `bytes` received for a key its credentials have expired, for good


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
    :param times: matching requests (at ``processing`` uploads, for ``expire`` keys) it is for; 0 for all until it is
        taken away.
    :param after: matching requests, uploads or keys that pass first.
    :param status: of the answer.
    :param code: the S3 error code, such as ``SlowDown``.
    :param message: of the answer, or of the failed upload.
    :param seconds: to wait, by the real clock.
    :param progress: from 0 to 1, where processing goes wrong.
    :param bytes: of bodies that a key may receive before its credentials expire.
    :param id: given by :class:`Faults`.
    :raises ValueError: for values that make no fault.
    :raises TypeError: for values of another type.
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
    bytes: int = 0
    id: int = 0

    def __post_init__(self) -> None:
        _check_types(self)
        kinds: type[StrEnum] = ProcessingFault if Where(self.where) is Where.PROCESSING else RequestFault
        if self.kind not in list(kinds):
            raise ValueError(f"at {self.where} a fault is one of {', '.join(kinds)}, not {self.kind!r}")
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path {self.path!r} is no regular expression: {error}") from None
        if self.kind == RequestFault.EXPIRE and self.where != Where.S3:
            raise ValueError("credentials expire at s3 only")
        if not 200 <= self.status <= 599:
            raise ValueError("status must be an HTTP status from 200 to 599")
        if min(self.times, self.after, self.bytes) < 0 or not 0 <= self.seconds <= _LONGEST:
            raise ValueError(f"times, after, bytes and seconds are not negative, seconds at most {_LONGEST:g}")
        if not 0 <= self.progress <= 1:
            raise ValueError("progress is from 0 to 1")

    def matches(self, where: Where, method: str, path: str) -> bool:
        """Say whether it is for a request, or for a tileset's processing."""
        return self.where == where and self.method.upper() in ("", method) and re.search(self.path, path) is not None

    def as_json(self) -> dict[str, Any]:
        """Give it as the control endpoint shows it."""
        return asdict(self)


_LONGEST = 86_400.0
_TEXTS = ("kind", "where", "method", "path", "code", "message")
_WHOLE = ("times", "after", "status", "bytes")
_NUMBERS = ("seconds", "progress")


def _check_types(fault: Fault) -> None:
    """Refuse what JSON can hold and a fault can't."""
    for names, kinds, called in (
        (_TEXTS, str, "text"),
        (_WHOLE, int, "a whole number"),
        (_NUMBERS, (int, float), "a number"),
    ):
        for name in names:
            value = getattr(fault, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise TypeError(f"{name} of a fault is {called}, not {value!r}")


@dataclass
class _Entry:
    """A fault to come, and what it has met so far."""

    fault: Fault
    met: set[str] = field(default_factory=set)
    received: dict[str, int] = field(default_factory=dict)

    def passes(self, subject: str) -> bool:
        """Count an upload or a key once; say whether it is one of those that pass first."""
        if subject in self.met:
            return True
        if self.fault.after and subject not in self.received:
            self.met.add(subject)
            self.fault = replace(self.fault, after=self.fault.after - 1)
            return True
        return False


class Faults:
    """The faults that are to come; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._held: dict[str, Fault] = {}
        self._next_id = 1

    def add(self, kind: str, **options: Any) -> Fault:
        """
        Put a fault behind those that are there; a request meets the first that matches.

        :param kind: what happens.
        :param options: the other fields of :class:`Fault`.
        :raises ValueError: for values that make no fault.
        :raises TypeError: for a field that no fault has, and for a value of another type.
        """
        for name in options:
            if name not in (*_TEXTS, *_WHOLE, *_NUMBERS):
                raise TypeError(f"a fault has no field {name!r}")
        fault = Fault(kind, **options)
        with self._lock:
            fault = replace(fault, id=self._next_id)
            self._next_id += 1
            self._entries.append(_Entry(fault))
        return fault

    def take(self, where: Where, method: str, path: str) -> Fault | None:
        """
        Give the fault for a request, and count it.

        :param where: which server was asked.
        :param method: the HTTP method.
        :param path: with the query.
        """
        with self._lock:
            for entry in list(self._entries):
                fault = entry.fault
                if fault.kind == RequestFault.EXPIRE or not fault.matches(where, method, path):
                    continue
                if fault.after:
                    entry.fault = replace(fault, after=fault.after - 1)
                    continue
                self._count(entry)
                return fault
        return None

    def expires(self, method: str, path: str, *, key: str, size: int) -> bool:
        """
        Count the bytes that a key receives; say whether its credentials have expired by what it received before.

        :param method: the HTTP method.
        :param path: with the query.
        :param key: that the request is for.
        :param size: bytes of its body.
        """
        with self._lock:
            for entry in list(self._entries):
                fault = entry.fault
                if fault.kind != RequestFault.EXPIRE or not fault.matches(Where.S3, method, path):
                    continue
                if entry.passes(key):
                    continue
                received = entry.received.get(key, 0)
                if received >= fault.bytes:
                    entry.met.add(key)
                    self._count(entry)
                    return True
                entry.received[key] = received + size
        return False

    def claim(self, tileset: str, upload: str) -> Fault | None:
        """
        Give the fault for an upload's processing, the same at every call, until it is taken away or released.

        :param tileset: that is made.
        :param upload: the upload's id; it is counted once.
        """
        with self._lock:
            if upload in self._held:
                return self._held[upload]
            for entry in list(self._entries):
                if not entry.fault.matches(Where.PROCESSING, "", tileset) or entry.passes(upload):
                    continue
                entry.met.add(upload)
                self._held[upload] = entry.fault
                self._count(entry)
                return self._held[upload]
        return None

    def release(self, upload: str) -> None:
        """Let go of the fault that an upload has had."""
        with self._lock:
            self._held.pop(upload, None)

    def all(self) -> list[Fault]:
        """Give those that are still to come, and those that processing is under."""
        with self._lock:
            found = {fault.id: fault for fault in self._held.values()}
            found |= {entry.fault.id: entry.fault for entry in self._entries}
        return [found[number] for number in sorted(found)]

    def clear(self, fault_id: int | None = None) -> bool:
        """
        Take one away, or all; processing that it held up goes on.

        :param fault_id: None for all.
        :return: whether there was any.
        """
        with self._lock:
            left = [entry for entry in self._entries if fault_id not in (None, entry.fault.id)]
            held = {upload: fault for upload, fault in self._held.items() if fault_id not in (None, fault.id)}
            found = len(left) + len(held) < len(self._entries) + len(self._held)
            self._entries, self._held = left, held
        return found

    def _count(self, entry: _Entry) -> None:
        if entry.fault.times == 1:
            self._entries.remove(entry)
        elif entry.fault.times:
            entry.fault = replace(entry.fault, times=entry.fault.times - 1)
