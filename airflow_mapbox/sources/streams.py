"""Streams of bytes: protocols, and streams that wrap another stream or an iterator."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, runtime_checkable

from airflow_mapbox.errors import SourceError, SourceUnavailableError
from airflow_mapbox.security.redaction import redact

if TYPE_CHECKING:
    from typing import TypeAlias

# An export sends memoryviews of its buffers, so that nothing is copied.
Octets: TypeAlias = "bytes | bytearray | memoryview"


@runtime_checkable
class ReadableStream(Protocol):
    """An open stream of bytes."""

    def read(self, size: int = ..., /) -> Octets:
        """Return at most ``size`` bytes; an empty result at the end."""
        ...


class ByteStream(ReadableStream, Protocol):
    """A stream that its reader closes."""

    def close(self) -> None:
        """Close it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: Any) -> None: ...


class WrappedStream(io.RawIOBase):
    """
    A stream around another stream. It closes both.

    :param stream: the other stream.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> Octets:
        """Return at most ``size`` bytes; an empty result at the end."""
        return self._stream.read(size)

    def close(self) -> None:
        """Close both streams."""
        if not self.closed:
            self._stream.close()
        super().close()


class GuardedStream(WrappedStream):
    """
    A stream whose errors name the source. Stores, servers and file systems each have error classes of their own.

    :param stream: the stream to read.
    :param description: the source.
    """

    def __init__(self, stream: ByteStream, description: str) -> None:
        super().__init__(stream)
        self._description = description
        self._bytes_read = 0

    def read(self, size: int = -1, /) -> Octets:
        """
        Return at most ``size`` bytes; an empty result at the end.

        :raises SourceUnavailableError: if the stream fails.
        """
        try:
            data = self._stream.read(size)
        except Exception as error:
            problem = f"{type(error).__name__}: {redact(str(error))}"
        else:
            self._bytes_read += len(data)
            return data
        raise SourceUnavailableError(
            f"{self._description} can no longer be read after {self._bytes_read:,} bytes ({problem}).\nCheck that it "
            "still exists and is complete, then run the task again."
        )


class ReadAhead(WrappedStream):
    """A stream whose first bytes can be read before it is handed on."""

    def __init__(self, stream: ByteStream) -> None:
        super().__init__(stream)
        self._buffer = b""

    def peek(self, size: int) -> bytes:
        """
        Return the first bytes without consuming them.

        :param size: number of bytes.
        """
        while len(self._buffer) < size and (data := self._stream.read(size - len(self._buffer))):
            self._buffer += data
        return self._buffer[:size]

    def read(self, size: int = -1, /) -> Octets:
        """Return at most ``size`` bytes; an empty result at the end."""
        if not self._buffer:
            return self._stream.read(size)
        if size < 0:
            data, self._buffer = self._buffer, b""
            return data + self._stream.read()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


class LentStream(WrappedStream):
    """A stream that its owner closes."""

    def close(self) -> None:
        """Do nothing."""


_END = object()


class IteratorStream(io.RawIOBase):
    """
    An iterator of bytes that is read like a file. At most one chunk is in memory.

    :param chunks: yields bytes. If it has a method ``close``, that is called at the end.
    """

    def __init__(self, chunks: Iterable[Octets]) -> None:
        self._chunks: Iterator[Octets] = iter(chunks)
        self._chunk: Octets = b""
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1, /) -> Octets:
        """
        Return at most ``size`` bytes; an empty result at the end.

        :raises SourceError: if the iterator yields None.
        """
        while self._position == len(self._chunk):
            chunk = next(self._chunks, _END)
            if chunk is _END:
                return b""
            if chunk is None:
                # A reader would take None for the end, and the file would be incomplete.
                raise SourceError("The given iterator yielded None instead of bytes.\nSkip chunks without data.")
            self._chunk, self._position = cast("Octets", chunk), 0
        if size < 0:
            rest = b"".join((self._chunk[self._position :], *self._chunks))
            self._position = len(self._chunk)
            return rest
        # Python copies nothing for the slice of a whole bytes object, nor for a slice of a view.
        data = self._chunk[self._position : self._position + size]
        self._position += len(data)
        return data

    def close(self) -> None:
        """Close the iterator."""
        if not self.closed and hasattr(self._chunks, "close"):
            self._chunks.close()
        super().close()
