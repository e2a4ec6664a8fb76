"""A file at an ``https://`` URL as a source: only safe redirects, and a body that is known to be complete."""

from __future__ import annotations

import gzip
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Self, cast
from urllib.parse import urljoin, urlsplit

import requests

from airflow_mapbox.errors import SourceError, SourceUnavailableError, UnreadableSourceError, without_frames
from airflow_mapbox.http.environment import UNREADABLE_CERTIFICATES
from airflow_mapbox.http.retry import LOST_ON_THE_WAY
from airflow_mapbox.security.endpoints import is_internal, is_loopback
from airflow_mapbox.sources.identity import describe, path_fingerprint
from airflow_mapbox.sources.ranges import Ranges, within
from airflow_mapbox.sources.source import Fingerprint, Source

_FIRST_BYTES = 16 * 1024  # one block of the readers that read parts
_PART_SECONDS = 60.0
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
        ranges=lambda: web_ranges(url, first.size, first.fingerprint),
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
    response = _get(session, url, description)
    if response.status_code == 200:
        return _file(response, description)
    response.close()
    raise _refused(response, description)


def _get(session: requests.Session, url: str, description: str, **headers: str) -> requests.Response:
    try:
        return session.get(url, stream=True, timeout=_TIMEOUT, headers=headers)
    except requests.RequestException as error:
        problem: SourceError = SourceUnavailableError(
            f"The source {description} could not be read ({type(error).__name__}).\nCheck the URL, and whether this "
            "worker can reach that server."
        )
    except OSError:  # requests raises it for an unreadable certificate bundle
        problem = SourceError(UNREADABLE_CERTIFICATES)
    raise problem


def _refused(response: requests.Response, description: str) -> SourceError:
    status = response.status_code
    transient = status >= 500 or status == 429 or status in LOST_ON_THE_WAY
    return (SourceUnavailableError if transient else UnreadableSourceError)(
        f"The source {description} answered {status}.\nCheck the URL, and that it needs no login."
    )


class WebRanges:
    """
    Parts of a file on the web, each of them with a request of its own.

    :param url: an ``https`` URL, or an ``http`` URL on the loopback.
    :param size: the file's size in bytes.
    :param fingerprint: values that change with the content, as the file's first response had them.
    """

    def __init__(self, url: str, size: int, fingerprint: Fingerprint) -> None:
        self.size = size
        self._url = url
        self._description = describe(url)
        self._fingerprint = dict(fingerprint)
        self._session = _Session(url)
        # A compressed part would not have the offsets of the file.
        self._session.headers["Accept-Encoding"] = "identity"
        self._head = b""

    def has_ranges(self) -> bool:
        """
        Return whether the server sends parts of this file. The first part is kept.

        :raises SourceError: if the server cannot be reached, or redirects to where data must not come from.
        """
        self._head = self._part(0, within(self.size, 0, _FIRST_BYTES)) or b""
        return bool(self._head)

    def read(self, start: int, length: int) -> bytes:
        """
        Return a part of the file; shorter only at the file's end.

        :param start: offset of the first byte.
        :param length: number of bytes.
        :raises SourceError: if it cannot be read.
        :raises SourceUnavailableError: if the server fails, or the file has changed.
        """
        length = within(self.size, start, length)
        if start + length <= len(self._head):
            return self._head[start : start + length]
        if start < len(self._head):
            return self._head[start:] + self.read(len(self._head), start + length - len(self._head))
        part = self._part(start, length) if length else b""
        if part is None:
            raise SourceUnavailableError(
                f"The source {self._description} changed while it was checked, or its server stopped sending parts of "
                "it.\nRun the task again after its writer has finished."
            )
        return part

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @without_frames  # a redirect may lead to a signed URL
    def _part(self, start: int, length: int) -> bytes | None:
        """Return a part of the file; None if the server replies with anything else. Its body is not read then."""
        response = _get(self._session, self._url, self._description, Range=f"bytes={start}-{start + length - 1}")
        with response:
            if response.status_code >= 500 or response.status_code == 429:
                raise _refused(response, self._description)
            if response.status_code != 206 or not self._is_part(response, start, length):
                return None
            return _read_part(response, length, self._description)

    def _is_part(self, response: requests.Response, start: int, length: int) -> bool:
        headers = response.headers
        return (
            headers.get("Content-Range", "").strip() == f"bytes {start}-{start + length - 1}/{self.size}"
            and headers.get("Content-Encoding", "identity").lower() in ("", "identity")
            and all(headers.get(name, value) == value for name, value in self._fingerprint.items() if name != "size")
        )


def web_ranges(url: str, size: int | None, fingerprint: Fingerprint) -> Ranges | None:
    """
    Return the parts of a file on the web; None if the server sends only the whole file, compresses it, or changed it.

    :param url: an ``https`` URL, or an ``http`` URL on the loopback.
    :param size: the file's size in bytes; None if it is unknown.
    :param fingerprint: values that change with the content, as the file's first response had them.
    :raises SourceError: if the server redirects to where data must not come from.
    """
    if not size:
        return None
    ranges = WebRanges(url, size, fingerprint)
    has_ranges = False
    try:
        # A server that fails here can still send the whole file.
        with suppress(SourceUnavailableError):
            has_ranges = ranges.has_ranges()
    finally:
        if not has_ranges:
            ranges.close()
    return ranges if has_ranges else None


def _read_part(response: requests.Response, length: int, description: str) -> bytes:
    """Return the body of a response with one part. Its deadline holds even if bytes keep coming slowly."""
    deadline = time.monotonic() + _PART_SECONDS
    data = bytearray()
    problem = "the response is incomplete"
    try:
        # Before 2.2, urllib3 has no read1, so a slow server can pass the deadline by one part.
        read = getattr(response.raw, "read1", response.raw.read)
        while len(data) < length and (block := read(length - len(data))):
            data += block
            if time.monotonic() > deadline:
                problem = f"it took more than {_PART_SECONDS:g} s"
                break
    except Exception as error:
        problem = type(error).__name__
    if len(data) == length:
        return bytes(data)
    raise SourceUnavailableError(
        f"A part of the source {description} could not be read ({problem}).\nCheck the URL, and whether this "
        "worker can reach that server."
    )


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
