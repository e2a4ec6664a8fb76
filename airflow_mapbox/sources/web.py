"""A file at an ``https://`` URL as a source: only safe redirects, and a body that is known to be complete."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import IO, Any, cast
from urllib.parse import urljoin, urlsplit

import requests

from airflow_mapbox.errors import SourceError, SourceUnavailableError, UnreadableSourceError, without_frames
from airflow_mapbox.http.environment import UNREADABLE_CERTIFICATES
from airflow_mapbox.http.retry import LOST_ON_THE_WAY
from airflow_mapbox.security.endpoints import is_internal, is_loopback
from airflow_mapbox.sources.identity import describe, path_fingerprint
from airflow_mapbox.sources.source import Source

_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two chunks; the whole file may take longer
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz"})


def web_source(url: str) -> Source:
    """
    Return the source of a file on the web.

    :param url: an ``https`` URL, or an ``http`` URL on the loopback.
    :raises SourceError: if the file cannot be read, or may arrive incomplete without an error.
    :raises SourceUnavailableError: if it cannot be read at the moment.
    """
    check_url(url)
    description = describe(url)
    first = open_url(url, description)  # this response has the size, and is also the first to be read
    return Source(
        description,
        first.size,
        lambda: open_url(url, description).stream,
        fingerprint=path_fingerprint(url) | first.fingerprint,
        first=first.stream,
    )


@dataclass(frozen=True)
class WebFile:
    """
    A file whose response has started.

    :param stream: its bytes, decompressed. Reading an incomplete response raises an error.
    :param size: bytes; None if the server does not say.
    :param fingerprint: values that change with the content: size, and ETag or Last-Modified.
    """

    stream: IO[bytes]
    size: int | None
    fingerprint: dict[str, str | int]


@without_frames  # a redirect may lead to a signed URL
def open_url(url: str, description: str) -> WebFile:
    """
    Request a file on the web.

    :param url: an ``https`` URL, or an ``http`` URL on the loopback.
    :param description: the URL without its query.
    :raises SourceError: if the file cannot be read, or may arrive incomplete without an error.
    :raises SourceUnavailableError: if it cannot be read at the moment.
    """
    check_url(url)
    session = _Session(url)
    session.headers["Accept-Encoding"] = "gzip"
    try:
        response = session.get(url, stream=True, timeout=_TIMEOUT)
    except requests.RequestException as error:
        problem: SourceError = SourceUnavailableError(
            f"The source {description} could not be read ({type(error).__name__}).\nCheck the URL, and whether this "
            "worker can reach that server."
        )
    except OSError:  # requests raises it for an unreadable certificate bundle
        problem = SourceError(UNREADABLE_CERTIFICATES)
    else:
        if response.status_code == 200:
            return _file(response, description)
        response.close()
        status = response.status_code
        transient = status >= 500 or status == 429 or status in LOST_ON_THE_WAY
        problem = (SourceUnavailableError if transient else UnreadableSourceError)(
            f"The source {description} answered {status}.\nCheck the URL, and that it needs no login."
        )
    raise problem


def check_url(url: str) -> None:
    """
    Refuse an address that data must not come from.

    :param url: URL of a file.
    :raises SourceError: if it is not a URL, or is plain http to another machine.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise SourceError("The source is not a valid web address.\nCheck its host and port.")
    if parts.scheme != "https" and not is_loopback(host):
        raise SourceError(
            f"The source leads to {host} over plain http, where others could change the data on its way: use https."
        )


class _Session(requests.Session):
    """
    Follows a redirect only to a target that a source may come from.

    A server on the internet must not make this worker read what only the worker can reach.

    :param url: the first URL.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._internal = is_internal(str(parts.hostname))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            absolute = urljoin(resp.url, target)
            check_url(absolute)
            parts = urlsplit(absolute)
            if self._secure and parts.scheme != "https":
                raise SourceError(f"The source redirects from https to plain http, to {parts.hostname}: refused.")
            if not self._internal and is_internal(str(parts.hostname)):
                raise SourceError(
                    f"The source redirects to {parts.hostname}, which is this machine or in a private network. The "
                    "source itself is not: refused.\nIf that address is right, give it as the source."
                )
        return target


class _Gunzipped(gzip.GzipFile):
    """The standard library's reader. It raises for an incomplete file; urllib3's reader does not."""

    def __init__(self, raw: Any) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._raw = raw

    def close(self) -> None:
        super().close()
        self._raw.close()


def _file(response: requests.Response, description: str) -> WebFile:
    headers, raw = response.headers, response.raw
    raw.decode_content = False
    length, encoding = headers.get("Content-Length", ""), headers.get("Content-Encoding", "").lower()
    # Other values, such as a store's aws-chunked or a character set, change no bytes.
    encodings = [name for name in map(str.strip, encoding.split(",")) if name in _ENCODINGS]
    if encodings not in ([], ["gzip"], ["x-gzip"]):
        response.close()
        raise SourceError(
            f"The server compressed the source {description} in a way that was not requested ({encoding}).\nDownload "
            "the file in a task before this one."
        )
    if not length.isdigit() and "chunked" not in headers.get("Transfer-Encoding", "").lower():
        response.close()
        raise SourceError(
            f"The server sent the source {description} without its length, so an incomplete response looks complete.\n"
            "Download the file in a task before this one and check it there, or let the server send a Content-Length."
        )
    compressed = bool(encodings)
    size = int(length) if length.isdigit() and not compressed else None
    fingerprint: dict[str, str | int] = {} if size is None else {"size": size}
    validator = next((name for name in ("ETag", "Last-Modified") if name in headers), None)
    if validator is not None:
        fingerprint[validator.lower()] = headers[validator]
    return WebFile(cast("IO[bytes]", _Gunzipped(raw) if compressed else raw), size, fingerprint)
