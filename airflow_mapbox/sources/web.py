"""A file on the web: redirects that may be followed, and a body that is known to be whole."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import IO, Any, cast
from urllib.parse import urljoin, urlsplit

import requests

from airflow_mapbox.errors import SourceError, SourceUnavailableError, without_frames
from airflow_mapbox.http.retry import LOST_ON_THE_WAY
from airflow_mapbox.security.endpoints import is_internal, is_loopback

_TIMEOUT = (10.0, 60.0)  # to connect, and between bytes: a file may take as long as it takes
_CODINGS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz"})


@dataclass(frozen=True)
class WebFile:
    """
    A file whose answer has begun.

    :param stream: its bytes, unpacked. Reading one that was cut off raises an error.
    :param size: bytes, or None if the server does not tell.
    :param fingerprint: what changes with the content: size, and ETag or Last-Modified.
    """

    stream: IO[bytes]
    size: int | None
    fingerprint: dict[str, str | int]


@without_frames  # a redirect may lead to a signed URL
def open_url(url: str, description: str) -> WebFile:
    """
    Ask for a file on the web.

    :param url: with ``https``, or with ``http`` on the loopback.
    :param description: the URL as it may be shown.
    :raises SourceError: if the file cannot be read, or could be cut off without anybody noticing.
    :raises SourceUnavailableError: if it cannot be read just now.
    """
    check_url(url)
    session = _Session(url)
    session.headers["Accept-Encoding"] = "gzip"
    try:
        response = session.get(url, stream=True, timeout=_TIMEOUT)
    except requests.RequestException as error:
        problem: SourceError = SourceUnavailableError(
            f"The source {description} could not be read ({type(error).__name__}).\nCheck the URL, and whether that "
            "server can be reached from this worker."
        )
    except OSError:  # requests' own word for it
        problem = SourceError(
            "The certificates that the environment names in REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE cannot be read: check "
            "the path, and that they are PEM."
        )
    else:
        if response.status_code == 200:
            return _file(response, description)
        response.close()
        status = response.status_code
        problem = (
            SourceUnavailableError if status >= 500 or status == 429 or status in LOST_ON_THE_WAY else SourceError
        )(f"The source {description} answered {status}.\nCheck the URL, and that it needs no login.")
    raise problem


def check_url(url: str) -> None:
    """
    Refuse an address that data should not come from.

    :param url: of a file.
    :raises SourceError: if it is not a URL, or plain http to another machine.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise SourceError("The source is a web address that cannot be read as one.\nCheck its host and port.")
    if parts.scheme != "https" and not is_loopback(host):
        raise SourceError(
            f"The source leads to {host} over plain http, where anybody on the way could change the data: use https."
        )


class _Session(requests.Session):
    """
    Follows a redirect if a source may come from its target.

    A server on the internet must not be able to have this worker read what only the worker can reach.

    :param url: where it begins.
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
                    f"The source redirects to {parts.hostname}, which is this machine or in a private network, and the "
                    "source itself is not: refused.\nGive that address as the source if it is meant."
                )
        return target


class _Gunzipped(gzip.GzipFile):
    """The standard library's reader, which raises where a file is cut off; urllib3's does not."""

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
    # What is no coding of the content's, such as a store's aws-chunked or a character set, changes no bytes.
    codings = [coding for coding in map(str.strip, encoding.split(",")) if coding in _CODINGS]
    if codings not in ([], ["gzip"], ["x-gzip"]):
        response.close()
        raise SourceError(
            f"The source {description} was sent packed in a way that was not asked for ({encoding}).\nFetch the file "
            "in a task before this one."
        )
    if not length.isdigit() and "chunked" not in headers.get("Transfer-Encoding", "").lower():
        response.close()
        raise SourceError(
            f"The source {description} was sent without its length, so that an answer that breaks off looks like a "
            "whole one.\nFetch the file in a task before this one and check it there, or have the server send a "
            "Content-Length."
        )
    packed = bool(codings)
    size = int(length) if length.isdigit() and not packed else None
    fingerprint: dict[str, str | int] = {} if size is None else {"size": size}
    validator = next((name for name in ("ETag", "Last-Modified") if name in headers), None)
    if validator is not None:
        fingerprint[validator.lower()] = headers[validator]
    return WebFile(cast("IO[bytes]", _Gunzipped(raw) if packed else raw), size, fingerprint)
