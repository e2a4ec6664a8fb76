"""A file that is complete or absent."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from airflow_mapbox.sources.temporary import LOCK_SUFFIX, temporary_path

_READ_BYTES = 1 << 20
_MAX_PENDING_WRITES = 4
# Start to sync after this many bytes, so that little is left to sync at the end.
_SYNC_BYTES = 16 << 20


class AtomicFile:
    """
    A file that is written under a temporary name.

    Bytes are written and synced by two threads of their own, while the caller makes further bytes.

    :param path: the temporary name.
    """

    def __init__(self, path: Path) -> None:
        # New and private. It gets its final permissions when it is published.
        self._file = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", buffering=0)
        self._path = path
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="export-write")
        self._pending: deque[Future[None]] = deque()
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="export-sync")
        self._sync: Future[None] | None = None
        self._unsynced_bytes = 0
        self.discarded = False

    def write(self, data: bytes | memoryview) -> None:
        """
        Append bytes. A later call may raise the error of this one.

        :param data: bytes that do not change any more. Large chunks are faster than small ones.
        :raises OSError: if the file system fails.
        """
        if len(self._pending) >= _MAX_PENDING_WRITES:
            self._pending.popleft().result()
        self._pending.append(self._writer.submit(self._append, data))

    def _append(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._unsynced_bytes += len(data)
        if self._unsynced_bytes >= _SYNC_BYTES and (self._sync is None or self._sync.done()):
            if self._sync is not None:
                self._sync.result()  # the system reports the error of a disk only once
            self._sync = self._syncer.submit(os.fdatasync, self._file.fileno())
            self._unsynced_bytes = 0

    def _flush(self) -> None:
        while self._pending:
            self._pending.popleft().result()

    def read_back(self) -> Iterator[bytes]:
        """Yield the bytes that were written so far, in chunks."""
        self._flush()
        with self._path.open("rb") as stream:
            while chunk := stream.read(_READ_BYTES):
                yield chunk

    def discard(self) -> None:
        """Do not publish the file at the end."""
        self.discarded = True

    def close(self) -> None:
        """Sync and close, so that the file survives a power cut."""
        self._flush()
        self._writer.shutdown()
        self._syncer.shutdown()
        if self._sync is not None:
            self._sync.result()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close and discard, without syncing."""
        self._writer.shutdown(cancel_futures=True)
        self._syncer.shutdown(cancel_futures=True)
        self._file.close()


@contextmanager
def atomic_file(path: Path) -> Iterator[AtomicFile]:
    """
    Write a file that gets its name only if the block succeeds. Until then an existing file stays.

    :param path: the file. Missing folders above it are made.
    :raises IsADirectoryError: if there is a folder of that name; nothing is written.
    :raises FileExistsError: if there is a device, a pipe or a socket of that name; nothing is written.
    """
    path = link_target(path)
    with temporary_name(path) as temporary:
        file = AtomicFile(temporary)
        try:
            yield file
            if file.discarded:
                file.abandon()
                return
            file.close()
            publish(temporary, path)
        except BaseException:
            file.abandon()
            raise


@contextmanager
def temporary_name(path: Path) -> Iterator[Path]:
    """
    Return the name for a file until it is complete. What is left under this name at the end is deleted.

    :param path: the file, as :func:`link_target` returns it. Missing folders above it are made.
    :raises IsADirectoryError: if there is a folder of that name; nothing is written.
    :raises FileExistsError: if there is a device, a pipe or a socket of that name; nothing is written.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it.")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is a device, a pipe or a socket, which a file would replace: name a file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_path(path.parent) as temporary:
        yield temporary


def link_target(path: Path) -> Path:
    """
    Return the file to write: the target of a link, as with any other program, otherwise the path itself.

    :param path: the file.
    """
    return path.resolve() if path.is_symlink() else path


def publish(temporary: Path, path: Path) -> None:
    """
    Give a complete file its name, with the permissions of the file that it replaces.

    :param temporary: the complete file, as :func:`temporary_name` returns it.
    :param path: the file. A new one gets the permissions that the umask allows.
    """
    like = path if path.exists() else temporary.with_suffix(LOCK_SUFFIX)
    temporary.chmod(stat.S_IMODE(like.stat().st_mode) & 0o777)
    temporary.replace(path)
