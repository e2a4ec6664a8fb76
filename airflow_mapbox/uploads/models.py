"""The objects of the Uploads API: uploads, staging credentials, token states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from airflow_mapbox.http.fields import (
    read_boolean,
    read_number,
    read_object,
    read_optional_string,
    read_string,
    read_time,
)
from airflow_mapbox.security.redaction import redact


@dataclass(frozen=True)
class Upload:
    """
    An upload, as the API returns it.

    :param id: the upload's id.
    :param tileset: the tileset it makes or replaces.
    :param complete: whether processing has ended. For a failed upload its value is undocumented.
    :param error: Mapbox's message if processing failed, otherwise None.
    :param progress: from 0 (started) to 1 (done).
    :param name: the display name, or None.
    :param owner: the account.
    :param created: when it was created, ISO 8601.
    :param modified: when it last changed, ISO 8601.
    """

    id: str
    tileset: str
    complete: bool
    error: str | None
    progress: float
    name: str | None = None
    owner: str | None = None
    created: str | None = None
    modified: str | None = None

    @classmethod
    def from_json(cls, document: object) -> Upload:
        """
        Read an upload object, and check each field.

        :param document: the decoded JSON.
        :raises InvalidAnswerError: if it is not an upload object. The message names the field.
        """
        fields = read_object(document, "upload")
        error = read_optional_string(fields, "error", "upload", required=True)
        return cls(
            id=read_string(fields, "id", "upload"),
            tileset=read_string(fields, "tileset", "upload"),
            complete=read_boolean(fields, "complete", "upload"),
            error=None if error is None else redact(error),
            progress=read_number(fields, "progress", "upload"),
            name=read_optional_string(fields, "name", "upload"),
            owner=read_optional_string(fields, "owner", "upload"),
            created=read_optional_string(fields, "created", "upload"),
            modified=read_optional_string(fields, "modified", "upload"),
        )

    @property
    def is_failed(self) -> bool:
        """Whether processing failed. The error decides, because ``complete`` is undocumented for a failed upload."""
        return self.error is not None

    @property
    def is_terminal(self) -> bool:
        """Whether processing has ended."""
        return self.is_failed or self.complete

    @property
    def is_successful(self) -> bool:
        """Whether the tileset was made."""
        return self.complete and not self.is_failed

    @property
    def state(self) -> Literal["processing", "done", "failed"]:
        """The state in one word."""
        if self.is_failed:
            return "failed"
        return "done" if self.complete else "processing"

    @property
    def created_at(self) -> datetime | None:
        """The time of creation in UTC; None if it is missing or unreadable."""
        return read_time(self.created)

    @property
    def modified_at(self) -> datetime | None:
        """The time of the last change in UTC; None if it is missing or unreadable."""
        return read_time(self.modified)

    def to_json(self) -> dict[str, Any]:
        """Return the upload object as the API does: small, JSON, no secret. Tasks pass it on."""
        return asdict(self)


@dataclass(frozen=True)
class StagingCredentials:
    """
    Temporary credentials for one key of Mapbox's staging bucket.

    :param bucket: the bucket, in us-east-1.
    :param key: the only key that may be written.
    :param url: URL of the staged file. An upload is created from it.
    :param access_key_id: the S3 credentials, with ``secret_access_key`` and ``session_token``. They are never shown.
    """

    bucket: str
    key: str
    url: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)

    @classmethod
    def from_json(cls, document: object) -> StagingCredentials:
        """
        Read the reply of the credentials endpoint.

        :param document: the decoded JSON.
        :raises InvalidAnswerError: if a field is missing. The message names the field and shows no value.
        """
        fields = read_object(document, "staging credentials")
        names = ("bucket", "key", "url", "accessKeyId", "secretAccessKey", "sessionToken")
        return cls(*(read_string(fields, name, "staging credentials") for name in names))

    @property
    def secrets(self) -> tuple[str, str, str]:
        """The values that no log may contain."""
        return self.access_key_id, self.secret_access_key, self.session_token


@dataclass(frozen=True)
class TokenState:
    """
    The state of a token, as Mapbox returns it.

    :param code: ``TokenValid``, ``TokenMalformed``, ``TokenInvalid``, ``TokenExpired`` or ``TokenRevoked``.
    :param account: the token's account, or None.
    :param usage: ``sk``, ``pk`` or ``tk``, or None.
    """

    code: str
    account: str | None = None
    usage: str | None = None

    @classmethod
    def from_json(cls, document: object) -> TokenState:
        """
        Read the reply of ``GET /tokens/v2``.

        :param document: the decoded JSON.
        :raises InvalidAnswerError: if the code is missing.
        """
        fields = read_object(document, "token state")
        token = fields.get("token")
        details = token if isinstance(token, Mapping) else {}
        return cls(
            code=read_string(fields, "code", "token state"),
            account=read_optional_string(details, "user", "token state"),
            usage=read_optional_string(details, "usage", "token state"),
        )

    @property
    def is_valid(self) -> bool:
        """Whether the token may be used."""
        return self.code == "TokenValid"
