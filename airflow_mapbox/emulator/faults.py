"""Faults on demand: choose the kind of fault, the requests it matches, and how often it happens."""

from __future__ import annotations

import re
import threading
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class RequestFault(StrEnum):
    """What happens to a matching request."""

    STATUS = "status"  # the response has `status` and `message`; the request has no effect
    DROP_BEFORE = "drop_before"  # the connection is cut before the request takes effect
    DROP_AFTER = "drop_after"  # the request takes effect, then the connection is cut without a response
    HANG = "hang"  # no response for `seconds` (0: until the emulator stops), then the connection is cut
    DELAY = "delay"  # the usual response, `seconds` later
    GARBAGE = "garbage"  # the request takes effect; the response is not valid JSON
    HTML = "html"  # a proxy's error page, with `status`
    EXPIRE = "expire"  # S3 only: a key's credentials expire for good after it received `bytes`


class ProcessingFault(StrEnum):
    """What happens to the processing of a matching tileset."""

    STALL = "stall"  # stays at `progress` until the fault is cleared
    FAIL = "fail"  # fails with `message` when it reaches `progress`
    BACKWARDS = "backwards"  # drops to half when it reaches `progress`, then continues


class Where(StrEnum):
    """The place of a fault: one of the servers, or processing."""

    API = "api"
    S3 = "s3"
    PROCESSING = "processing"


@dataclass(frozen=True)
class Fault:
    """
    A fault and the requests or uploads that it applies to.

    :param kind: one of :class:`RequestFault`, or of :class:`ProcessingFault` if ``where`` is ``processing``.
    :param where: ``api``, ``s3`` or ``processing``.
    :param method: the HTTP method of matching requests; empty for all methods.
    :param path: a regular expression, searched for in the path and query (at ``processing``: in the tileset's id).
    :param times: number of matching requests (at ``processing``: uploads; for ``expire``: keys) that get the fault; 0
        for all until the fault is cleared.
    :param after: number of matching requests, uploads or keys that the fault skips first.
    :param status: the response's HTTP status.
    :param code: the S3 error code, such as ``SlowDown``.
    :param message: the message of the response or of the failed upload.
    :param seconds: seconds to wait, by the real clock.
    :param progress: the progress, from 0 to 1, at which the fault happens.
    :param bytes: bytes of bodies that a key may receive before its credentials expire.
    :param id: set by :class:`Faults`.
    :raises ValueError: for an invalid value.
    :raises TypeError: for a value of a wrong type.
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
            raise ValueError(
                f"the kind of a fault at {self.where} must be one of {', '.join(kinds)}, not {self.kind!r}"
            )
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path {self.path!r} is not a regular expression: {error}") from None
        if self.kind == RequestFault.EXPIRE and self.where != Where.S3:
            raise ValueError("the fault 'expire' needs where='s3'")
        if not 200 <= self.status <= 599:
            raise ValueError("status must be an HTTP status from 200 to 599")
        if min(self.times, self.after, self.bytes) < 0 or not 0 <= self.seconds <= _MAX_SECONDS:
            raise ValueError(
                f"times, after, bytes and seconds must not be negative, and seconds must be at most {_MAX_SECONDS:g}"
            )
        if not 0 <= self.progress <= 1:
            raise ValueError("progress must be from 0 to 1")

    def matches(self, where: Where, method: str, path: str) -> bool:
        """Return whether the fault applies to a request, or to a tileset's processing."""
        return self.where == where and self.method.upper() in ("", method) and re.search(self.path, path) is not None

    def as_json(self) -> dict[str, Any]:
        """Return the fault's fields for the control endpoint."""
        return asdict(self)


_MAX_SECONDS = 86_400.0
_STRING_FIELDS = ("kind", "where", "method", "path", "code", "message")
_INTEGER_FIELDS = ("times", "after", "status", "bytes")
_NUMBER_FIELDS = ("seconds", "progress")


def _check_types(fault: Fault) -> None:
    """Raise TypeError if a field has a wrong type: JSON can hold any."""
    for names, kinds, description in (
        (_STRING_FIELDS, str, "a string"),
        (_INTEGER_FIELDS, int, "an integer"),
        (_NUMBER_FIELDS, (int, float), "a number"),
    ):
        for name in names:
            value = getattr(fault, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise TypeError(f"{name} of a fault must be {description}, not {value!r}")


@dataclass
class _Entry:
    """A pending fault, and the uploads or keys that it has counted so far."""

    fault: Fault
    counted: set[str] = field(default_factory=set)
    received: dict[str, int] = field(default_factory=dict)

    def skips(self, subject: str) -> bool:
        """Count an upload or a key once; return whether the fault does not apply to it."""
        if subject in self.counted:
            return True
        if self.fault.after and subject not in self.received:
            self.counted.add(subject)
            self.fault = replace(self.fault, after=self.fault.after - 1)
            return True
        return False


class Faults:
    """The pending faults; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._claimed: dict[str, Fault] = {}
        self._next_id = 1

    def add(self, kind: str, **options: Any) -> Fault:
        """
        Add a fault after the existing ones. A request gets the first fault that matches.

        :param kind: the kind of fault.
        :param options: the other fields of :class:`Fault`.
        :raises ValueError: for an invalid value.
        :raises TypeError: for an unknown field, and for a value of a wrong type.
        """
        for name in options:
            if name not in (*_STRING_FIELDS, *_INTEGER_FIELDS, *_NUMBER_FIELDS):
                raise TypeError(f"a fault has no field {name!r}")
        fault = Fault(kind, **options)
        with self._lock:
            fault = replace(fault, id=self._next_id)
            self._next_id += 1
            self._entries.append(_Entry(fault))
        return fault

    def take(self, where: Where, method: str, path: str) -> Fault | None:
        """
        Return the fault for a request, and count the request.

        :param where: the server that received the request.
        :param method: the HTTP method.
        :param path: the path with its query.
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
        Count the bytes that a key receives, and return whether a fault expires its credentials now.

        :param method: the HTTP method.
        :param path: the path with its query.
        :param key: the key of the requested object.
        :param size: bytes of the request's body.
        """
        with self._lock:
            for entry in list(self._entries):
                fault = entry.fault
                if fault.kind != RequestFault.EXPIRE or not fault.matches(Where.S3, method, path):
                    continue
                if entry.skips(key):
                    continue
                received = entry.received.get(key, 0)
                if received >= fault.bytes:
                    entry.counted.add(key)
                    self._count(entry)
                    return True
                entry.received[key] = received + size
        return False

    def claim(self, tileset: str, upload: str) -> Fault | None:
        """
        Return the fault for an upload's processing: the same at every call, until it is cleared or released.

        :param tileset: the id of the upload's tileset.
        :param upload: the upload's id; it is counted once.
        """
        with self._lock:
            if upload in self._claimed:
                return self._claimed[upload]
            for entry in list(self._entries):
                if not entry.fault.matches(Where.PROCESSING, "", tileset) or entry.skips(upload):
                    continue
                entry.counted.add(upload)
                self._claimed[upload] = entry.fault
                self._count(entry)
                return self._claimed[upload]
        return None

    def release(self, upload: str) -> None:
        """Release the fault that an upload claimed."""
        with self._lock:
            self._claimed.pop(upload, None)

    def all(self) -> list[Fault]:
        """Return the pending faults, and the faults that uploads in processing have claimed."""
        with self._lock:
            faults = {fault.id: fault for fault in self._claimed.values()}
            faults |= {entry.fault.id: entry.fault for entry in self._entries}
        return [faults[fault_id] for fault_id in sorted(faults)]

    def clear(self, fault_id: int | None = None) -> bool:
        """
        Clear one fault, or all. Stalled processing continues.

        :param fault_id: the fault's id; None for all.
        :return: whether there was any.
        """
        with self._lock:
            entries = [entry for entry in self._entries if fault_id not in (None, entry.fault.id)]
            claimed = {upload: fault for upload, fault in self._claimed.items() if fault_id not in (None, fault.id)}
            is_changed = len(entries) + len(claimed) < len(self._entries) + len(self._claimed)
            self._entries, self._claimed = entries, claimed
        return is_changed

    def _count(self, entry: _Entry) -> None:
        if entry.fault.times == 1:
            self._entries.remove(entry)
        elif entry.fault.times:
            entry.fault = replace(entry.fault, times=entry.fault.times - 1)
