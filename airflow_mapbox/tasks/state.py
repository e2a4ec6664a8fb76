"""What a task keeps in Airflow's task state store. The store survives retries, reschedules and clears."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mapbox.compat import intent_number, state_store
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.uploads.errors import LedgerError
from airflow_mapbox.uploads.once.ledger import Entry, MemoryLedger

if TYPE_CHECKING:
    from airflow.sdk import Context

# The key of the ledger's entry in the task state store.
_LEDGER_KEY = "mapbox_upload"


class StoredValue:
    """
    A small JSON object in the task state store.

    Airflow refuses the write of a try after another try has replaced it.

    :param store: ``context["task_state_store"]``.
    :param max_tries: ``max_tries`` of the task instance. It changes when a task is cleared, and stays the same in a
        retry. A value that was stored with another number belongs to an earlier intent, and is ignored.
    :param key: the value's key.
    """

    def __init__(self, store: Any, max_tries: int, key: str) -> None:
        self._store = store
        self._max_tries = max_tries
        self._key = key

    def read(self) -> dict[str, Any] | None:
        """
        Return the value of this intent, or None.

        :raises LedgerError: if it cannot be read.
        """
        failure: LedgerError
        try:
            value = self._store.get(self._key)
        except Exception as error:
            failure = _failure("read", error)
        else:
            if not isinstance(value, dict) or value.get("max_tries") != self._max_tries:
                return None
            return {name: item for name, item in value.items() if name != "max_tries"}
        raise failure

    def write(self, value: Mapping[str, Any]) -> None:
        """
        Replace the value.

        :param value: a JSON object.
        :raises LedgerError: if Airflow refuses it.
        """
        failure: LedgerError
        try:
            self._store.set(self._key, {"max_tries": self._max_tries, **value})
        except Exception as error:
            failure = _failure("written", error)
        else:
            return
        raise failure


class MemoryValue:
    """A value that ends with the process."""

    def __init__(self) -> None:
        self._value: dict[str, Any] | None = None

    def read(self) -> dict[str, Any] | None:
        """Return the value, or None."""
        return self._value

    def write(self, value: Mapping[str, Any]) -> None:
        """Replace the value."""
        self._value = dict(value)


class TaskLedger:
    """
    The ledger of one task in one DAG run.

    A zombie task cannot write it any more, so it stops before it creates an upload beside its successor's.

    :ivar entry: the entry that was last read or written here.
    :param store: ``context["task_state_store"]``.
    :param max_tries: ``max_tries`` of the task instance; see :class:`StoredValue`.
    """

    def __init__(self, store: Any, max_tries: int) -> None:
        self._stored = StoredValue(store, max_tries, _LEDGER_KEY)
        self.entry: Entry | None = None

    def read(self) -> Entry | None:
        """
        Return the entry of this intent, or None.

        :raises LedgerError: if it cannot be read.
        """
        value = self._stored.read()
        if value is None:
            return None
        self.entry = Entry.from_json(value)
        return self.entry

    def write(self, entry: Entry) -> None:
        """
        Replace the entry.

        :param entry: the new entry.
        :raises LedgerError: if Airflow refuses it.
        """
        self._stored.write(entry.to_json())
        self.entry = entry


def stored_value(context: Context, key: str) -> StoredValue | MemoryValue:
    """
    Return a value of the running task.

    :param context: the task's context. Without a state store, as in a test that calls ``poke`` itself, the value ends
        with the process.
    :param key: the value's key.
    """
    store = state_store(context)
    return MemoryValue() if store is None else StoredValue(store, intent_number(context), key)


def task_ledger(context: Context) -> TaskLedger | MemoryLedger:
    """
    Return the ledger of the running task.

    :param context: the task's context. Without a state store, the ledger ends with the process.
    """
    store = state_store(context)
    return MemoryLedger() if store is None else TaskLedger(store, intent_number(context))


def _failure(action: str, error: Exception) -> LedgerError:
    # The supervisor's errors have a root of their own, and are not public.
    return LedgerError(
        f"The task's state could not be {action} ({type(error).__name__}: {redact(str(error))[:300]}). If another try "
        "of this task has started, that try continues. If not, check Airflow's API server and run the task again."
    )
