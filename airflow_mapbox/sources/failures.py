"""Errors of stores, file systems and secrets backends: whether a retry can help."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from airflow_mapbox.errors import MapboxError, SourceUnavailableError, UnreadableSourceError
from airflow_mapbox.security.redaction import redact

T = TypeVar("T")

# A retry would meet these errors again. Any other error of a store may come from the network.
_PERMANENT = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ImportError,
    ValueError,
)


def error_class(error: Exception) -> type[UnreadableSourceError]:
    """
    Return the class for an error of a store, a file system or a secrets backend.

    :param error: the error.
    """
    if isinstance(error, MapboxError):
        return SourceUnavailableError if error.retryable else UnreadableSourceError
    return UnreadableSourceError if isinstance(error, _PERMANENT) else SourceUnavailableError


def package_advice(source: str) -> str:
    """
    Return what to install if the package is missing that reads a source.

    :param source: the source's name, such as ``s3://bucket/key``.
    """
    if source.startswith(("s3://", "s3a://", "s3n://")):
        return "Install the extra: pip install 'airflow-provider-mapbox[s3]'."
    return "Install the Airflow provider of that storage, with its file system."


def open_or_fail(description: str, opener: Callable[[], T]) -> T:
    """
    Open a source.

    :param description: the source, for the message.
    :param opener: opens it.
    :raises UnreadableSourceError: if it is missing or must not be read.
    :raises SourceUnavailableError: if the store or the file system fails.
    """
    try:
        return opener()
    except Exception as error:
        failure, strerror = error_class(error), getattr(error, "strerror", None)
        problem = strerror or f"{type(error).__name__}: {redact(str(error))}"
        advice = f"\n{package_advice(description)}" if isinstance(error, ImportError) else ""
    raise failure(f"The source {description} cannot be read: {problem}.{advice}")
