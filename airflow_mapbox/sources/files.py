"""A file that readers of geodata read from any position: on this machine, at a URL, or in an object store."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from airflow_mapbox.errors import UnreadableSourceError
from airflow_mapbox.security.endpoints import refuse_secrets
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.sources.failures import error_class, package_advice
from airflow_mapbox.sources.identity import file_url_path, has_scheme
from airflow_mapbox.sources.source import OpenablePath
from airflow_mapbox.sources.temporary import scratch_folder

_COPY_BYTES = 1 << 23


@dataclass(frozen=True)
class SourceFile:
    """
    A file to read from any position.

    :param name: path or URL without a secret.
    :param open: opens a stream that can seek. The caller closes it.
    :param path: its path on this machine, or None.
    """

    name: str
    open: Callable[[], IO[bytes]]
    path: Path | None = None

    @property
    def suffix(self) -> str:
        """The file name's extension, lower case, with the dot."""
        return Path(self.name).suffix.lower()

    @contextmanager
    def local(self) -> Iterator[Path]:
        """Return a path on this machine, for readers that need one. A remote file is copied to temporary disk space."""
        if self.path is not None:
            yield self.path
            return
        with scratch_folder() as folder:
            copy = folder / Path(self.name).name
            with self.open() as stream, copy.open("wb") as target:
                shutil.copyfileobj(stream, target, _COPY_BYTES)
            yield copy


def find_file(source: str | os.PathLike[str] | OpenablePath) -> SourceFile:
    """
    Return the file of a path or URL.

    :param source: a local path, a URL that fsspec knows, or an object with ``open``.
    :raises UnreadableSourceError: if it does not exist; from its ``open`` if it cannot be opened.
    :raises SourceUnavailableError: from its ``open`` if the store does not reply.
    :raises ConfigurationError: if it contains a secret.
    """
    refuse_secrets(source)
    path = file_url_path(source)
    if path is not None:
        return _local(Path(path))
    if isinstance(source, str):
        return _url(source) if has_scheme(source) else _local(Path(source))
    if isinstance(source, Path):
        return _local(source)
    if isinstance(source, OpenablePath):
        return SourceFile(str(source), lambda: _open(str(source), lambda: source.open("rb")))
    return _local(Path(source))


def _local(path: Path) -> SourceFile:
    if not path.exists():
        raise UnreadableSourceError(f"The source {path} does not exist on this machine.\nCheck the path.")
    return SourceFile(str(path), lambda: path.open("rb"), path)


def _url(url: str) -> SourceFile:
    import fsspec

    return SourceFile(url, lambda: _open(url, lambda: fsspec.open(url, "rb").open()))


def _open(name: str, opener: Callable[[], Any]) -> IO[bytes]:
    with _named_errors(name, "opened"):
        return cast("IO[bytes]", _NamedStream(opener(), name))


class _NamedStream(io.RawIOBase):
    """
    A seekable stream whose errors name the source.

    :param stream: the store's own stream. It is closed with this one.
    :param name: the source.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        with _named_errors(self._name, "read"):
            return self._stream.read(size)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with _named_errors(self._name, "read"):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


@contextmanager
def _named_errors(name: str, action: str) -> Iterator[None]:
    """Name the source in every error. Each store has error classes of its own."""
    try:
        yield
    except Exception as error:
        problem = redact((f"{type(error).__name__}: {error}".rstrip(": ").splitlines() or [""])[0])
        failure = error_class(error)
        advice = package_advice(name) if isinstance(error, ImportError) else "Check its name and the connection."
    else:
        return
    raise failure(f"The source {name} cannot be {action} ({problem}).\n{advice}")
