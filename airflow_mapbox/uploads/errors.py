"""The errors of uploads, from staging to the finished tileset, and those shared with other packages."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_mapbox.errors import (
    ApiError,
    ConfigurationError,
    ConnectionNotFoundError,
    ExportError,
    InvalidAnswerError,
    InvalidRequestError,
    InvalidTilesetError,
    InvalidUploadIdError,
    MapboxError,
    MissingScopeError,
    NoAnswerError,
    NotFoundError,
    NotSentError,
    OptionError,
    ServerError,
    SourceError,
    SourceUnavailableError,
    ThrottledError,
    TokenRejectedError,
    UnexpectedError,
    UnreadableSourceError,
)
from airflow_mapbox.uploads.failures import explain_failure
from airflow_mapbox.uploads.models import Upload

# The public tree: users import each class from here.
__all__ = (
    "ApiError",
    "ConfigurationError",
    "ConnectionNotFoundError",
    "CreationUnknownError",
    "ExportError",
    "InvalidAnswerError",
    "InvalidEventError",
    "InvalidRequestError",
    "InvalidTilesetError",
    "InvalidUploadIdError",
    "LedgerError",
    "MapboxError",
    "MissingScopeError",
    "NoAnswerError",
    "NotFoundError",
    "NotSentError",
    "OptionError",
    "ServerError",
    "SourceError",
    "SourceUnavailableError",
    "StagedUrlNotReadableError",
    "StagedUrlUsedError",
    "StagingCredentialsExpiredError",
    "StagingError",
    "StagingStoppedError",
    "ThrottledError",
    "TokenRejectedError",
    "UnchangedSourceError",
    "UnclaimedUploadError",
    "UnexpectedError",
    "UnreadableSourceError",
    "UploadActiveError",
    "UploadFailedError",
    "UploadGoneError",
    "UploadIncompleteError",
    "UploadNotListedError",
    "UploadStalledError",
    "WaitTimeoutError",
)


class UnchangedSourceError(SourceError):
    """The tileset's last finished upload came from the same data, so there is nothing to upload."""


class StagingError(MapboxError):
    """The staging bucket has not received all bytes. No upload was created."""

    retryable = True


class StagingCredentialsExpiredError(StagingError):
    """Mapbox's temporary credentials expired before all bytes were sent."""


class StagingStoppedError(StagingError):
    """The task was asked to stop during staging."""


class StagedUrlUsedError(ApiError):
    """409: an upload of this staged URL exists already."""


class StagedUrlNotReadableError(ApiError):
    """422 ``Could not access url``: there is no staged file at this URL."""

    retryable = True


class UploadActiveError(ApiError):
    """
    Mapbox is processing another upload of the tileset.

    :ivar since: Unix time by the server's clock when this was first seen for the same staged file, or None.
    """

    retryable = True
    since: float | None = None


class UploadIncompleteError(ApiError):
    """The status of an upload can be deleted only after the upload has completed."""

    retryable = True


class UploadNotListedError(MapboxError):
    """A create call has taken effect, but the account's list does not show its upload (yet)."""

    retryable = True


class UnclaimedUploadError(MapboxError):
    """
    A create call got no reply, and the account's list shows uploads that may come from it.

    :param source: the source of the call.
    :param tileset: the tileset of the call.
    :param candidates: the uploads that may come from it.
    """

    in_doubt = True

    def __init__(self, source: str, tileset: str, candidates: Sequence[Upload]) -> None:
        self.candidates = tuple(candidates)
        listed = "\n".join(
            f"  {upload.id}, created {upload.created}, name {upload.name!r}, {upload.progress:.0%}"
            for upload in self.candidates
        )
        super().__init__(
            f"The create call for tileset {tileset} from {source} got no reply. These uploads were created at that "
            f"time, by this task or by another client:\n{listed}\nNo new upload was created.\n"
            "If one of them belongs to this task, wait for it by its id. If not, clear the task to upload again. To "
            "let the task recognise its upload, give each run its own display name (`name`)."
        )


class CreationUnknownError(MapboxError):
    """
    It is still unknown whether an earlier create call has taken effect.

    :param description: the whole message.
    :param retry_after: seconds until it will be known.
    """

    retryable = True
    in_doubt = True
    retry_after: float

    def __init__(self, description: str, *, retry_after: float) -> None:
        super().__init__(description)
        self.retry_after = retry_after


class LedgerError(MapboxError):
    """The ledger could not be written, so the action was not taken."""

    retryable = True


class UploadFailedError(MapboxError):
    """
    Mapbox could not make a tileset from the data.

    :param upload: the failed upload.
    """

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.cause = explain_failure(upload.error or "")
        self.new_upload_may_help = not self.cause.data_at_fault
        # Most of Mapbox's messages end without a full stop, so the quotation marks show where they end.
        stop = "" if (upload.error or "").endswith((".", "!", "?")) else "."
        said = f'Mapbox says: "{upload.error}"{stop}' if upload.error else "Mapbox gave no message."
        super().__init__(
            f"Upload {upload.id} of tileset {upload.tileset} failed in processing.\n{said}\n{self.cause.hint}"
        )

    @property
    def data_at_fault(self) -> bool:
        """Whether the same data would fail again, so that another upload would be billed in vain."""
        return self.cause.data_at_fault


class UploadStalledError(MapboxError):
    """The upload's progress has not changed for ``stall_timeout`` seconds."""

    new_upload_may_help = True


class UploadGoneError(MapboxError):
    """Mapbox does not know the upload, and it is too old to appear later."""


class InvalidEventError(MapboxError):
    """The event of a trigger does not say how the upload ended."""

    retryable = True


class WaitTimeoutError(MapboxError):
    """Mapbox was still processing the upload when the timeout of the wait ended."""

    retryable = True
