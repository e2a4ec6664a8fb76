"""Turn what a user gives as a source into a :class:`~airflow_mapbox.sources.source.Source`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from airflow_mapbox.errors import SourceError
from airflow_mapbox.security.endpoints import refuse_secrets
from airflow_mapbox.sources.identity import describe, file_url_path, has_scheme, is_web_url
from airflow_mapbox.sources.local import local_source
from airflow_mapbox.sources.objects import object_source
from airflow_mapbox.sources.source import ReadablePath, Source
from airflow_mapbox.sources.streams import ByteStream, IteratorStream, LentStream, ReadableStream
from airflow_mapbox.sources.web import web_source

if TYPE_CHECKING:
    from typing import TypeAlias

SourceLike: TypeAlias = "str | os.PathLike[str] | ReadablePath | ReadableStream | Iterator[bytes] | Source"

# What the report of an export says about the content, beside its path.
REPORTED_FACTS = ("features", "bounds", "fields", "layers", "minzoom", "maxzoom", "bill")


def open_source(source: SourceLike) -> Source:
    """
    Return the source of a path, a URL, a stream or an iterator.

    :param source: a local path, an ``https://`` URL, an object with ``open`` and ``stat``, an open binary stream, or an
        iterator of bytes.
    :raises SourceError: if it does not exist, is not a file, or has a type that cannot be read.
    :raises ConfigurationError: if it contains a secret.
    """
    if isinstance(source, Source):
        return source
    refuse_secrets(source)
    if isinstance(source, str) and is_web_url(source):
        return web_source(source)
    path = file_url_path(source)
    if path is not None:
        return local_source(Path(path))
    if isinstance(source, str) and has_scheme(source):
        raise SourceError(
            f"{source!r} is neither a local path nor an https URL. Give object storage as an ObjectStoragePath."
        )
    if isinstance(source, str | Path):
        return local_source(Path(source))
    if isinstance(source, ReadableStream):
        return _stream_source(source)
    if isinstance(source, ReadablePath):
        return object_source(source)
    if isinstance(source, os.PathLike):
        return local_source(Path(source))
    if isinstance(source, Iterator):
        return Source(describe(source), None, lambda: IteratorStream(source), rereadable=False)
    raise SourceError(
        f"A {type(source).__name__} cannot be uploaded as it is: give a path, a URL, an ObjectStoragePath, a stream "
        'opened for reading bytes, or an iterator of bytes; or, for geodata, a format such as format="geojson".'
    )


class ReportedFile(NamedTuple):
    """
    A file, and what the report of the export that wrote it says.

    :param path: the file.
    :param facts: facts about the content.
    :param sha256: its checksum; None if the report has none.
    """

    path: Any
    facts: dict[str, Any]
    sha256: str | None

    def check(self, description: str, sha256: str) -> None:
        """
        Check that the bytes that were read are those of the export.

        :param description: the source, for the message.
        :param sha256: their checksum.
        :raises SourceError: if they are others.
        """
        if self.sha256 is not None and sha256 != self.sha256:
            raise SourceError(
                f"{description} has changed since it was exported: its SHA-256 is {sha256}, and the report of the "
                f"export says {self.sha256}.\nNo upload was created. Export again; or give the path alone, to upload "
                "the file as it is."
            )


def read_report(report: Mapping[str, Any]) -> ReportedFile:
    """
    Return the file in the report of an export, and what the report says about it.

    :param report: the result of :meth:`airflow_mapbox.export.ExportReport.to_json`.
    :raises SourceError: if it has no path.
    """
    path = report.get("path")
    if path is None or isinstance(path, Mapping):
        raise SourceError(
            "The mapping given as source has no path: give the report of an export, as write_geojson(…).to_json() "
            "returns it, or the path itself."
        )
    sha256 = report.get("sha256")
    facts = {name: report[name] for name in REPORTED_FACTS if name in report}
    return ReportedFile(path, facts, sha256 if isinstance(sha256, str) else None)


def _stream_source(stream: ReadableStream) -> Source:
    """Return the source of an open stream, from its current position. If it can seek, it can be read again."""
    description = describe(stream)
    refuse_secrets(description)
    if isinstance(stream, io.TextIOBase):
        raise SourceError(f"{description} is opened as text: open it for reading bytes, with mode 'rb'.")
    start, size = _seekable_range(stream)

    def opener() -> ByteStream:
        if start is not None:
            cast("IO[bytes]", stream).seek(start)
        return LentStream(cast("ByteStream", stream))

    fingerprint = {} if size is None else {"size": size}
    return Source(description, size, opener, fingerprint=fingerprint, rereadable=start is not None)


def _seekable_range(stream: object) -> tuple[int | None, int | None]:
    """Return a stream's position and the number of bytes after it; None for both if it cannot seek."""
    seekable = getattr(stream, "seekable", None)
    if seekable is None or not seekable():
        return None, None
    file = cast("IO[bytes]", stream)
    start = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(start)
    return start, end - start
