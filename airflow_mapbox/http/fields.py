"""Read the fields of Mapbox's JSON objects. An error names the field and never shows its value."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeGuard

from airflow_mapbox.errors import InvalidAnswerError
from airflow_mapbox.security.redaction import redact


def read_object(document: object, what: str) -> Mapping[str, object]:
    """
    Return a JSON object.

    :param document: the decoded JSON.
    :param what: the object in messages, such as "upload".
    :raises InvalidAnswerError: if it is not an object.
    """
    if not isinstance(document, Mapping):
        raise InvalidAnswerError(f"Expected the {what} as a JSON object, got {type(document).__name__}.")
    return document


def read_string(fields: Mapping[str, object], name: str, what: str) -> str:
    """
    Return a string that is not empty.

    :param fields: the JSON object.
    :param name: the field.
    :param what: the object in messages.
    :raises InvalidAnswerError: if it is missing or has another type. The message names the field.
    """
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong_field(fields, name, what, "a string")
    return value


def read_optional_string(fields: Mapping[str, object], name: str, what: str, *, required: bool = False) -> str | None:
    """
    Return a string, redacted, or None for null.

    :param fields: the JSON object.
    :param name: the field.
    :param what: the object in messages.
    :param required: whether a missing field is an error. Null is not.
    :raises InvalidAnswerError: if it has another type, or is missing and required. The message names the field.
    """
    value = fields.get(name)
    if (value is not None and not isinstance(value, str)) or (required and name not in fields):
        raise _wrong_field(fields, name, what, "a string or null")
    # A server may return what it was sent, and this string goes to logs and XComs.
    return None if value is None else redact(value)


def read_boolean(fields: Mapping[str, object], name: str, what: str) -> bool:
    """
    Return true or false.

    :param fields: the JSON object.
    :param name: the field.
    :param what: the object in messages.
    :raises InvalidAnswerError: if it is missing or has another type. The message names the field.
    """
    value = fields.get(name)
    if not isinstance(value, bool):
        raise _wrong_field(fields, name, what, "true or false")
    return value


def read_number(fields: Mapping[str, object], name: str, what: str) -> float:
    """
    Return a finite number.

    :param fields: the JSON object.
    :param name: the field.
    :param what: the object in messages.
    :raises InvalidAnswerError: if it is missing or has another type. The message names the field.
    """
    value = fields.get(name)
    if not _is_finite(value):
        raise _wrong_field(fields, name, what, "a finite number")
    return float(value)


def number_or_none(value: object) -> float | None:
    """
    Return a finite number; None for every other value.

    :param value: a value of the decoded JSON.
    """
    return float(value) if _is_finite(value) else None


def string_or_none(value: object) -> str | None:
    """
    Return a string, redacted; None for every other value.

    :param value: a value of the decoded JSON.
    """
    return redact(value) if isinstance(value, str) else None


def read_time(value: object) -> datetime | None:
    """
    Return a time in UTC; None if it is missing or unreadable. A time without a zone is taken as UTC.

    :param value: a value of the decoded JSON: ISO 8601, or milliseconds since 1970.
    """
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        milliseconds = number_or_none(value)
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _is_finite(value: object) -> TypeGuard[int | float]:
    return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _wrong_field(fields: Mapping[str, object], name: str, what: str, expected: str) -> InvalidAnswerError:
    actual = f"is a {type(fields[name]).__name__}" if name in fields else "is missing"
    return InvalidAnswerError(f"Expected the {what}'s {name!r} to be {expected}; it {actual}.")
