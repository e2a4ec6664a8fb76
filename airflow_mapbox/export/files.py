"""A file that is whole or absent."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

_PIECE = 1 << 20
_PENDING = 4  # pieces that wait to be written
_SYNC = 16 << 20


class WholeFile:
    """A file being written to the side of its name."""

    def __init__(self, path: Path) -> None:
        # Exclusive, and with the permissions that the process gives to every new file.
        self._file = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb", buffering=0)
        self._path = path
        # Bytes are written, and go on to the disk, while further ones are made: little is left to wait for at the end.
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="export-write")
        self._pending: deque[Future[None]] = deque()
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="export-sync")
        self._synced: Future[None] | None = None
        self._since = 0
        self.discarded = False

    def write(self, data: bytes | memoryview) -> None:
        """
        Append bytes; what goes wrong may be told by a later call.

        :param data: that nobody changes any more; large pieces are faster than small ones.
        :raises OSError: as the file system has it.
        """
        if len(self._pending) >= _PENDING:
            self._pending.popleft().result()
        self._pending.append(self._writing.submit(self._append, data))

    def _append(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._since += len(data)
        if self._since >= _SYNC and (self._synced is None or self._synced.done()):
            if self._synced is not None:
                self._synced.result()  # a disk tells of an error once
            self._synced = self._syncing.submit(os.fdatasync, self._file.fileno())
            self._since = 0

    def _settle(self) -> None:
        while self._pending:
            self._pending.popleft().result()

    def written(self) -> Iterator[bytes]:
        """Give what was written so far, in pieces."""
        self._settle()
        with self._path.open("rb") as stream:
            while piece := stream.read(_PIECE):
                yield piece

    def discard(self) -> None:
        """Have the file not appear under its name after all."""
        self.discarded = True

    def close(self) -> None:
        """Make sure that what was written outlasts a power cut, and close."""
        self._settle()
        self._writing.shutdown()
        self._syncing.shutdown()
        if self._synced is not None:
            self._synced.result()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close without ceremony."""
        self._writing.shutdown(cancel_futures=True)
        self._syncing.shutdown(cancel_futures=True)
        self._file.close()


@contextmanager
def whole_file(path: Path) -> Iterator[WholeFile]:
    """
    Write a file that appears under its name only when the block ends well; what was there stays until then.

    :param path: the file; folders above it are made.
    :raises IsADirectoryError: where there is a folder of that name; nothing is begun.
    """
    with part_of(path) as part:
        file = WholeFile(part)
        try:
            yield file
            if file.discarded:
                file.abandon()
                return
            file.close()
            part.replace(path)
        except BaseException:
            file.abandon()
            raise


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """
    Give the name to write a file under until it is whole; what is left of that name at the end is deleted.

    Parts that killed processes left of the same file are deleted first: whoever writes one holds a lock, which ends
    with the process. Beside the part, since SQLite has locks of its own on what it writes.

    :param path: the file; folders above it are made.
    :raises IsADirectoryError: where there is a folder of that name; nothing is begun.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of a name that may be as long as a name can be.
    key = hashlib.sha256(path.name.encode()).hexdigest()[:16]
    for lock in path.parent.glob(f".{key}-*.lock"):
        with contextlib.suppress(OSError), lock.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock)
    lock = path.with_name(f".{key}-{secrets.token_hex(8)}.lock")
    try:
        with lock.open("xb") as stream:
            # Where a file system has no locks, nobody can take one either, and what is left stays.
            with contextlib.suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield lock.with_suffix(".part")
    finally:
        _remove(lock)


def _remove(lock: Path) -> None:
    """Delete a part, what SQLite keeps beside it, and the lock."""
    for left in (*lock.parent.glob(f"{lock.stem}.part*"), lock):
        left.unlink(missing_ok=True)
