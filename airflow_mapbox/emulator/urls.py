"""Parse the ``url`` of a create call: a staged object or a dataset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from airflow_mapbox.emulator.errors import ApiMessage, RefusedError

DATASET = re.compile(r"mapbox://datasets/([A-Za-z0-9_-]{1,64})/([A-Za-z0-9_-]{1,64})\Z")
S3_HOSTS = ("s3.amazonaws.com", "s3.us-east-1.amazonaws.com", "s3-us-east-1.amazonaws.com")


@dataclass(frozen=True)
class Source:
    """An upload's data: the key of a staged object, or a dataset's owner and id."""

    key: str | None
    dataset: tuple[str, str] | None


def parse_source(url: str, *, bucket: str) -> Source:
    """Return the source that a create call's ``url`` refers to.

    :param url: the client's URL.
    :param bucket: the staging bucket's name.
    :raises RefusedError: 500 for every other URL, which is Mapbox's response to ``s3://`` and foreign buckets.
    """
    if match := DATASET.match(url):
        return Source(None, (match[1], match[2]))
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
    except ValueError:
        raise RefusedError(500, ApiMessage.INTERNAL) from None
    if parts.scheme not in ("http", "https"):
        raise RefusedError(500, ApiMessage.INTERNAL)
    path = unquote(parts.path).removeprefix("/")
    if host in {f"{bucket}.{s3}" for s3 in S3_HOSTS}:
        return Source(path, None)
    if host in S3_HOSTS and path.startswith(f"{bucket}/"):
        return Source(path.removeprefix(f"{bucket}/"), None)
    raise RefusedError(500, ApiMessage.INTERNAL)
