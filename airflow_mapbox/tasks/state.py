"""What a task writes into Airflow's task state store, which outlives its tries and its clearing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow_mapbox.security.redaction import redact
from airflow_mapbox.uploads.errors import LedgerError
from airflow_mapbox.uploads.once.ledger import Entry, MemoryLedger

if TYPE_CHECKING:
    from airflow.sdk import Context


KEY = "mapbox_upload"


class TaskNote:
    """
    A small JSON note of one task of one run, which outlives its tries.

    Airflow refuses a write of a try that another has replaced.

    :param store: ``context["task_state_store"]``.
    :param max_tries: of the task instance. It changes when a task is cleared and stays the same when it is retried, and
        the store survives both: notes of another value are an earlier intent's.
    :param key: of the note.
    """

    def __init__(self, store: Any, max_tries: int, key: str) -> None:
        self._store = store
        self._max_tries = max_tries
        self._key = key

    def read(self) -> dict[str, Any] | None:
        """
        Give the note of this intent.

        :raises LedgerError: where it cannot be read.
        """
        failure: LedgerError
        try:
            value = self._store.get(self._key)
        except Exception as error:
            failure = _failed("read", error)
        else:
            if not isinstance(value, dict) or value.get("max_tries") != self._max_tries:
                return None
            return {name: held for name, held in value.items() if name != "max_tries"}
        raise failure

    def write(self, value: Mapping[str, Any]) -> None:
        """
        Replace the note.

        :param value: JSON.
        :raises LedgerError: where Airflow does not take it.
        """
        failure: LedgerError
        try:
            self._store.set(self._key, {"max_tries": self._max_tries, **value})
        except Exception as error:
            failure = _failed("written", error)
        else:
            return
        raise failure


class MemoryNote:
    """A note that ends with the process."""

    def __init__(self) -> None:
        self._value: dict[str, Any] | None = None

    def read(self) -> dict[str, Any] | None:
        """Give the note."""
        return self._value

    def write(self, value: Mapping[str, Any]) -> None:
        """Replace the note."""
        self._value = dict(value)


class TaskLedger:
    """
    The ledger of one task of one run.

    That a replaced try cannot write is what keeps a process that was taken for dead from creating an upload beside its
    successor.

    ``entry`` is what was last read or written here.

    :param store: ``context["task_state_store"]``.
    :param max_tries: of the task instance; see :class:`TaskNote`.
    """

    def __init__(self, store: Any, max_tries: int) -> None:
        self._note = TaskNote(store, max_tries, KEY)
        self.entry: Entry | None = None

    def read(self) -> Entry | None:
        """
        Give the entry of this intent.

        :raises LedgerError: where it cannot be read.
        """
        value = self._note.read()
        if value is None:
            return None
        self.entry = Entry.from_json(value)
        return self.entry

    def write(self, entry: Entry) -> None:
        """
        Replace the entry.

        :raises LedgerError: where Airflow does not take it.
        """
        self._note.write(entry.to_json())
        self.entry = entry


def task_note(context: Context, key: str) -> TaskNote | MemoryNote:
    """
    Give a note of the task that runs.

    :param context: of the task; one without a state store, as in a test that calls ``poke`` itself, has a note that
        ends with the process.
    :param key: of the note.
    """
    values = cast("dict[str, Any]", context)
    if "task_state_store" not in values:
        return MemoryNote()
    return TaskNote(values["task_state_store"], values["ti"].max_tries, key)


def task_ledger(context: Context) -> TaskLedger | MemoryLedger:
    """
    Give the ledger of the task that runs.

    :param context: of the task; without a state store the ledger ends with the process.
    """
    values = cast("dict[str, Any]", context)
    if "task_state_store" not in values:
        return MemoryLedger()
    return TaskLedger(values["task_state_store"], values["ti"].max_tries)


def _failed(what: str, error: Exception) -> LedgerError:
    # The supervisor's errors are of a tree of their own, and none of it is public.
    return LedgerError(
        f"The task's state could not be {what} ({type(error).__name__}: {redact(str(error))[:300]}). Where another try "
        "of this task has begun, that one goes on; else check Airflow's API server and try again."
    )
