"""Temporary files and folders that are deleted at the end, also those of processes that were killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK_SUFFIX = ".lock"
_PART_SUFFIX = ".part"
# A pattern so narrow that it matches only our files. Every match without a lock is deleted.
_NAME = "." + "[0-9a-f]" * 16 + "-" + "[0-9a-f]" * 16


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """
    Make a folder for temporary files, and delete it at the end.

    :param parent: the folder to make it in; None for the system's.
    """
    with temporary_path((parent or Path(tempfile.gettempdir())).absolute()) as part:
        part.mkdir(mode=0o700)
        yield part


@contextmanager
def temporary_path(folder: Path) -> Iterator[Path]:
    """
    Return a path in a folder for an incomplete file or folder, and delete what is left of it at the end.

    First delete what killed processes have left in the folder. A process that writes holds a lock, which ends with the
    process. The lock is a file of its own, because SQLite locks the files that it writes.

    :param folder: the folder.
    """
    for lock in folder.glob(f"{_NAME}{LOCK_SUFFIX}"):
        with contextlib.suppress(OSError), _open_lock(lock, os.O_RDONLY | os.O_NONBLOCK) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock)
    while True:
        lock = folder / f".{secrets.token_hex(8)}-{secrets.token_hex(8)}{LOCK_SUFFIX}"
        with _open_lock(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL) as stream:
            # On a file system without locks, no process can take one, so leftovers stay.
            with contextlib.suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
            if os.fstat(stream.fileno()).st_nlink == 0:
                continue  # before it was locked, another process took it for a leftover
            try:
                yield lock.with_suffix(_PART_SUFFIX)
            finally:
                _remove(lock)  # while the lock is held, so that no other process removes it
            return


def _open_lock(lock: Path, flags: int) -> IO[bytes]:
    # Everybody can write into the system's temporary folder: a link there could lead anywhere.
    return os.fdopen(os.open(lock, flags | os.O_NOFOLLOW, 0o666), "rb")


def _remove(lock: Path) -> None:
    """Delete an incomplete file or folder, SQLite's files beside it, and the lock."""
    for path in (*lock.parent.glob(f"{lock.stem}{_PART_SUFFIX}*"), lock):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
