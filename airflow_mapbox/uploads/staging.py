"""Sends a source into the staging bucket, streamed in parts, and makes sure that all of it went."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Protocol

from airflow_mapbox.uploads.errors import MapboxError, StagingError
from airflow_mapbox.uploads.models import StagingCredentials
from airflow_mapbox.uploads.redaction import guard_loggers, redact
from airflow_mapbox.uploads.sources import Source

log = logging.getLogger(__name__)

# 10,000 parts of 8 MiB are 84 GB, more than any format may have, so one size fits all.
_PART_SIZE = 8 * 2**20
_PARTS_IN_FLIGHT = 4

STAGING_REGION = "us-east-1"  # "The bucket is located in AWS region us-east-1" (Uploads API, "Retrieve S3 credentials")


class S3Client(Protocol):
    """The one method of a boto3 S3 client that staging calls."""

    def upload_fileobj(self, Fileobj: Any, Bucket: str, Key: str, *, Config: Any) -> None:  # noqa: N803 - boto3's names
        """Send a stream to a key."""
        ...


@dataclass(frozen=True)
class StagedFile:
    """
    What is in the bucket now.

    :param url: what an upload is created from.
    :param bytes: how many were sent.
    """

    url: str
    bytes: int


class _CountedStream:
    """A stream that knows how much of it was read; not seekable, so that boto3 reads it once, from start to end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        return data


def stage(
    source: Source,
    credentials: StagingCredentials,
    s3: S3Client,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> StagedFile:
    """
    Send a source to the key that the credentials are for.

    At most ten parts of 8 MiB are in memory at a time, whatever the size.

    :param source: what to send.
    :param credentials: for one key of the staging bucket.
    :param s3: a boto3 S3 client that uses these credentials.
    :param clock: gives seconds, for the rate in the log.
    :raises StagingError: where S3 refuses, the connection breaks for good, or the source ends early or late.
    :raises SourceError: where the source can no longer be read.
    """
    from boto3.s3.transfer import TransferConfig

    guard_loggers()  # boto3's loggers exist by now
    config = TransferConfig(
        multipart_threshold=_PART_SIZE, multipart_chunksize=_PART_SIZE, max_concurrency=_PARTS_IN_FLIGHT
    )
    started = clock()
    failure: MapboxError | None = None
    with source.open() as stream:
        counted = _CountedStream(stream)
        try:
            s3.upload_fileobj(counted, credentials.bucket, credentials.key, Config=config)
        except MapboxError:
            raise
        except Exception as error:
            # boto3, urllib3 and every file system have trees of their own. Raised below, outside of the handler: the
            # original may carry headers with the session token.
            failure = StagingError(
                f"Staging {source.description} stopped after {counted.count:,} bytes were read: "
                f"{type(error).__name__}: {redact(str(error))} Nothing was created; try again."
            )
    if failure is not None:
        raise failure
    if source.size is not None and counted.count != source.size:
        raise StagingError(
            f"{source.description} had {source.size:,} bytes when it was looked at and {counted.count:,} when it was "
            "sent: something is still writing it. Nothing was created; upload it once it is whole."
        )
    seconds = max(clock() - started, 1e-3)
    log.info(
        "Staged %s: %s bytes in %.1f s (%.1f MB/s)",
        source.description,
        f"{counted.count:,}",
        seconds,
        counted.count / seconds / 1e6,
    )
    return StagedFile(credentials.url, counted.count)
