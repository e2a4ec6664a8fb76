"""An object in an object store as a source."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_mapbox.errors import UnreadableSourceError
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.sources.failures import error_class, open_or_fail, package_advice
from airflow_mapbox.sources.identity import path_fingerprint
from airflow_mapbox.sources.ranges import object_ranges
from airflow_mapbox.sources.source import ReadablePath, Source

# What object stores call the value that changes with the content. The most reliable comes first.
_VALIDATORS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "mtime")


def object_source(path: ReadablePath) -> Source:
    """
    Return the source of an object.

    :param path: the object.
    :raises UnreadableSourceError: if it is missing or must not be read.
    :raises SourceUnavailableError: if the store fails.
    """
    size, fingerprint = _stat(path)
    return Source(
        str(path),
        size,
        lambda: open_or_fail(str(path), lambda: path.open("rb")),
        fingerprint=fingerprint,
        read_fingerprint=lambda: _stat(path)[1],
        ranges=lambda: object_ranges(path, size),
    )


def _stat(path: ReadablePath) -> tuple[int | None, dict[str, str | int]]:
    """Return an object's size, if the store gives it, and its fingerprint."""
    failure: type[UnreadableSourceError] = UnreadableSourceError
    problem, advice = "does not exist", "Check the bucket, the key and the connection."
    try:
        stat = path.stat()
        if stat.st_size != -1:
            return stat.st_size, path_fingerprint(path) | {"size": stat.st_size} | _validator(stat)
    except FileNotFoundError:
        pass
    except Exception as error:
        # Each store has error classes of its own, and a missing Airflow connection has another.
        failure, problem = error_class(error), f"cannot be read ({type(error).__name__}: {redact(str(error))})"
        if isinstance(error, ImportError):
            advice = package_advice(str(path))
    raise failure(f"The source {path} {problem}.\n{advice}")


def _validator(stat: object) -> dict[str, str | int]:
    """Return the most reliable value that changes with the content."""
    if isinstance(stat, Mapping):
        for name in _VALIDATORS:
            if stat.get(name):
                return {name.lower(): str(stat[name])}
    modified = getattr(stat, "st_mtime_ns", None)
    return {"modified": modified} if modified else {}
