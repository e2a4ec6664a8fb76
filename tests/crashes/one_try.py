"""One try of an upload task, in a process of its own that can be made to die at any step."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import botocore.endpoint

from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.http import session as transport
from airflow_mapbox.http.retry import RetryPolicy
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import LedgerError, MapboxError
from airflow_mapbox.uploads.once.ledger import Entry
from airflow_mapbox.uploads.staging.bucket import Bucket
from airflow_mapbox.uploads.staging.stager import SMALLEST_PART, StagingOptions


class Step(StrEnum):
    """After what the process dies."""

    CREDENTIALS = "credentials got"
    FIRST_PART = "first part"
    LAST_PART = "last part"
    STAGED = "multipart completed"
    NOTED = "state written"
    SENT = "create sent but not answered"
    ANSWERED = "create answered but not written"
    RETURNED = "returned"


@dataclass(frozen=True)
class Try:
    """What one process is to do."""

    number: int
    source: str
    tileset: str
    connection: str
    folder: Path
    die_after: Step | None = None
    by: signal.Signals = signal.SIGKILL

    @property
    def log(self) -> Path:
        return self.folder / f"try-{self.number}.log"

    @property
    def outcome(self) -> Path:
        return self.folder / f"try-{self.number}.json"


class FileLedger:
    """
    The task state store as Airflow's execution API behaves, in a folder.

    A write of a try that another has replaced is refused, as the API answers 404 to the id that it had.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._entry = folder / "entry.json"
        self._current = folder / "current-try"
        self._number = number

    def begin(self) -> None:
        """Make this the current try, which is what Airflow's scheduler does before it starts one."""
        _replace(self._current, str(self._number))

    def read(self) -> Entry | None:
        with contextlib.suppress(FileNotFoundError):
            return Entry.from_json(json.loads(self._entry.read_text()))
        return None

    def write(self, entry: Entry) -> None:
        current = int(self._current.read_text())
        if current != self._number:
            raise LedgerError(f"Try {self._number} is no longer the current one, which is {current}.")
        _replace(self._entry, json.dumps(entry.to_json()))


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)


def main(this: Try) -> None:
    """Do it, and leave the outcome in a file; what dies leaves none."""
    with this.log.open("w", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
        os.environ["AIRFLOW_CONN_MAPBOX_DEFAULT"] = this.connection
        botocore.endpoint.time.sleep = lambda _seconds: None  # boto3's pauses between tries
        ledger = FileLedger(this.folder, this.number)
        hook = MapboxUploadsHook(
            retry=RetryPolicy(attempts=2, base=0.01, max_throttle_wait=0),
            staging=StagingOptions(SMALLEST_PART, parts_in_flight=2),
        )
        # As Airflow's task runner does: the handler returns, and what was interrupted goes on.
        signal.signal(signal.SIGTERM, lambda _signal, _frame: hook.cancel())
        if this.die_after is not None:
            die_after(this.die_after, lambda: _die(this), FileLedger)
        try:
            upload = hook.upload(this.source, this.tileset, "Crashing", if_active="fail", ledger=ledger)
            outcome: dict[str, Any] = {"upload": upload.id}
        except MapboxError as error:
            traceback.print_exc()
            after = getattr(error, "retry_after", None)
            outcome = {"error": type(error).__name__, "text": str(error), "retryable": error.retryable, "after": after}
        if this.die_after is Step.RETURNED and "upload" in outcome:
            _die(this)
        _replace(this.outcome, json.dumps(outcome))


def _die(this: Try) -> None:
    os.kill(os.getpid(), this.by)


def die_after(step: Step, die: Callable[[], None], ledger: type) -> None:
    """
    Have this process die after a step.

    :param step: after which; ``returned`` is the caller's own to see to.
    :param die: what it dies by.
    :param ledger: the class of the ledger that is used.
    """
    match step:
        case Step.CREDENTIALS:
            _after(UploadsClient, "create_credentials", die)
        case Step.FIRST_PART:
            _after(Bucket, "put_part", _once(die))
        case Step.LAST_PART:
            _before(Bucket, "complete", die)
        case Step.STAGED:
            _after(Bucket, "complete", die)
            _after(Bucket, "put", die)
        case Step.NOTED:
            _after(ledger, "write", _once(die))
        case Step.SENT:
            original = UploadsClient.create_upload

            def create_and_die_unanswered(self: UploadsClient, *arguments: Any, **options: Any) -> Any:
                _before(transport._BoundedReader, "readinto", die)
                return original(self, *arguments, **options)

            UploadsClient.create_upload = create_and_die_unanswered  # type: ignore[method-assign]
        case Step.ANSWERED:
            _after(UploadsClient, "create_upload", die)
        case Step.RETURNED:
            pass


def _after(owner: Any, name: str, action: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        answer = original(*arguments, **options)
        action()
        return answer

    setattr(owner, name, wrapped)


def _before(owner: Any, name: str, action: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        action()
        return original(*arguments, **options)

    setattr(owner, name, wrapped)


def _once(action: Callable[[], None]) -> Callable[[], None]:
    left = [action]
    return lambda: left.pop()() if left else None
