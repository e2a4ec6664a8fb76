"""A file on this machine or in object storage."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast, runtime_checkable
from urllib.parse import unquote, urlsplit

from airflow_mapbox.export.atomic_file import scratch_folder
from airflow_mapbox.export.errors import UnavailableSourceError, UnreadableSourceError
from airflow_mapbox.security.endpoints import refuse_secrets
from airflow_mapbox.security.redaction import redact

# Errors that another try would meet again; every other one of a store may be the network's.
_LASTING = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ImportError,
    ValueError,
    TypeError,
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@runtime_checkable
class OpenablePath(Protocol):
    """What is needed of an object-storage path; Airflow's ``ObjectStoragePath`` is one, and so is ``UPath``."""

    def open(self, mode: str = ...) -> IO[bytes]:
        """Open it for reading."""
        ...


@dataclass(frozen=True)
class SourceFile:
    """
    A file to read.

    :param name: a path or URL that may be shown.
    :param open: opens a stream of its bytes that can seek; the caller closes it.
    :param path: where it is on this machine, or None.
    """

    name: str
    open: Callable[[], IO[bytes]]
    path: Path | None = None

    @property
    def suffix(self) -> str:
        """The ending of its name, lower case, with the dot."""
        return Path(self.name).suffix.lower()

    @contextmanager
    def local(self) -> Iterator[Path]:
        """Give a path on this machine, for readers that need one; what is elsewhere is copied to temporary space."""
        if self.path is not None:
            yield self.path
            return
        with scratch_folder() as folder:
            copy = folder / Path(self.name).name
            with self.open() as stream, copy.open("wb") as target:
                shutil.copyfileobj(stream, target, 1 << 23)
            yield copy


def find_file(source: str | os.PathLike[str] | OpenablePath) -> SourceFile:
    """
    Find a file.

    :param source: a local path, a URL that fsspec knows, or an object with ``open``.
    :raises UnreadableSourceError: where it does not exist, and from its ``open`` where it cannot be opened.
    :raises UnavailableSourceError: from its ``open`` where the store does not answer.
    :raises ConfigurationError: where it carries a secret.
    """
    refuse_secrets(source)
    if isinstance(source, str):
        if source.startswith("file://"):
            return _local(Path(unquote(urlsplit(source).path)))
        return _url(source) if _SCHEME.match(source) else _local(Path(source))
    if isinstance(source, Path):
        return _local(source)
    if isinstance(source, OpenablePath):
        return SourceFile(str(source), lambda: _opened(str(source), lambda: source.open("rb")))
    return _local(Path(source))


def _local(path: Path) -> SourceFile:
    if not path.exists():
        raise UnreadableSourceError(f"The source {path} does not exist on this machine.\nCheck the path.")
    return SourceFile(str(path), lambda: path.open("rb"), path)


def _url(url: str) -> SourceFile:
    import fsspec

    return SourceFile(url, lambda: _opened(url, lambda: fsspec.open(url, "rb").open()))


def _opened(name: str, opener: Callable[[], Any]) -> IO[bytes]:
    with _named(name, "opened"):
        return cast("IO[bytes]", _Stream(opener(), name))


class _Stream(io.RawIOBase):
    """
    The bytes of a remote source, whose errors name it.

    :param stream: the store's own; it is closed with this one.
    :param name: of the source, for messages.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        with _named(self._name, "read"):
            return self._stream.read(size)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with _named(self._name, "read"):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


@contextmanager
def _named(name: str, done: str) -> Iterator[None]:
    """Say which source failed, and whether it may do better later: every store has a tree of errors of its own."""
    try:
        yield
    except Exception as error:
        problem = redact((f"{type(error).__name__}: {error}".rstrip(": ").splitlines() or [""])[0])
        kind = UnreadableSourceError if isinstance(error, _LASTING) else UnavailableSourceError
    else:
        return
    raise kind(f"The source {name} cannot be {done} ({problem}).\nCheck its name and the connection.")
