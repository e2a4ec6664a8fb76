"""Anything that holds the bytes of one file, seen as one thing: a description, a size where known, a stream."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast, runtime_checkable
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import requests

from airflow_mapbox.uploads.address import is_loopback, refuse_secrets
from airflow_mapbox.uploads.errors import SourceError, SourceUnavailableError
from airflow_mapbox.uploads.redaction import redact

if TYPE_CHECKING:
    from typing import TypeAlias

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WEB = re.compile(r"https?://", re.IGNORECASE)
_HTTP_TIMEOUT = (10.0, 60.0)  # to connect, and between bytes: a file may take as long as it takes


@runtime_checkable
class ReadablePath(Protocol):
    """What is needed of an object-storage path; Airflow's ``ObjectStoragePath`` is one."""

    def open(self, mode: str = ...) -> IO[bytes]:
        """Open it for reading."""
        ...

    def stat(self) -> Any:
        """Say how large it is."""
        ...


SourceLike: TypeAlias = "str | os.PathLike[str] | ReadablePath"


@dataclass(frozen=True)
class Source:
    """
    The bytes of one file.

    :param description: a path or URL that may be shown: no query, no password.
    :param size: bytes, or None where it is not known before reading.
    :param open: opens a stream of the bytes from the start; the caller closes it.
    :param path: the local file, where it is one.
    """

    description: str
    size: int | None
    open: Callable[[], IO[bytes]]
    path: Path | None = None

    @property
    def suffix(self) -> str:
        """The ending of its name, lower case, with the dot."""
        return Path(self.description).suffix.lower()


def open_source(source: SourceLike) -> Source:
    """
    Find out what a source is.

    :param source: a local path, an ``https://`` URL, or an object with ``open`` and ``stat``.
    :raises SourceError: where it does not exist, is no file, or is of a kind that cannot be read.
    :raises ConfigurationError: where it carries a secret.
    """
    refuse_secrets(source)
    if isinstance(source, str) and _WEB.match(source):
        return _web_source(source)
    if isinstance(source, str) and source.startswith("file://"):
        return _local_source(Path(unquote(urlsplit(source).path)))
    if isinstance(source, str) and _SCHEME.match(source):
        raise SourceError(f"{source!r} is no local path and no https URL; give object storage as an ObjectStoragePath.")
    if isinstance(source, str | Path):
        return _local_source(Path(source))
    if isinstance(source, ReadablePath):
        return _object_source(source)
    if isinstance(source, os.PathLike):
        return _local_source(Path(source))
    raise SourceError(f"A {type(source).__name__} cannot be uploaded: give a path, a URL or an ObjectStoragePath.")


def _local_source(path: Path) -> Source:
    problem, size = None, 0
    try:
        if not path.is_file():
            exists = "is no regular file" if path.exists() else "does not exist on this worker"
            problem = "is a folder" if path.is_dir() else exists
        else:
            size = path.stat().st_size
    except OSError as error:
        problem = f"cannot be looked at ({error.strerror})"
    if problem is not None:
        raise SourceError(
            f"The source file {path} {problem}. Check the path, and that the task that wrote it ran on the same "
            "machine or on storage that all workers share."
        )
    return Source(str(path), size, lambda: _opened(str(path), lambda: path.open("rb")), path)


def _object_source(path: ReadablePath) -> Source:
    description = str(path)
    problem, size = None, None
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = -1
    except Exception as error:
        # Every store has a tree of errors of its own, and a missing connection another.
        problem = f"cannot be looked at ({type(error).__name__}: {redact(str(error))})"
    if size == -1:
        problem = "does not exist"
    if problem is not None:
        raise SourceError(f"The source {description} {problem}. Check the bucket, the key and the connection.")
    return Source(description, size, lambda: _opened(description, lambda: path.open("rb")))


def _opened(description: str, opener: Callable[[], IO[bytes]]) -> IO[bytes]:
    try:
        return opener()
    except OSError as error:
        problem = redact(error.strerror or str(error))
    raise SourceError(f"The source {description} cannot be read: {problem}.")


def _web_source(url: str) -> Source:
    _check_web_address(url)
    description = urlunsplit(urlsplit(url)._replace(query="", fragment=""))
    with _get(url, description) as response:
        length = response.headers.get("Content-Length")
        encoded = "Content-Encoding" in response.headers
    size = int(length) if length is not None and length.isdigit() and not encoded else None
    return Source(description, size, lambda: _web_stream(url, description))


def _web_stream(url: str, description: str) -> IO[bytes]:
    response = _get(url, description)  # closed with the stream
    response.raw.decode_content = True
    return cast("IO[bytes]", response.raw)


class _SourceSession(requests.Session):
    """Follows redirects as long as each leads to where a source may come from."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            _check_web_address(urljoin(resp.url, target))
        return target


def _get(url: str, description: str) -> requests.Response:
    failure: SourceError
    try:
        response = _SourceSession().get(url, stream=True, timeout=_HTTP_TIMEOUT)
    except requests.exceptions.RequestException as error:
        failure = SourceUnavailableError(
            f"The source {description} could not be read ({type(error).__name__}). Check the URL, and whether that "
            "server can be reached from this worker."
        )
    else:
        if response.status_code == 200:
            return response
        response.close()
        passing = response.status_code >= 500 or response.status_code == 429
        failure = (SourceUnavailableError if passing else SourceError)(
            f"The source {description} answered {response.status_code}. Check the URL, and that it needs no login."
        )
    raise failure


def _check_web_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise SourceError("The source is a web address that cannot be read as one. Check its host and port.")
    if parts.scheme != "https" and not is_loopback(host):
        raise SourceError(
            f"The source leads to {host} over plain http, where anybody on the way could change the data: use https."
        )
