"""The ledger in Airflow's task state store, which outlives a task's tries and its clearing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow_mapbox.uploads.errors import LedgerError
from airflow_mapbox.uploads.ledger import Entry, MemoryLedger
from airflow_mapbox.uploads.redaction import redact

if TYPE_CHECKING:
    from airflow.sdk import Context

KEY = "mapbox_upload"


class TaskLedger:
    """
    The ledger of one task of one run.

    Airflow refuses a write of a try that another has replaced, which is what keeps a process that was taken for dead
    from creating an upload beside its successor.

    ``entry`` is what was last read or written here.

    :param store: ``context["task_state_store"]``.
    :param max_tries: of the task instance. It changes when a task is cleared and stays the same when it is retried, and
        the store survives both: entries of another value are an earlier intent's.
    """

    def __init__(self, store: Any, max_tries: int) -> None:
        self._store = store
        self._max_tries = max_tries
        self.entry: Entry | None = None

    def read(self) -> Entry | None:
        """
        Give the entry of this intent.

        :raises LedgerError: where it cannot be read.
        """
        failure: LedgerError
        try:
            value = self._store.get(KEY)
        except Exception as error:
            failure = _failed("read", error)
        else:
            if not isinstance(value, dict) or value.get("max_tries") != self._max_tries:
                return None
            self.entry = Entry.from_json(value)
            return self.entry
        raise failure

    def write(self, entry: Entry) -> None:
        """
        Replace the entry.

        :raises LedgerError: where Airflow does not take it.
        """
        failure: LedgerError
        try:
            self._store.set(KEY, {"max_tries": self._max_tries, **entry.to_json()})
        except Exception as error:
            failure = _failed("written", error)
        else:
            self.entry = entry
            return
        raise failure


def task_ledger(context: Context) -> TaskLedger | MemoryLedger:
    """
    Give the ledger of the task that runs.

    :param context: of the task; one without a state store, as in a test that calls ``execute`` itself, has a ledger
        that ends with the process.
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
