"""Anything that holds the bytes of one file, seen as one thing: a description, a size where known, a stream."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self, cast, runtime_checkable
from urllib.parse import unquote, urlsplit, urlunsplit

from airflow_mapbox.errors import SourceError, SourceUnavailableError
from airflow_mapbox.security.endpoints import refuse_secrets
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.sources.web import check_url, open_url

if TYPE_CHECKING:
    from typing import TypeAlias

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# Of a fingerprint, what says nothing of the content by itself.
NOT_OF_CONTENT = frozenset({"source", "size", "export", "beside"})
_WEB = re.compile(r"https?://", re.IGNORECASE)

# What object stores call the thing that changes with the content, the surest first.
_VALIDATORS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "mtime")


# Views are of what an export has just made, and are sent from where it stands.
Octets: TypeAlias = "bytes | bytearray | memoryview"


@runtime_checkable
class ReadablePath(Protocol):
    """What is needed of an object-storage path; Airflow's ``ObjectStoragePath`` is one."""

    def open(self, mode: str = ...) -> IO[bytes]:
        """Open it for reading."""
        ...

    def stat(self) -> Any:
        """Say how large it is."""
        ...


@runtime_checkable
class ReadableStream(Protocol):
    """What is needed of an open stream of bytes."""

    def read(self, size: int = ..., /) -> Octets:
        """Give at most so many bytes; none at the end."""
        ...


class ByteStream(ReadableStream, Protocol):
    """A stream that its reader closes."""

    def close(self) -> None:
        """Let go of it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: Any) -> None: ...


Fingerprint: TypeAlias = "Mapping[str, str | int]"


class Source:
    """
    The bytes of one file.

    Closing it lets go of a stream that was opened and not handed out; it is its own context manager. ``facts`` takes
    what whoever gives the bytes knows of them, by the time that all are read: ``features``, ``bounds``.

    :param description: a path or URL that may be shown: no query, no password.
    :param size: bytes, or None where it is not known before reading.
    :param opener: opens a stream of the bytes from the start; whoever gets the stream closes it.
    :param path: the local file, where it is one.
    :param fingerprint: what changes when the content does (size, ETag, time of modification), as far as it can be told
        without reading.
    :param look: finds the fingerprint out, again or for the first time.
    :param digest: gives the SHA-256 of the bytes that were read last, as hexadecimal text, where whoever makes them has
        it; else they are hashed when they are sent.
    :param rereadable: whether ``opener`` gives the same bytes again.
    :param first: a stream that was opened already, to find the rest out; it is the first that is read.
    """

    def __init__(
        self,
        description: str,
        size: int | None,
        opener: Callable[[], ByteStream],
        path: Path | None = None,
        *,
        fingerprint: Fingerprint | None = None,
        look: Callable[[], Fingerprint] | None = None,
        digest: Callable[[], str] | None = None,
        rereadable: bool = True,
        first: ByteStream | None = None,
    ) -> None:
        self.description = description
        self.size = size
        self.path = path
        self._known = fingerprint
        self._look = look
        self.digest = digest
        self.rereadable = rereadable
        self.facts: dict[str, Any] = {}
        self._opener = opener
        self._opened = first is not None
        self._ahead = None if first is None else _ReadAhead(_Guarded(first, description))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened and not handed out."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    @cached_property
    def fingerprint(self) -> dict[str, str | int]:
        """
        What changes when the content does, as it was when it was first asked for.

        :raises SourceError: where it cannot be found out.
        """
        return dict(self._look() if self._known is None and self._look is not None else self._known or {})

    def has_changed(self) -> bool:
        """
        Say whether the content is another than when the fingerprint was taken, where that can be found out again.

        :raises SourceError: where it is no longer there.
        """
        return self._look is not None and dict(self._look()) != self.fingerprint

    @property
    def suffix(self) -> str:
        """The ending of its name, lower case, with the dot."""
        return Path(self.description).suffix.lower()

    def head(self, size: int) -> bytes:
        """
        Give its first bytes; :meth:`open` then reads on from the same stream, so that nothing is fetched twice.

        :param size: bytes, fewer only where there are no more.
        :raises SourceError: where it cannot be read.
        """
        if self._ahead is None:
            self._ahead = _ReadAhead(self._new_stream())
        return self._ahead.peek(size)

    def open(self) -> ByteStream:
        """
        Give a stream of all bytes from the start.

        :raises SourceError: where it cannot be read, or could be read only once.
        """
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return ahead
        return self._new_stream()

    def _new_stream(self) -> ByteStream:
        if self._opened and not self.rereadable:
            raise SourceError(f"{self.description} can be read only once, and was: give a path or a URL instead.")
        self._opened = True
        stream = self._opener()
        # What somebody's own iterator raises is theirs to name.
        return stream if isinstance(stream, IteratorStream) else _Guarded(stream, self.description)


class _Wrapped(io.RawIOBase):
    """A stream around another, which it closes with itself."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> Octets:
        return self._stream.read(size)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _Guarded(_Wrapped):
    """A stream whose errors say which source failed: stores, servers and file systems each have trees of their own."""

    def __init__(self, stream: ByteStream, description: str) -> None:
        super().__init__(stream)
        self._description = description
        self._count = 0

    def read(self, size: int = -1, /) -> Octets:
        try:
            data = self._stream.read(size)
        except Exception as error:
            problem = f"{type(error).__name__}: {redact(str(error))}"
        else:
            self._count += len(data)
            return data
        raise SourceUnavailableError(
            f"{self._description} can no longer be read after {self._count:,} bytes ({problem}).\nCheck that it is "
            "whole and still there, then try again."
        )


class _ReadAhead(_Wrapped):
    """A stream whose first bytes were looked at."""

    def __init__(self, stream: ByteStream) -> None:
        super().__init__(stream)
        self._looked_at = b""

    def peek(self, size: int) -> bytes:
        while len(self._looked_at) < size and (more := self._stream.read(size - len(self._looked_at))):
            self._looked_at += more
        return self._looked_at[:size]

    def read(self, size: int = -1, /) -> Octets:
        if not self._looked_at:
            return self._stream.read(size)
        if size < 0:
            data, self._looked_at = self._looked_at, b""
            return data + self._stream.read()
        data, self._looked_at = self._looked_at[:size], self._looked_at[size:]
        return data


_END = object()


class IteratorStream(io.RawIOBase):
    """
    An iterator of bytes, read like a file; at most one chunk of it is in memory.

    :param chunks: gives bytes; where it has a ``close``, that is called at the end.
    """

    def __init__(self, chunks: Iterable[Octets]) -> None:
        self._chunks: Iterator[Octets] = iter(chunks)
        self._chunk: Octets = b""
        self._taken = 0

    def readable(self) -> bool:
        """Say that it is for reading."""
        return True

    def read(self, size: int = -1, /) -> Octets:
        """Give at most so many bytes; none at the end."""
        while self._taken == len(self._chunk):
            chunk = next(self._chunks, _END)
            if chunk is _END:
                return b""
            if chunk is None:
                # Taken for the end, it would make a whole of the part before it.
                raise SourceError("The given iterator gave None instead of bytes.\nLeave out what has no data.")
            self._chunk, self._taken = cast("Octets", chunk), 0
        if size < 0:
            rest = b"".join((self._chunk[self._taken :], *self._chunks))
            self._taken = len(self._chunk)
            return rest
        # A whole chunk is handed on as it is: bytes[0:] copies nothing, nor does a view.
        data = self._chunk[self._taken : self._taken + size]
        self._taken += len(data)
        return data

    def close(self) -> None:
        """Close what gave the bytes."""
        if not self.closed and hasattr(self._chunks, "close"):
            self._chunks.close()
        super().close()


SourceLike: TypeAlias = "str | os.PathLike[str] | ReadablePath | ReadableStream | Iterator[bytes] | Source"

# What a report of an export tells beside the path, for whoever hears of the tileset later.
_TOLD = ("features", "bounds")


def open_source(source: SourceLike) -> Source:
    """
    Find out what a source is.

    :param source: a local path, an ``https://`` URL, an object with ``open`` and ``stat``, an open binary stream, or
        an iterator of bytes.
    :raises SourceError: where it does not exist, is no file, or is of a kind that cannot be read.
    :raises ConfigurationError: where it carries a secret.
    """
    if isinstance(source, Source):
        return source
    refuse_secrets(source)
    if isinstance(source, str) and _WEB.match(source):
        return _web_source(source)
    if isinstance(source, str) and source.startswith("file://"):
        return _local_source(Path(unquote(urlsplit(source).path)))
    if isinstance(source, str) and _SCHEME.match(source):
        raise SourceError(f"{source!r} is no local path and no https URL; give object storage as an ObjectStoragePath.")
    if isinstance(source, str | Path):
        return _local_source(Path(source))
    if isinstance(source, ReadableStream):
        return _stream_source(source)
    if isinstance(source, ReadablePath):
        return _object_source(source)
    if isinstance(source, os.PathLike):
        return _local_source(Path(source))
    if isinstance(source, Iterator):
        return Source(describe(source), None, lambda: IteratorStream(source), rereadable=False)
    raise SourceError(
        f"A {type(source).__name__} cannot be uploaded as it is: give a path, a URL, an ObjectStoragePath, a stream "
        'opened for reading bytes, or an iterator of bytes; or, for geodata, a format such as format="geojson".'
    )


def read_report(report: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """
    Give the file that an export has written, and what its report tells of the content.

    :param report: as :meth:`airflow_mapbox.export.ExportReport.to_json` gives it.
    :raises SourceError: where it names no file.
    """
    path = report.get("path")
    if path is None or isinstance(path, Mapping):
        raise SourceError(
            "The mapping given as source names no file: give the report of an export, as write_geojson(…).to_json() "
            "returns it, or the path itself."
        )
    return path, {name: report[name] for name in _TOLD if name in report}


def describe(source: SourceLike) -> str:
    """
    Give the description that a source has once it is opened, without looking whether it is there.

    :param source: as for :func:`open_source`.
    """
    if isinstance(source, Source):
        return source.description
    if isinstance(source, str) and _WEB.match(source):
        return _without_query(source)
    if isinstance(source, str) and source.startswith("file://"):
        return unquote(urlsplit(source).path)
    if isinstance(source, ReadableStream):
        return str(getattr(source, "name", "")) or "the given stream"
    return "the given iterator" if isinstance(source, Iterator) else str(source)


def identity(source: SourceLike) -> str | None:
    """
    Return a digest of the whole text of a path or URL, query included; None for a stream or an iterator.

    :param source: as for :func:`open_source`.
    """
    if isinstance(source, str | os.PathLike) or (isinstance(source, ReadablePath) and not hasattr(source, "read")):
        return hashlib.sha256(str(source).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return None


def _of_text(source: SourceLike) -> dict[str, str | int]:
    text = identity(source)
    return {} if text is None else {"source": text}


def _local_source(path: Path) -> Source:
    size, fingerprint = _look_at_file(path)
    return Source(
        str(path),
        size,
        lambda: _opened(str(path), lambda: path.open("rb")),
        path,
        fingerprint=fingerprint,
        look=lambda: _look_at_file(path)[1],
    )


def _look_at_file(path: Path) -> tuple[int, dict[str, str | int]]:
    """Return a file's size and its fingerprint."""
    kind: type[SourceError] = SourceError
    try:
        if path.is_file():
            found = path.stat()
            return found.st_size, _of_text(path) | {"size": found.st_size, "modified": found.st_mtime_ns}
        exists = "is no regular file" if path.exists() else "does not exist on this worker"
        problem = "is a folder" if path.is_dir() else exists
    except OSError as error:
        kind, problem = _kind_of(error), f"cannot be read ({error.strerror})"
    raise kind(
        f"The source file {path} {problem}.\nCheck the path, and that the task that wrote it ran on the same machine "
        "or on storage that all workers share."
    )


def _kind_of(error: Exception) -> type[SourceError]:
    """Tell what a person has to mend from what may pass: an outage of a store, a network drive, a secrets backend."""
    lasting = FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError | ValueError | ImportError
    return SourceError if isinstance(error, lasting) else SourceUnavailableError


def _object_source(path: ReadablePath) -> Source:
    description = str(path)
    size, found = _look_at_object(path)
    return Source(
        description,
        size,
        lambda: _opened(description, lambda: path.open("rb")),
        fingerprint=found,
        look=lambda: _look_at_object(path)[1],
    )


def _look_at_object(path: ReadablePath) -> tuple[int | None, dict[str, str | int]]:
    """Give an object's size, where the store tells it, and its fingerprint."""
    kind: type[SourceError] = SourceError
    problem = "does not exist"
    try:
        found = path.stat()
        if found.st_size != -1:
            return found.st_size, _of_text(path) | {"size": found.st_size} | _validator(found)
    except FileNotFoundError:
        pass
    except Exception as error:
        # Every store has a tree of errors of its own, and a missing connection another.
        kind, problem = _kind_of(error), f"cannot be read ({type(error).__name__}: {redact(str(error))})"
    raise kind(f"The source {path} {problem}.\nCheck the bucket, the key and the connection.")


def _validator(found: object) -> dict[str, str | int]:
    """Take the surest sign of the content from what a store tells of an object."""
    if isinstance(found, Mapping):
        for name in _VALIDATORS:
            if found.get(name):
                return {name.lower(): str(found[name])}
    modified = getattr(found, "st_mtime_ns", None)
    return {"modified": modified} if modified else {}


def _stream_source(stream: ReadableStream) -> Source:
    """Read an open stream from where it stands; one that can seek can be read again from there."""
    description = describe(stream)
    refuse_secrets(description)
    if isinstance(stream, io.TextIOBase):
        raise SourceError(f"{description} is opened as text: open it for reading bytes, with mode 'rb'.")
    start, size = _seekable_range(stream)

    def opener() -> ByteStream:
        if start is not None:
            cast("IO[bytes]", stream).seek(start)
        return _LentStream(cast("ByteStream", stream))

    fingerprint = {} if size is None else {"size": size}
    return Source(description, size, opener, fingerprint=fingerprint, rereadable=start is not None)


def _seekable_range(stream: object) -> tuple[int | None, int | None]:
    """Give where a stream stands and how much is left, or nothing where it cannot seek."""
    seekable = getattr(stream, "seekable", None)
    if seekable is None or not seekable():
        return None, None
    file = cast("IO[bytes]", stream)
    start = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(start)
    return start, end - start


class _LentStream(_Wrapped):
    """A stream that its owner closes."""

    def close(self) -> None:
        pass


def _opened(description: str, opener: Callable[[], ByteStream]) -> ByteStream:
    try:
        return opener()
    except Exception as error:
        kind, strerror = _kind_of(error), getattr(error, "strerror", None)
        problem = strerror or f"{type(error).__name__}: {redact(str(error))}"
    raise kind(f"The source {description} cannot be read: {problem}.")


def _web_source(url: str) -> Source:
    check_url(url)
    description = _without_query(url)
    first = open_url(url, description)  # the answer that tells the size is also the first that is read
    return Source(
        description,
        first.size,
        lambda: open_url(url, description).stream,
        fingerprint=_of_text(url) | first.fingerprint,
        first=first.stream,
    )


def _without_query(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))
