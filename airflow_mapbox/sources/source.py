"""One source of bytes: its description, its size and fingerprint as far as they are known, and a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from airflow_mapbox.errors import SourceError
from airflow_mapbox.sources.ranges import Ranges
from airflow_mapbox.sources.streams import ByteStream, GuardedStream, IteratorStream, ReadAhead

if TYPE_CHECKING:
    from typing import TypeAlias

Fingerprint: TypeAlias = "Mapping[str, str | int]"
# The items of a fingerprint that say nothing about the content by themselves.
NOT_OF_CONTENT = frozenset({"source", "size", "export", "beside"})


@runtime_checkable
class OpenablePath(Protocol):
    """A path in an object store. Airflow's ``ObjectStoragePath`` is one, and so is ``UPath``."""

    def open(self, mode: str = ...) -> IO[bytes]:
        """Open it for reading."""
        ...


@runtime_checkable
class ReadablePath(OpenablePath, Protocol):
    """A path in an object store that can also return the object's size."""

    def stat(self) -> Any:
        """Return the object's size and other facts."""
        ...


class Source:
    """
    The bytes of one file.

    It is a context manager. Closing it closes a stream that was opened for :meth:`head` and not returned by
    :meth:`open`. After all bytes are read, ``facts`` may have facts about the content: ``features``, ``bounds``.

    :param description: path or URL without a query or a password.
    :param size: bytes; None if unknown before reading.
    :param opener: opens a stream of all bytes. Its caller closes the stream.
    :param path: the local file, or None.
    :param fingerprint: values that change with the content (size, ETag, modification time), as far as they are known
        without reading.
    :param read_fingerprint: reads the fingerprint again, or for the first time.
    :param checksum: returns the SHA-256 (hexadecimal) of the bytes that were read last, if the producer of the bytes
        computes it. Otherwise the bytes are hashed when they are sent.
    :param rereadable: whether ``opener`` can return the same bytes again.
    :param first: a stream that is open already. It is the first that is read.
    :param ranges: opens the file for reading parts of it; None if that would read all of it.
    """

    def __init__(
        self,
        description: str,
        size: int | None,
        opener: Callable[[], ByteStream],
        path: Path | None = None,
        *,
        fingerprint: Fingerprint | None = None,
        read_fingerprint: Callable[[], Fingerprint] | None = None,
        checksum: Callable[[], str] | None = None,
        rereadable: bool = True,
        first: ByteStream | None = None,
        ranges: Callable[[], Ranges | None] | None = None,
    ) -> None:
        self.description = description
        self.size = size
        self.path = path
        self._first_fingerprint = fingerprint
        self._read_fingerprint = read_fingerprint
        self.checksum = checksum
        self.rereadable = rereadable
        self.facts: dict[str, Any] = {}
        self._ranges = ranges
        self._opener = opener
        self._wrap: Callable[[ByteStream], ByteStream] = lambda stream: stream
        self._was_opened = first is not None
        self._ahead = None if first is None else ReadAhead(GuardedStream(first, description))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stream that :meth:`head` opened, unless :meth:`open` has returned it."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    @cached_property
    def fingerprint(self) -> dict[str, str | int]:
        """
        Values that change with the content, as they were at the first access.

        :raises SourceError: if they cannot be read.
        """
        if self._first_fingerprint is None and self._read_fingerprint is not None:
            return dict(self._read_fingerprint())
        return dict(self._first_fingerprint or {})

    def has_changed(self) -> bool:
        """
        Return whether the fingerprint has changed since the first access. False if it cannot be read again.

        :raises SourceError: if the source is missing now.
        """
        return self._read_fingerprint is not None and dict(self._read_fingerprint()) != self.fingerprint

    @property
    def suffix(self) -> str:
        """The file name's extension, lower case, with the dot."""
        return Path(self.description).suffix.lower()

    def head(self, size: int) -> bytes:
        """
        Return the first bytes. :meth:`open` then continues with the same stream, so nothing is read twice.

        :param size: number of bytes. The result is shorter only if the source is.
        :raises SourceError: if the source cannot be read.
        """
        if self._ahead is None:
            self._ahead = ReadAhead(self._new_stream())
        return self._ahead.peek(size)

    def open(self) -> ByteStream:
        """
        Return a stream of all bytes.

        :raises SourceError: if the source cannot be read, or can be read only once and was.
        """
        ahead, self._ahead = self._ahead, None
        return self._wrap(self._new_stream() if ahead is None else ahead)

    def wrap_stream(self, wrap: Callable[[ByteStream], ByteStream]) -> None:
        """
        Have each stream that :meth:`open` returns wrapped in another.

        :param wrap: returns the other stream. It closes the wrapped one when it is closed.
        """
        self._wrap = wrap

    def ranges(self) -> Ranges | None:
        """
        Return the file for reading parts of it; None if that would read all of it. The caller closes it.

        :raises SourceError: if the source cannot be read.
        """
        return None if self._ranges is None else self._ranges()

    def _new_stream(self) -> ByteStream:
        if self._was_opened and not self.rereadable:
            raise SourceError(
                f"{self.description} can be read only once, and was read already: give a path or a URL instead."
            )
        self._was_opened = True
        stream = self._opener()
        # The errors of a user's own iterator are passed on unchanged.
        return stream if isinstance(stream, IteratorStream) else GuardedStream(stream, self.description)
