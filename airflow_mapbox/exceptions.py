"""What tasks raise: the core's errors, told to Airflow as worth a retry or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout

from airflow_mapbox.errors import MapboxError
from airflow_mapbox.uploads.errors import UploadFailedError, UploadGoneError, UploadStalledError, WaitTimeoutError


class MapboxTaskError(AirflowException):
    """
    A task could not do its work, and the same task may succeed later: Airflow's retries apply.

    :param message: what happened and what to do next.
    """


class MapboxFailError(MapboxTaskError, AirflowFailException):
    """A task could not do its work, and a retry would not help: it fails at once, whatever its ``retries``."""


class MapboxUploadFailedError(MapboxFailError):
    """Mapbox could not make a tileset of the data. Reading the same upload again would find it failed again."""


class MapboxUploadStalledError(MapboxFailError):
    """An upload's progress has not moved for as long as ``stall_timeout`` allows."""


class MapboxUploadGoneError(MapboxFailError):
    """Mapbox does not know the upload, or no longer."""


class MapboxUploadTimeoutError(MapboxTaskError, AirflowSensorTimeout):
    """An upload was still being processed when the time to wait was over; Airflow does not retry a timeout."""


# The classes that have a meaning of their own; every other error is told by whether a retry may help.
_CLASSES: tuple[tuple[type[MapboxError], type[MapboxTaskError]], ...] = (
    (UploadFailedError, MapboxUploadFailedError),
    (UploadStalledError, MapboxUploadStalledError),
    (UploadGoneError, MapboxUploadGoneError),
    (WaitTimeoutError, MapboxUploadTimeoutError),
)


@contextmanager
def airflow_errors(creator: str | None = None) -> Iterator[None]:
    """
    Translate the core's errors once, at the border to Airflow.

    :param creator: the task that created the upload, which is named where clearing it may help.
    :raises MapboxUploadFailedError: for an upload that failed in processing.
    :raises MapboxUploadStalledError: for one that does not get on.
    :raises MapboxUploadGoneError: for one that is not there.
    :raises MapboxUploadTimeoutError: for one that took too long.
    :raises MapboxFailError: for what needs a person.
    :raises MapboxTaskError: for what a retry may mend.
    """
    try:
        yield
    except MapboxError as error:
        raise _task_error(error, creator) from None


def _task_error(error: MapboxError, creator: str | None) -> MapboxTaskError:
    general = MapboxTaskError if error.retryable else MapboxFailError
    kind = next((ours for core, ours in _CLASSES if isinstance(error, core)), general)
    whose = f"\nThe upload was created by task {creator}." if creator and error.new_upload_may_help else ""
    return kind(f"{error}{whose}")
