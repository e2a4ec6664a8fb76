"""A file that is whole or absent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_LOCK, _PART = ".lock", ".part"
# As a pattern, narrow enough to match nothing that is not ours: everything of it that is not locked is deleted.
_NAME = "." + "[0-9a-f]" * 16 + "-" + "[0-9a-f]" * 16

_PIECE = 1 << 20
_PENDING = 4  # pieces that wait to be written
_SYNC = 16 << 20


class WholeFile:
    """A file being written to the side of its name."""

    def __init__(self, path: Path) -> None:
        # Created new and private: the final permissions are set when the file is published.
        self._file = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", buffering=0)
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

        :param data: that does not change any more; large pieces are faster than small ones.
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
    :raises FileExistsError: where there is something else that is no file; nothing is begun.
    """
    path = target_of(path)
    with part_of(path) as part:
        file = WholeFile(part)
        try:
            yield file
            if file.discarded:
                file.abandon()
                return
            file.close()
            publish(part, path)
        except BaseException:
            file.abandon()
            raise


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """
    Give the name to write a file under until it is whole; what is left of that name at the end is deleted.

    :param path: the file, as :func:`target_of` gives it; folders above it are made.
    :raises IsADirectoryError: where there is a folder of that name; nothing is begun.
    :raises FileExistsError: where there is something else that is no file; nothing is begun.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it.")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is a device, a pipe or a socket, which a file would replace: name a file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _part_in(path.parent) as part:
        yield part


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """
    Make a folder for temporary files, and delete it at the end.

    :param parent: the folder to make it in, or None for the system's.
    """
    with _part_in((parent or Path(tempfile.gettempdir())).absolute()) as part:
        part.mkdir(mode=0o700)
        yield part


def target_of(path: Path) -> Path:
    """Return the file that is written under a name: the one that a link leads to, as with any other program."""
    return path.resolve() if path.is_symlink() else path


def publish(part: Path, path: Path) -> None:
    """
    Publish a part under its file's name, with the permissions of the file that it replaces.

    :param part: as :func:`part_of` gives it.
    :param path: the file. One that was not there is for everybody whom the umask lets read.
    """
    given = path if path.exists() else part.with_suffix(_LOCK)
    part.chmod(stat.S_IMODE(given.stat().st_mode) & 0o777)
    part.replace(path)


@contextmanager
def _part_in(folder: Path) -> Iterator[Path]:
    """
    Give a name in a folder for what is not whole, and delete what is left of it at the end.

    Delete first what killed processes left in the folder. A process that writes a part holds a lock, which ends with
    the process. The lock is a file beside the part, since SQLite has locks of its own on what it writes.
    """
    for lock in folder.glob(f"{_NAME}{_LOCK}"):
        with contextlib.suppress(OSError), _opened_lock(lock, os.O_RDONLY | os.O_NONBLOCK) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock)
    while True:
        lock = folder / f".{secrets.token_hex(8)}-{secrets.token_hex(8)}{_LOCK}"
        with _opened_lock(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL) as stream:
            # Where a file system has no locks, nobody can take one either, and what is left stays.
            with contextlib.suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
            if os.fstat(stream.fileno()).st_nlink == 0:
                continue  # another process took it for one that was left, before it was locked
            try:
                yield lock.with_suffix(_PART)
            finally:
                _remove(lock)  # while it is held, so that no other process does
            return


def _opened_lock(lock: Path, flags: int) -> IO[bytes]:
    # The system's temporary folder is everybody's: a link there could lead anywhere.
    return os.fdopen(os.open(lock, flags | os.O_NOFOLLOW, 0o666), "rb")


def _remove(lock: Path) -> None:
    """Delete a part, what SQLite keeps beside it, and the lock."""
    for left in (*lock.parent.glob(f"{lock.stem}{_PART}*"), lock):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)
