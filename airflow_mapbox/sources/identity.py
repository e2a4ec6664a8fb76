"""The identity of a source: its description without a secret, and a digest of its whole text."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from airflow_mapbox.errors import SourceError
from airflow_mapbox.sources.source import ReadablePath, Source
from airflow_mapbox.sources.streams import ReadableStream

_WEB = re.compile(r"https?://", re.IGNORECASE)
_FILE = "file://"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DATASET_URL = re.compile(r"mapbox://datasets/(?P<owner>[A-Za-z0-9_-]+)/(?P<dataset>[A-Za-z0-9_-]+)")


def is_web_url(source: object) -> bool:
    """
    Return whether a source is an ``http(s)://`` URL.

    :param source: the source.
    """
    return isinstance(source, str) and _WEB.match(source) is not None


def has_scheme(source: str) -> bool:
    """
    Return whether a string is a URL and not a local path.

    :param source: the source.
    """
    return _SCHEME.match(source) is not None


def is_dataset_url(source: object) -> bool:
    """
    Return whether a source is a Mapbox dataset, which needs no staging.

    :param source: the source.
    """
    return isinstance(source, str) and _DATASET_URL.fullmatch(source) is not None


def file_url_path(source: object) -> str | None:
    """
    Return the path of a ``file://`` URL; None for any other source.

    :param source: the source.
    :raises SourceError: if it is not a valid URL.
    """
    return unquote(_split(source).path) if isinstance(source, str) and source.startswith(_FILE) else None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # its message may contain the host with a password
        raise SourceError("The source is not a valid URL.\nCheck its host and port.") from None


def describe(source: object) -> str:
    """
    Return the description of a source without opening it: no query, no password.

    :param source: as :func:`~airflow_mapbox.sources.resolve.open_source` takes it.
    :raises SourceError: if it is not a valid URL.
    """
    if isinstance(source, Source):
        return source.description
    if isinstance(source, str) and is_web_url(source):
        return urlunsplit(_split(source)._replace(query="", fragment=""))
    path = file_url_path(source)
    if path is not None:
        return path
    if isinstance(source, ReadableStream):
        return str(getattr(source, "name", "")) or "the given stream"
    return "the given iterator" if isinstance(source, Iterator) else str(source)


def identity(source: object) -> str | None:
    """
    Return a digest of the whole path or URL, query included; None for a stream or an iterator.

    :param source: as :func:`~airflow_mapbox.sources.resolve.open_source` takes it.
    """
    if isinstance(source, str | os.PathLike) or (isinstance(source, ReadablePath) and not hasattr(source, "read")):
        return hashlib.sha256(str(source).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return None


def path_fingerprint(source: object) -> dict[str, str | int]:
    """
    Return the part of a fingerprint that identifies the path or URL.

    :param source: the source.
    """
    digest = identity(source)
    return {} if digest is None else {"source": digest}
