"""Parts of a file that is not read from its beginning to its end: on this machine, or in an object store."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol, Self

from airflow_mapbox.errors import SourceError, SourceUnavailableError
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.sources.failures import error_class, open_or_fail

_BLOCK_BYTES = 16 * 1024


class Ranges(Protocol):
    """
    A file with parts that can be read in any order.

    :ivar size: the file's size in bytes.
    """

    size: int

    def read(self, start: int, length: int) -> bytes:
        """
        Return a part of the file; shorter only at the file's end.

        :param start: offset of the first byte.
        :param length: number of bytes.
        :raises SourceError: if it cannot be read.
        :raises SourceUnavailableError: if it cannot be read at the moment, or has changed.
        """
        ...

    def close(self) -> None:
        """Close the file or the connection."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


class _ContextManager:
    """The part of :class:`Ranges` that is the same for all of them."""

    def close(self) -> None:
        """Close the file or the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class FileRanges(_ContextManager):
    """
    Parts of a local file.

    :param path: the file.
    :raises SourceError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._description = str(path)
        self._file = open_or_fail(self._description, lambda: path.open("rb", buffering=0))
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, length: int) -> bytes:
        """
        Return a part of the file; shorter only at the file's end.

        :param start: offset of the first byte.
        :param length: number of bytes.
        :raises SourceError: if it cannot be read.
        """
        length = within(self.size, start, length)
        return _read_or_fail(
            self._description, length, lambda: os.pread(self._file.fileno(), length, start) if length else b""
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class HeadRanges(_ContextManager):
    """
    The beginning of a file that cannot be read further. Parts beyond it are empty.

    :param head: the first bytes.
    :param size: the file's size in bytes; None if it is unknown.
    """

    def __init__(self, head: bytes, size: int | None) -> None:
        self._head = head
        self.size = len(head) if size is None else size
        self.is_whole = self.size <= len(head)

    def read(self, start: int, length: int) -> bytes:
        """
        Return a part of the beginning.

        :param start: offset of the first byte.
        :param length: number of bytes.
        """
        return self._head[start : start + length]


class ObjectRanges(_ContextManager):
    """
    Parts of an object, each of them with a request of its own.

    :param description: the object, for messages.
    :param size: its size in bytes.
    :param fetch: returns the bytes from one offset up to another.
    :param close: closes what ``fetch`` reads from.
    """

    def __init__(
        self, description: str, size: int, fetch: Callable[[int, int], Any], close: Callable[[], None] | None = None
    ) -> None:
        self.size = size
        self._description = description
        self._fetch = fetch
        self._close = close

    def read(self, start: int, length: int) -> bytes:
        """
        Return a part of the object; shorter only at its end.

        :param start: offset of the first byte.
        :param length: number of bytes.
        :raises SourceError: if it cannot be read.
        :raises SourceUnavailableError: if the store fails, or the object has become shorter.
        """
        length = within(self.size, start, length)
        return _read_or_fail(
            self._description, length, lambda: bytes(self._fetch(start, start + length)) if length else b""
        )

    def close(self) -> None:
        """Close the object."""
        if self._close is not None:
            self._close()


def object_ranges(path: Any, size: int | None) -> ObjectRanges | None:
    """
    Return the parts of an object; None if reading a part would read the object's beginning, too.

    :param path: the object. Airflow's ``ObjectStoragePath`` and ``UPath`` have a file system of fsspec in ``fs``.
    :param size: its size in bytes, or None if it is unknown.
    :raises SourceError: if it cannot be opened.
    """
    if size is None:
        return None
    description = str(path)
    system, key = getattr(path, "fs", None), getattr(path, "path", None)
    if system is not None and callable(getattr(system, "cat_file", None)) and isinstance(key, str):
        # An open file of fsspec reads megabytes ahead; this reads no byte more than is asked for.
        return ObjectRanges(description, size, lambda start, end: system.cat_file(key, start=start, end=end))
    stream: IO[bytes] = open_or_fail(description, lambda: path.open("rb"))
    if not _can_seek(stream):
        stream.close()
        return None

    def fetch(start: int, end: int) -> bytes:
        stream.seek(start)
        return stream.read(end - start)

    return ObjectRanges(description, size, fetch, stream.close)


class CachedRanges(_ContextManager):
    """
    Parts of a file in aligned blocks, so that neighbouring reads need one request.

    :param file: the file. Its owner closes it.
    :param blocks: number of blocks to keep.
    :ivar requests: number of reads of the file.
    :ivar bytes_read: number of bytes that these reads returned.
    """

    def __init__(self, file: Ranges, blocks: int = 64) -> None:
        self.size = file.size
        self.requests = 0
        self.bytes_read = 0
        self._file = file
        self._max_blocks = blocks
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, start: int, length: int) -> bytes:
        """
        Return a part of the file; shorter only at the file's end.

        :param start: offset of the first byte.
        :param length: number of bytes.
        :raises SourceError: if it cannot be read.
        """
        length = within(self.size, start, length)
        if not length:
            return b""
        first, last = start // _BLOCK_BYTES, (start + length - 1) // _BLOCK_BYTES
        if last - first >= self._max_blocks:
            return self._request(start, length)
        missing = [number for number in range(first, last + 1) if number not in self._blocks]
        if missing:
            begin = missing[0] * _BLOCK_BYTES
            data = self._request(begin, (missing[-1] + 1) * _BLOCK_BYTES - begin)
            for number in range(missing[0], missing[-1] + 1):
                at = number * _BLOCK_BYTES - begin
                self._blocks[number] = data[at : at + _BLOCK_BYTES]
        joined = b"".join(self._blocks[number] for number in range(first, last + 1))
        for number in range(first, last + 1):
            self._blocks.move_to_end(number)
        while len(self._blocks) > self._max_blocks:
            self._blocks.popitem(last=False)
        at = start - first * _BLOCK_BYTES
        return joined[at : at + length]

    def _request(self, start: int, length: int) -> bytes:
        data = self._file.read(start, length)
        self.requests += 1
        self.bytes_read += len(data)
        return data


class RangesFile(io.RawIOBase):
    """
    A seekable file of parts, for readers that need one.

    :param file: the parts. Their owner closes them.
    """

    def __init__(self, file: Ranges) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """
        Move to a position and return it.

        :param offset: bytes from the start, the position or the end.
        :param whence: which of these three.
        :raises ValueError: if the position would be negative.
        """
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        if origin + offset < 0:
            raise ValueError(f"a file has no position {origin + offset}")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Read bytes into a buffer and return their number."""
        view = memoryview(buffer).cast("B")
        data = self._file.read(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def within(size: int, start: int, length: int) -> int:
    """
    Return the number of bytes that a file has at a position.

    :param size: the file's size.
    :param start: offset of the first byte.
    :param length: the number of bytes that are wanted.
    """
    return max(0, min(length, size - start)) if start >= 0 else 0


def _can_seek(stream: object) -> bool:
    seekable = getattr(stream, "seekable", None)
    return seekable is not None and bool(seekable())


def _read_or_fail(description: str, length: int, read: Callable[[], bytes]) -> bytes:
    """Return exactly so many bytes. Each store has error classes of its own."""
    failure: type[SourceError] = SourceUnavailableError
    problem = "it has become shorter"
    try:
        data = read()
        if len(data) == length:
            return data
    except Exception as error:
        failure = error_class(error)
        problem = getattr(error, "strerror", None) or f"{type(error).__name__}: {redact(str(error))}"
    raise failure(
        f"The source {description} can no longer be read ({problem}).\nCheck that it still exists and is complete, "
        "then run the task again."
    )
