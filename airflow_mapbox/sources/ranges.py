"""Parts of a file that is not read from its beginning to its end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, Self


class Ranges(Protocol):
    """
    A file of which any part can be read.

    :ivar size: the file's size in bytes.
    """

    size: int

    def read(self, start: int, length: int) -> bytes:
        """
        Return a part of the file; shorter only at the file's end.

        :param start: offset of the first byte.
        :param length: number of bytes.
        :raises SourceError: if it cannot be read.
        """
        ...

    def close(self) -> None:
        """Close the file or the connection."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


class FileRanges:
    """
    Parts of a local file.

    :param path: the file.
    :raises OSError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._file).st_size

    def read(self, start: int, length: int) -> bytes:
        """
        Return a part of the file; shorter only at the file's end.

        :param start: offset of the first byte.
        :param length: number of bytes.
        :raises OSError: if it cannot be read.
        """
        return os.pread(self._file, length, start)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
