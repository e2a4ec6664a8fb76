"""The objects of the Uploads API: tileset ids, uploads, staging credentials, token states."""

from __future__ import annotations

import base64
import binascii
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_mapbox.errors import ConfigurationError, InvalidAnswerError, InvalidTilesetError
from airflow_mapbox.limits import DISPLAY_NAME_CHARACTERS, TILESET_PART
from airflow_mapbox.security.redaction import redact


@dataclass(frozen=True)
class TilesetId:
    """
    A tileset id, ``owner.name``.

    :param owner: the account, 1 to 32 of ``A-Z a-z 0-9 _ -``.
    :param name: the tileset's own part, 1 to 32 of the same characters.
    :raises InvalidTilesetError: if Mapbox would refuse one of the parts.
    """

    owner: str
    name: str

    def __post_init__(self) -> None:
        check_tileset_part(self.owner, "account")
        check_tileset_part(self.name, "name")

    @classmethod
    def parse(cls, string: str, account: str) -> TilesetId:
        """
        Read ``name`` or ``owner.name`` as a tileset of an account.

        :param string: the id.
        :param account: the account that uploads. It completes a name without an account.
        :raises InvalidTilesetError: if Mapbox would refuse the id, or it belongs to another account.
        """
        owner, dot, name = string.rpartition(".")
        tileset = cls(owner if dot else account, name)
        if tileset.owner != account:
            raise InvalidTilesetError(
                f"Tileset {string!r} belongs to account {tileset.owner!r}, the connection to {account!r}: an upload "
                f"can only make tilesets of its own account.\nUse {name!r} alone, or another connection."
            )
        return tileset

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


def check_tileset_part(part: str, meaning: str) -> None:
    """
    Refuse one part of a tileset id.

    :param part: the account or the name.
    :param meaning: "account" or "name", for the message.
    :raises InvalidTilesetError: if it is not 1 to 32 of ``A-Z a-z 0-9 _ -``. The message says what is wrong.
    """
    if TILESET_PART.fullmatch(part):
        return
    forbidden = sorted(set(re.sub(r"[A-Za-z0-9_-]", "", part)))
    problem = f"contains {', '.join(map(repr, forbidden))}" if forbidden else f"is {len(part)} characters long"
    raise InvalidTilesetError(
        f"{part!r} cannot be a tileset's {meaning}: it {problem}. Mapbox accepts 1 to 32 of A-Z, a-z, 0-9, - and _.\n"
        "Change the `tileset` parameter."
    )


def check_display_name(name: str | None) -> None:
    """
    Refuse a display name that Mapbox would refuse.

    :param name: the ``name`` of an upload, or None.
    :raises InvalidTilesetError: if it is empty or longer than 64 characters (Uploads API, "Create an upload").
    """
    if name is not None and not 1 <= len(name) <= DISPLAY_NAME_CHARACTERS:
        raise InvalidTilesetError(
            f"The display name {name!r} has {len(name)} characters: Mapbox accepts 1 to {DISPLAY_NAME_CHARACTERS}.\n"
            "Change the `name` parameter, or leave it out."
        )


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
        fields = _object(document, "upload")
        error = _optional_string(fields, "error", "upload", required=True)
        return cls(
            id=_string(fields, "id", "upload"),
            tileset=_string(fields, "tileset", "upload"),
            complete=_boolean(fields, "complete", "upload"),
            error=None if error is None else redact(error),
            progress=_number(fields, "progress", "upload"),
            name=_optional_string(fields, "name", "upload"),
            owner=_optional_string(fields, "owner", "upload"),
            created=_optional_string(fields, "created", "upload"),
            modified=_optional_string(fields, "modified", "upload"),
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
    def created_at(self) -> datetime | None:
        """The time of creation in UTC; None if it is missing or unreadable."""
        try:
            created = datetime.fromisoformat(self.created or "")
            return created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return None

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
        fields = _object(document, "staging credentials")
        names = ("bucket", "key", "url", "accessKeyId", "secretAccessKey", "sessionToken")
        return cls(*(_string(fields, name, "staging credentials") for name in names))

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
        fields = _object(document, "token state")
        token = fields.get("token")
        details = token if isinstance(token, Mapping) else {}
        return cls(
            code=_string(fields, "code", "token state"),
            account=_optional_string(details, "user", "token state"),
            usage=_optional_string(details, "usage", "token state"),
        )

    @property
    def is_valid(self) -> bool:
        """Whether the token may be used."""
        return self.code == "TokenValid"


def account_of_token(token: str) -> str:
    """
    Return the account of a token. The token's second part is base64 JSON with the account as ``u``.

    :param token: a Mapbox access token.
    :raises ConfigurationError: if the token names no account. The message does not show the token.
    """
    try:
        payload = token.split(".")[1]
        account = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["u"]
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        account = None
    if not isinstance(account, str) or not TILESET_PART.fullmatch(account):
        raise ConfigurationError(
            "The access token names no account.\nCheck that the whole token is in the connection's password, or put "
            "the account name into the connection's login."
        )
    return account


def check_account(username: str) -> str:
    """
    Refuse an invalid account name. It is part of every path and tileset id.

    :param username: the connection's login.
    :return: the same name.
    :raises ConfigurationError: if it is not 1 to 32 of ``A-Z a-z 0-9 _ -``.
    """
    if not TILESET_PART.fullmatch(username):
        raise ConfigurationError(
            f"{redact(username)[:80]!r} is not a Mapbox account: it must be 1 to 32 of A-Z, a-z, 0-9, - and _.\n"
            "Correct the connection's login, or leave it out: the token names its account."
        )
    return username


def _object(document: object, what: str) -> Mapping[str, object]:
    if not isinstance(document, Mapping):
        raise InvalidAnswerError(f"Expected the {what} as a JSON object, got {type(document).__name__}.")
    return document


def _string(fields: Mapping[str, object], name: str, what: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong_field(fields, name, what, "a string")
    return value


def _optional_string(fields: Mapping[str, object], name: str, what: str, *, required: bool = False) -> str | None:
    value = fields.get(name)
    if (value is not None and not isinstance(value, str)) or (required and name not in fields):
        raise _wrong_field(fields, name, what, "a string or null")
    # A server may return what it was sent, and this string goes to logs and XComs.
    return None if value is None else redact(value)


def _boolean(fields: Mapping[str, object], name: str, what: str) -> bool:
    value = fields.get(name)
    if not isinstance(value, bool):
        raise _wrong_field(fields, name, what, "true or false")
    return value


def _number(fields: Mapping[str, object], name: str, what: str) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise _wrong_field(fields, name, what, "a finite number")
    return float(value)


def _wrong_field(fields: Mapping[str, object], name: str, what: str, expected: str) -> InvalidAnswerError:
    actual = f"is a {type(fields[name]).__name__}" if name in fields else "is missing"
    return InvalidAnswerError(f"Expected the {what}'s {name!r} to be {expected}; it {actual}.")
