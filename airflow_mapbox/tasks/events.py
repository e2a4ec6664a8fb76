"""What a trigger tells its task: how the upload ended, as JSON that is checked before it is believed."""

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

# Errors whose class says more than whether a retry may help. A failed upload is told by its upload object.
_KINDS: dict[str, type[MapboxError]] = {
    kind.__name__: kind for kind in (UploadStalledError, UploadGoneError, WaitTimeoutError)
}


def told(ended: Upload | Exception) -> dict[str, Any]:
    """
    Make the event of a wait that has ended.

    :param ended: the finished upload, or what was raised in its place; of an error that is not this package's only the
        class and the redacted text are told, since events go to the database as they are.
    """
    if isinstance(ended, UploadFailedError):
        ended = ended.upload
    if isinstance(ended, Upload):
        return {"upload": ended.to_json()}
    if isinstance(ended, MapboxError):
        kind = type(ended).__name__
        return {"error": kind, "retryable": ended.retryable, "message": redact(str(ended))}
    message = f"The wait broke off ({type(ended).__name__}: {redact(str(ended))[:300]}); the upload goes on at Mapbox."
    return {"error": type(ended).__name__, "retryable": True, "message": message}


def heard(event: object, upload_id: str) -> Upload:
    """
    Read an event.

    :param event: as Airflow hands it over.
    :param upload_id: the upload that was waited for.
    :return: the successful upload.
    :raises InvalidEventError: where the event is none, or tells of another upload or of one that has not ended.
    :raises MapboxError: as it was raised in the trigger.
    """
    if not isinstance(event, Mapping):
        raise InvalidEventError(
            f"The trigger that waited for upload {upload_id} sent {type(event).__name__} in place of an event: run the "
            "task again, and look into the triggerer's log."
        )
    if "error" in event:
        error = _KINDS.get(str(event["error"]), MapboxError)(str(event.get("message")))
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
        f"The trigger that waited for upload {upload_id} sent an event that does not say how it ended. {problem} Run "
        "the task again, and look into the triggerer's log."
    )
