"""What tasks raise: the core's errors, told to Airflow as worth a retry or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mapbox.export.errors import ExportError
from airflow_mapbox.uploads.errors import MapboxError, UploadFailedError


class MapboxTaskError(AirflowException):
    """
    A task could not do its work, and the same task may succeed later: Airflow's retries apply.

    :param message: what happened and what to do next.
    """


class MapboxFailError(MapboxTaskError, AirflowFailException):
    """A task could not do its work, and a retry would not help: it fails at once, whatever its ``retries``."""


class MapboxUploadFailedError(MapboxFailError):
    """Mapbox could not make a tileset of the data. Reading the same upload again would find it failed again."""


@contextmanager
def airflow_errors() -> Iterator[None]:
    """
    Translate the core's errors once, at the border to Airflow.

    :raises MapboxUploadFailedError: for an upload that failed in processing.
    :raises MapboxFailError: for what needs a person.
    :raises MapboxTaskError: for what a retry may mend.
    """
    try:
        yield
    except UploadFailedError as error:
        raise MapboxUploadFailedError(str(error)) from None
    except MapboxError as error:
        raise (MapboxTaskError if error.retryable else MapboxFailError)(str(error)) from None
    except ExportError as error:
        raise MapboxFailError(str(error)) from None  # the same data would fail again
