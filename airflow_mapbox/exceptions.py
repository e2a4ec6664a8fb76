"""The exceptions of tasks: the core's errors, translated into Airflow's by whether a retry can help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout

from airflow_mapbox.errors import MapboxError
from airflow_mapbox.tilesets.errors import TilesetDiffersError
from airflow_mapbox.uploads.errors import (
    UploadFailedError,
    UploadGoneError,
    UploadStalledError,
    WaitTimeoutError,
)


class MapboxTaskError(AirflowException):
    """
    The task failed, and the same task may succeed later. Airflow's retries apply.

    :param message: what happened and what to do next.
    """


class MapboxFailError(MapboxTaskError, AirflowFailException):
    """The task failed, and a retry would not help. It fails at once, whatever its ``retries``."""


class MapboxUploadFailedError(MapboxFailError):
    """Mapbox could not make a tileset from the data. A retry would read the same failed upload again."""


class MapboxUploadStalledError(MapboxFailError):
    """The upload's progress has not changed for ``stall_timeout`` seconds."""


class MapboxUploadGoneError(MapboxFailError):
    """Mapbox does not know the upload, or has forgotten it."""


class MapboxTilesetDiffersError(MapboxFailError):
    """The upload is done, but its tileset is not as expected. A retry would find the same."""


class MapboxUploadTimeoutError(MapboxTaskError, AirflowSensorTimeout):
    """Mapbox was still processing the upload at the timeout. Airflow does not retry a timeout."""


# Errors with an exception of their own. Every other error becomes one of the two general exceptions.
_CLASSES: tuple[tuple[type[MapboxError], type[MapboxTaskError]], ...] = (
    (UploadFailedError, MapboxUploadFailedError),
    (UploadStalledError, MapboxUploadStalledError),
    (UploadGoneError, MapboxUploadGoneError),
    (WaitTimeoutError, MapboxUploadTimeoutError),
    (TilesetDiffersError, MapboxTilesetDiffersError),
)


@contextmanager
def airflow_errors(creator: str | None = None) -> Iterator[None]:
    """
    Translate the core's errors into Airflow's.

    :param creator: the task that created the upload. The message names it if clearing that task may help.
    :raises MapboxUploadFailedError: if the upload failed in processing.
    :raises MapboxUploadStalledError: if the upload makes no progress.
    :raises MapboxUploadGoneError: if the upload is missing.
    :raises MapboxUploadTimeoutError: if the upload took too long.
    :raises MapboxTilesetDiffersError: if the tileset is not as expected.
    :raises MapboxFailError: if a person must act.
    :raises MapboxTaskError: if a retry may help.
    """
    try:
        yield
    except MapboxError as error:
        raise _translate(error, creator) from None


def _translate(error: MapboxError, creator: str | None) -> MapboxTaskError:
    general = MapboxTaskError if error.retryable else MapboxFailError
    exception = next((task for core, task in _CLASSES if isinstance(error, core)), general)
    advice = f"\nThe upload was created by task {creator}." if creator and error.new_upload_may_help else ""
    return exception(f"{error}{advice}")
