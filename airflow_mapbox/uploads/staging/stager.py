"""Send a source to the staging bucket, streamed in parts, and check that all of it arrived."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeAlias

from airflow_mapbox.defaults import PARTS_IN_FLIGHT
from airflow_mapbox.errors import OptionError, SourceError
from airflow_mapbox.security.redaction import guard_loggers
from airflow_mapbox.sources.source import Source
from airflow_mapbox.sources.streams import ByteStream, Octets
from airflow_mapbox.uploads.errors import StagingCredentialsExpiredError, StagingError, StagingStoppedError
from airflow_mapbox.uploads.models import StagingCredentials
from airflow_mapbox.uploads.staging.bucket import Bucket, PartReceipt

log = logging.getLogger(__name__)


MIB = 2**20
# S3's limits of a multipart upload (Amazon S3 User Guide, "Amazon S3 multipart upload limits").
SMALLEST_PART = 5 * MIB
LARGEST_PART = 5 * 2**30
MOST_PARTS = 10_000

# 10,000 parts of this size are 84 GB, more than any format allows. So it also fits a stream of unknown size.
_DEFAULT_PART = 8 * MIB
# A hundred parts keep all threads busy and the progress smooth. More parts would only be more requests.
_TARGET_PARTS = 100
_MAX_DEFAULT_PART = 64 * MIB
_CREDENTIALS_ATTEMPTS = 3

_LOG_INTERVAL_SECONDS = 10.0
_CANCEL_CHECK_SECONDS = 0.1
# Airflow kills a task five seconds after it has asked it to stop.
_ABORT_SECONDS = 3.0

Progress: TypeAlias = Callable[[int, int | None], None]


@dataclass(frozen=True)
class StagingOptions:
    """
    How to send a source.

    At most ``parts_in_flight`` times ``part_size`` bytes are in memory, whatever the source's size.

    :param part_size: bytes of a part, 5 MiB to 5 GiB. None chooses it by the size: a hundredth, from 8 to 64 MiB.
    :param parts_in_flight: number of parts that are read or sent at the same time.
    :param progress: called with the bytes that have arrived and the size (None if unknown), from the sending threads.
    :raises ValueError: for values that S3 does not accept.
    """

    part_size: int | None = None
    parts_in_flight: int = PARTS_IN_FLIGHT
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.part_size is not None and not SMALLEST_PART <= self.part_size <= LARGEST_PART:
            raise OptionError(
                f"`part_size` is {self.part_size:,} bytes; S3 accepts {SMALLEST_PART:,} to {LARGEST_PART:,}"
            )
        if self.parts_in_flight < 1:
            raise OptionError("`parts_in_flight` must be at least 1")

    def part_size_for(self, size: int | None) -> int:
        """
        Return the part size for a source.

        :param size: bytes; None if unknown.
        :raises ValueError: if ``part_size`` makes more parts than S3 accepts.
        """
        if self.part_size is not None:
            if size is not None and size > self.part_size * MOST_PARTS:
                raise OptionError(
                    f"{size:,} bytes in parts of {self.part_size:,} are more than the {MOST_PARTS:,} parts that S3 "
                    "accepts: set a larger `part_size`, or leave it out"
                )
            return self.part_size
        if size is None:
            return _DEFAULT_PART
        target = min(max(size // _TARGET_PARTS, _DEFAULT_PART), _MAX_DEFAULT_PART)
        return max(target, -(-size // MOST_PARTS))


@dataclass(frozen=True)
class StagedFile:
    """
    A file in the staging bucket.

    :param url: URL to create an upload from.
    :param bytes: number of bytes.
    :param sha256: their checksum, hexadecimal.
    """

    url: str
    bytes: int
    sha256: str


class Staging:
    """
    The staging of one source under one key.

    :param source: the source.
    :param credentials: credentials for one key of the staging bucket.
    :param s3: a boto3 S3 client with these credentials.
    :param options: how to send it.
    :param limit: Mapbox's size limit in bytes, for sources whose size is unknown before.
    :param clock: returns seconds, for the rate and the log.
    """

    def __init__(
        self,
        source: Source,
        credentials: StagingCredentials,
        s3: Any,
        *,
        options: StagingOptions | None = None,
        limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._url = credentials.url
        self._bucket = Bucket(s3, credentials.bucket, credentials.key, source.description)
        self._options = options or StagingOptions()
        self._limit = limit
        self._clock = clock
        self._cancelled = threading.Event()
        sha256 = hashlib.sha256()
        # An export hashes its own bytes.
        self._hash = (lambda _: None) if source.checksum else sha256.update
        self._sha256 = source.checksum or sha256.hexdigest
        self._bytes_read = 0
        self._progress = _ProgressLog(source, self._options.progress, clock)

    def run(self) -> StagedFile:
        """
        Send the source, and compare the received bytes with the sent ones.

        :raises StagingCredentialsExpiredError: if the credentials expired.
        :raises StagingStoppedError: if :meth:`cancel` was called.
        :raises StagingError: if S3 refuses, the connection fails, or the source has another size than before.
        :raises SourceError: if the source can no longer be read, or exceeds Mapbox's limit.
        """
        guard_loggers()  # boto3 has made its loggers by now
        part_size = self._options.part_size_for(self._source.size)
        started = self._clock()
        with self._source.open() as stream:
            # In a list, so that the sender holds the last reference: a part takes memory.
            first = [self._next_part(stream, part_size)]
            try:
                if len(first[0]) < part_size:
                    self._send_whole(first.pop())
                else:
                    self._send_in_parts(first, stream, part_size)
            except StagingError:
                self._check_cancelled()  # after an abort, the requests fail because of it
                raise
        seconds = max(self._clock() - started, 1e-3)
        log.info(
            "Staged %s: %s bytes in %.1f s (%.1f MB/s)",
            self._source.description,
            f"{self._bytes_read:,}",
            seconds,
            self._bytes_read / seconds / 1e6,
        )
        return StagedFile(self._url, self._bytes_read, self._sha256())

    def cancel(self) -> None:
        """
        Stop, and delete the parts sent so far. Safe in a signal handler; takes at most three seconds.

        Abort from a new thread: the interrupted one may hold a lock.
        """
        self._cancelled.set()
        abort = threading.Thread(target=self._bucket.abort, daemon=True)
        abort.start()
        abort.join(_ABORT_SECONDS)

    def _send_whole(self, data: bytes) -> None:
        self._check_end()
        self._check_cancelled()
        self._bucket.put(data)
        self._progress.add(len(data))
        self._bucket.check_size(len(data))

    def _send_in_parts(self, first: list[bytes], stream: ByteStream, part_size: int) -> None:
        threads = ThreadPoolExecutor(self._options.parts_in_flight, thread_name_prefix="staging")
        sent: list[PartReceipt] = []
        in_flight: set[Future[PartReceipt]] = set()
        finished = False
        try:
            self._bucket.begin()
            part, number = first.pop(), 1
            while part:
                if number > MOST_PARTS:
                    raise StagingError(
                        f"{self._source.description} is longer than {MOST_PARTS:,} parts of {part_size:,} bytes, S3's "
                        "limit. No upload was created; set a larger `part_size`."
                    )
                in_flight.add(threads.submit(self._send_part, number, part))
                del part
                sent += self._collect(in_flight, at_most=self._options.parts_in_flight - 1)
                part, number = self._next_part(stream, part_size), number + 1
            sent += self._collect(in_flight, at_most=0)
            self._check_end()
            self._bucket.complete(sorted(sent))
            finished = True
        finally:
            # Wait for the parts in flight, unless Airflow is about to kill the process.
            threads.shutdown(wait=not self._cancelled.is_set(), cancel_futures=True)
            if not finished:
                self._bucket.abort()
        self._bucket.check_size(self._bytes_read)

    def _send_part(self, number: int, data: bytes) -> PartReceipt:
        receipt = self._bucket.put_part(number, data)
        self._progress.add(len(data))
        return receipt

    def _collect(self, in_flight: set[Future[PartReceipt]], *, at_most: int) -> list[PartReceipt]:
        """Wait until at most this many parts are in flight, and return the receipts of those that have arrived."""
        receipts: list[PartReceipt] = []
        while True:
            self._check_cancelled()
            timeout = 0 if len(in_flight) <= at_most else _CANCEL_CHECK_SECONDS
            done, _ = wait(in_flight, timeout, return_when=FIRST_COMPLETED)
            in_flight -= done
            receipts += [future.result() for future in done]
            if len(in_flight) <= at_most:
                return receipts

    def _next_part(self, stream: ByteStream, size: int) -> bytes:
        """Read a whole part, or the rest of the stream."""
        part = stream.read(size)
        if 0 < len(part) < size or not isinstance(part, bytes):  # boto3 accepts no memoryviews
            part = _filled(part, stream, size)
        self._hash(part)
        self._bytes_read += len(part)
        if self._limit is not None and self._bytes_read > self._limit:
            raise SourceError(
                f"{self._source.description} is longer than {self._limit:,} bytes, Mapbox's limit for its format. "
                "No upload was created.\nSend fewer features or attributes, or make vector tiles of it (MBTiles)."
            )
        return part

    def _check_end(self) -> None:
        if self._source.size is not None and self._bytes_read != self._source.size:
            raise StagingError(
                f"{self._source.description} had {self._source.size:,} bytes when it was checked and "
                f"{self._bytes_read:,} when it was sent: something is still writing it. No upload was created; upload "
                "the file once it is complete."
            )

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise StagingStoppedError(
                f"Staging {self._source.description} was stopped after {self._progress.count:,} bytes, because the "
                "task was asked to stop. No upload was created."
            )


def _filled(start: Octets, stream: ByteStream, size: int) -> bytes:
    """
    Return a part that has the given start. Read until it has the size, or the stream ends.

    All chunks go into one buffer, which becomes the result without a copy. Joining chunks would need twice the memory.
    """
    buffer = io.BytesIO()
    buffer.seek(size - 1)
    buffer.write(b"\0")
    buffer.seek(0)
    buffer.write(start)
    while buffer.tell() < size and (chunk := stream.read(size - buffer.tell())):
        buffer.write(chunk)
    buffer.truncate()
    return buffer.getvalue()


class Stager:
    """
    Stages sources, each under a key of its own.

    :param get_credentials: requests credentials for one key from Mapbox.
    :param make_s3_client: makes a boto3 S3 client with credentials.
    :param options: how to send sources.
    """

    def __init__(
        self,
        get_credentials: Callable[[], StagingCredentials],
        make_s3_client: Callable[[StagingCredentials], Any],
        options: StagingOptions | None = None,
    ) -> None:
        self._get_credentials = get_credentials
        self._make_s3_client = make_s3_client
        self._options = options
        self._current: Staging | None = None
        self._stopped = threading.Event()

    def stage(self, source: Source, limit: int | None = None) -> StagedFile:
        """
        Stage a source. If the credentials expire, start again with new ones.

        :param source: the source.
        :param limit: Mapbox's size limit in bytes, or None.
        :raises StagingCredentialsExpiredError: if the credentials expire several times, or the source cannot be read
            again.
        :raises StagingError: as :meth:`Staging.run` does.
        :raises MapboxError: for every error of the API or the source.
        """
        for attempts_left in reversed(range(_CREDENTIALS_ATTEMPTS)):
            self._check_stopped(source)
            credentials = self._get_credentials()
            s3 = self._make_s3_client(credentials)
            self._current = Staging(source, credentials, s3, options=self._options, limit=limit)
            self._check_stopped(source)  # `cancel` may have run before `_current` was set
            failure: StagingCredentialsExpiredError
            try:
                return self._current.run()
            except StagingCredentialsExpiredError as error:
                failure = error
            finally:
                self._current = None
            if not source.rereadable:
                raise StagingCredentialsExpiredError(
                    f"{failure} {source.description} can be read only once. Run the task again."
                )
            if not attempts_left:
                raise failure
            log.info("%s Staging it again with new credentials.", failure)
        raise AssertionError("the last try returns or raises")

    def cancel(self) -> None:
        """Stop the running staging as :meth:`Staging.cancel` does, and start no other."""
        self._stopped.set()
        current = self._current
        if current is not None:
            current.cancel()

    def _check_stopped(self, source: Source) -> None:
        if self._stopped.is_set():
            raise StagingStoppedError(
                f"Staging {source.description} was stopped before it started, because the task was asked to stop. No "
                "upload was created."
            )


class _ProgressLog:
    """Logs progress at most every ten seconds; thread-safe."""

    def __init__(self, source: Source, progress: Progress | None, clock: Callable[[], float]) -> None:
        self._source = source
        self._progress = progress
        self._clock = clock
        self._started = self._last_line = clock()
        self._lock = threading.Lock()
        self.count = 0

    def add(self, size: int) -> None:
        """Count bytes that have arrived in the bucket."""
        with self._lock:
            self.count += size
            count, now = self.count, self._clock()
            due = now - self._last_line >= _LOG_INTERVAL_SECONDS
            if due:
                self._last_line = now
        if self._progress is not None:
            self._progress(count, self._source.size)
        if due:
            total = f" of {self._source.size:,} ({count / self._source.size:.0%})" if self._source.size else ""
            rate = count / (now - self._started) / 1e6
            log.info("Staging %s: %s%s bytes, %.1f MB/s", self._source.description, f"{count:,}", total, rate)
