"""Read and check the parameters that the operator and the sensor share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from airflow.sdk import conf

T = TypeVar("T")


def is_template(value: str) -> bool:
    """
    Return whether Airflow may change a string when it renders the task's templates.

    :param value: the string.
    """
    return any(mark in value for mark in ("{{", "{%", "{#"))


def to_seconds(span: timedelta | float | None, name: str) -> float | None:
    """
    Read a time span when the DAG is parsed.

    :param span: seconds, a timedelta, or None.
    :param name: the parameter's name.
    :raises ValueError: if it has another type (for example a template), or is not greater than 0.
    """
    if isinstance(span, timedelta):
        span = span.total_seconds()
    if span is not None and (isinstance(span, bool) or not isinstance(span, int | float)):
        raise ValueError(f"{name} must be a number of seconds or a timedelta, got {span!r}; it cannot be templated")
    if span is not None and not span > 0:
        raise ValueError(f"{name} must be greater than 0 seconds, got {span:g}")
    return span


def to_time(value: object) -> datetime:
    """
    Read a time with a time zone.

    :param value: a datetime, or a string in ISO 8601.
    :raises ValueError: if it is neither, or has no time zone.
    """
    time_read = value
    if isinstance(value, str):
        try:
            time_read = datetime.fromisoformat(value)
        except ValueError:
            time_read = None
    if not isinstance(time_read, datetime) or time_read.tzinfo is None:
        raise ValueError(
            "since must be a time with a time zone, such as '{{ data_interval_start }}' or "
            f"'2026-11-29T00:00:00+00:00', got {str(value)[:80]!r}"
        )
    return time_read


def constant(value: T, kind: type[T], name: str) -> T:
    """
    Check a parameter that cannot be templated: it is used when the DAG is parsed, or a template would make it a string.

    :param value: the value.
    :param kind: its type, bool or int.
    :param name: the parameter's name.
    :raises ValueError: if it has another type.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        expected = "True or False" if kind is bool else "a whole number"
        raise ValueError(f"{name} must be {expected}, got {value!r}; it cannot be templated")
    return value


def or_default_deferrable(deferrable: bool | None) -> bool:
    """
    Return ``deferrable``, or Airflow's ``[operators] default_deferrable`` if it is None.

    :param deferrable: the parameter.
    """
    if deferrable is None:
        return conf.getboolean("operators", "default_deferrable", fallback=False)
    return deferrable


def is_missing(upload: object) -> bool:
    """
    Return whether a task was given no upload, because the task that creates it has left no result.

    :param upload: the rendered parameter. A template renders a missing result as ``"None"`` or ``""``.
    """
    if isinstance(upload, str | Mapping):
        return upload in ("", "None", {})
    return upload is None or (isinstance(upload, Sequence) and not len(upload))


def upload_id_from(upload: object) -> str:
    """
    Return the id of the upload to wait for.

    :param upload: an id, or the whole result of the task that created the upload.
    :raises InvalidUploadIdError: if it contains no id.
    """
    from airflow_mapbox.errors import InvalidUploadIdError

    upload_id = upload.get("id") if isinstance(upload, Mapping) else upload
    if isinstance(upload_id, str) and not is_missing(upload_id):
        return upload_id
    if isinstance(upload_id, Sequence) and not isinstance(upload_id, str):
        raise InvalidUploadIdError(
            f"`upload_id` is a list of {len(upload_id)} results of a mapped task, but a sensor waits for one upload.\n"
            "Map the sensor too: UploadCompleteSensor.partial(task_id=…).expand(upload_id=upload.output)."
        )
    value = "a mapping without an id" if isinstance(upload, Mapping) else repr(upload)
    raise InvalidUploadIdError(
        f"`upload_id` is {value}.\nGive it the id of an upload, or the whole result of the task that creates it: "
        "`upload.output` of a StageAndCreateUploadOperator."
    )


def source_facts(upload: object) -> Mapping[str, Any]:
    """
    Return the facts about the source in the result of the task that created the upload.

    :param upload: the whole result. An id alone has no such facts.
    """
    source = upload.get("source") if isinstance(upload, Mapping) else None
    return source if isinstance(source, Mapping) else {}
