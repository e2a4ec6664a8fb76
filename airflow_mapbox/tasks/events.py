"""The event that a trigger sends to its task: how the upload ended, as JSON. The task checks it before it uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mapbox.errors import InvalidAnswerError, MapboxError
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.uploads.errors import (
    InvalidEventError,
    UploadFailedError,
    UploadGoneError,
    UploadStalledError,
    WaitTimeoutError,
)
from airflow_mapbox.uploads.models import Upload

# Errors whose class matters to the task. A failed upload is sent as its upload object.
_CLASSES: dict[str, type[MapboxError]] = {
    error.__name__: error for error in (UploadStalledError, UploadGoneError, WaitTimeoutError)
}


def to_event(result: Upload | Exception, base_url: str | None = None) -> dict[str, Any]:
    """
    Return the event of a wait that has ended.

    :param result: the finished upload, or the error that ended the wait. Of an unexpected error, the event has only the
        class and the redacted message, because Airflow stores events in its database.
    :param base_url: base URL of the API. The task makes its links from it, without reading the connection again.
    """
    if isinstance(result, UploadFailedError):
        result = result.upload
    if isinstance(result, Upload):
        return {"upload": result.to_json(), "base_url": base_url}
    name = type(result).__name__
    if isinstance(result, MapboxError):
        message = redact(str(result))
        return {"error": name, "retryable": result.retryable, "message": message, "base_url": base_url}
    message = (
        f"Waiting for the upload was interrupted ({name}: {redact(str(result))[:300]}). Mapbox is still processing it."
    )
    return {"error": name, "retryable": True, "message": message, "base_url": base_url}


def base_url_from_event(event: object) -> str | None:
    """
    Return the base URL of the API, or None if the event has none, as one of an earlier version.

    :param event: the event, as Airflow passes it to the task.
    """
    base_url = event.get("base_url") if isinstance(event, Mapping) else None
    return base_url if isinstance(base_url, str) else None


def upload_from_event(event: object, upload_id: str) -> Upload:
    """
    Read an event.

    :param event: the event, as Airflow passes it to the task.
    :param upload_id: the upload that the task waits for.
    :return: the successful upload.
    :raises InvalidEventError: if it has another form, or is about another upload or an unfinished one.
    :raises MapboxError: the error that ended the wait.
    """
    if not isinstance(event, Mapping):
        raise InvalidEventError(
            f"The trigger of upload {upload_id} sent a {type(event).__name__} instead of an event. Run the task again, "
            "and look in the triggerer's log for the reason."
        )
    if "error" in event:
        error = _CLASSES.get(str(event["error"]), MapboxError)(str(event.get("message")))
        error.retryable = event.get("retryable") is True
        raise error
    problem = ""
    try:
        upload = Upload.from_json(event.get("upload"))
    except InvalidAnswerError as invalid:
        problem = str(invalid)
    else:
        if upload.id == upload_id and upload.is_failed:
            raise UploadFailedError(upload)
        if upload.id == upload_id and upload.is_successful:
            return upload
        problem = f"It is about upload {upload.id} at {upload.progress:.0%}."
    raise InvalidEventError(
        f"The trigger of upload {upload_id} sent an event that does not say how the upload ended. {problem} Run the "
        "task again, and look in the triggerer's log for the reason."
    )
