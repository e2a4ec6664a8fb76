"""A file on this machine as a source."""

from __future__ import annotations

from pathlib import Path

from airflow_mapbox.errors import UnreadableSourceError
from airflow_mapbox.sources.failures import error_class, open_or_fail
from airflow_mapbox.sources.identity import path_fingerprint
from airflow_mapbox.sources.ranges import FileRanges
from airflow_mapbox.sources.source import Source


def local_source(path: Path) -> Source:
    """
    Return the source of a local file.

    :param path: the file.
    :raises UnreadableSourceError: if it is missing or is not a regular file.
    :raises SourceUnavailableError: if the file system fails.
    """
    size, fingerprint = _stat(path)
    return Source(
        str(path),
        size,
        lambda: open_or_fail(str(path), lambda: path.open("rb")),
        path,
        fingerprint=fingerprint,
        read_fingerprint=lambda: _stat(path)[1],
        ranges=lambda: FileRanges(path),
    )


def _stat(path: Path) -> tuple[int, dict[str, str | int]]:
    """Return a file's size and fingerprint."""
    failure: type[UnreadableSourceError] = UnreadableSourceError
    try:
        if path.is_file():
            stat = path.stat()
            return stat.st_size, path_fingerprint(path) | {"size": stat.st_size, "modified": stat.st_mtime_ns}
        missing = "is not a regular file" if path.exists() else "does not exist on this worker"
        problem = "is a folder" if path.is_dir() else missing
    except OSError as error:
        failure, problem = error_class(error), f"cannot be read ({error.strerror})"
    raise failure(
        f"The source file {path} {problem}.\nCheck the path. The task that wrote the file must have run on the same "
        "machine, or on storage that all workers share."
    )
