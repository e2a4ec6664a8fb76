"""Sends a source into the staging bucket, streamed in parts, and makes sure that all of it arrived."""

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

from airflow_mapbox.errors import OptionError, SourceError
from airflow_mapbox.security.redaction import guard_loggers
from airflow_mapbox.sources.source import ByteStream, Octets, Source
from airflow_mapbox.uploads.errors import StagingCredentialsExpiredError, StagingError, StagingStoppedError
from airflow_mapbox.uploads.models import StagingCredentials
from airflow_mapbox.uploads.staging.bucket import Bucket, PartReceipt

log = logging.getLogger(__name__)


MIB = 2**20
# S3's limits of a multipart upload (Amazon S3 User Guide, "Amazon S3 multipart upload limits").
SMALLEST_PART = 5 * MIB
LARGEST_PART = 5 * 2**30
MOST_PARTS = 10_000

# 10,000 of these are 84 GB, more than any format may have, so it also fits a stream whose size nobody knows.
_USUAL_PART = 8 * MIB
# A hundred parts are enough to keep all threads busy and the progress smooth; fewer requests are then better.
_PARTS_WANTED = 100
_LARGEST_USUAL_PART = 64 * MIB
_PARTS_IN_FLIGHT = 4
_TRIES_AT_CREDENTIALS = 3

_SECONDS_BETWEEN_LOG_LINES = 10.0
_SECONDS_UNTIL_CANCELLATION_IS_SEEN = 0.1
# Airflow kills a task five seconds after it has asked it to end.
_SECONDS_FOR_LAST_WORDS = 3.0

Progress: TypeAlias = Callable[[int, int | None], None]


@dataclass(frozen=True)
class StagingOptions:
    """
    How a source is sent.

    At most ``parts_in_flight`` times ``part_size`` bytes are in memory at a time, whatever the source's size.

    :param part_size: bytes of a part, 5 MiB to 5 GiB; None chooses it from the size: 8 MiB, of large files a hundredth
        up to 64 MiB.
    :param parts_in_flight: parts that are read or sent at the same time.
    :param progress: called with the bytes that have arrived and the size (None where it is not known), from the
        threads that send.
    :raises ValueError: for values that S3 does not take.
    """

    part_size: int | None = None
    parts_in_flight: int = _PARTS_IN_FLIGHT
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.part_size is not None and not SMALLEST_PART <= self.part_size <= LARGEST_PART:
            raise OptionError(
                f"`part_size` is {self.part_size:,} bytes; S3 takes {SMALLEST_PART:,} to {LARGEST_PART:,}"
            )
        if self.parts_in_flight < 1:
            raise OptionError("`parts_in_flight` is at least 1")

    def part_size_for(self, size: int | None) -> int:
        """
        Give the part size for a source.

        :param size: bytes, or None where it is not known.
        :raises ValueError: where the part size that was set makes more parts than S3 takes.
        """
        if self.part_size is not None:
            if size is not None and size > self.part_size * MOST_PARTS:
                raise OptionError(
                    f"{size:,} bytes in parts of {self.part_size:,} are more than the {MOST_PARTS:,} parts that S3 "
                    "takes: set a larger `part_size`, or leave it out"
                )
            return self.part_size
        if size is None:
            return _USUAL_PART
        wanted = min(max(size // _PARTS_WANTED, _USUAL_PART), _LARGEST_USUAL_PART)
        return max(wanted, -(-size // MOST_PARTS))


@dataclass(frozen=True)
class StagedFile:
    """
    What is in the bucket now.

    :param url: what an upload is created from.
    :param bytes: how many were sent.
    :param sha256: their digest, as hexadecimal text.
    """

    url: str
    bytes: int
    sha256: str


class Staging:
    """
    One source on its way to one key.

    :param source: what to send.
    :param credentials: for one key of the staging bucket.
    :param s3: a boto3 S3 client that uses these credentials.
    :param options: how it is sent.
    :param limit: bytes beyond which Mapbox would refuse it, for sources whose size is not known before.
    :param clock: gives seconds, for the rate and the rhythm of the log.
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
        digest = hashlib.sha256()
        # What is exported on the way was hashed there.
        self._hash = (lambda _: None) if source.digest else digest.update
        self._sha256 = source.digest or digest.hexdigest
        self._read = 0
        self._report = _ProgressLog(source, self._options.progress, clock)

    def run(self) -> StagedFile:
        """
        Send it, and compare what arrived with what was sent.

        :raises StagingCredentialsExpiredError: where the credentials did not last.
        :raises StagingStoppedError: where :meth:`cancel` was called.
        :raises StagingError: where S3 refuses, the connection breaks for good, or the source ends early or late.
        :raises SourceError: where the source can no longer be read, or is larger than Mapbox takes.
        """
        guard_loggers()  # boto3's loggers exist by now
        part_size = self._options.part_size_for(self._source.size)
        started = self._clock()
        with self._source.open() as stream:
            # In a list, so that whoever sends it is the last to hold it: a part counts in memory.
            first = [self._next_part(stream, part_size)]
            try:
                if len(first[0]) < part_size:
                    self._send_whole(first.pop())
                else:
                    self._send_in_parts(first, stream, part_size)
            except StagingError:
                self._check_cancelled()  # what fails once the parts are taken back fails because of that
                raise
        seconds = max(self._clock() - started, 1e-3)
        log.info(
            "Staged %s: %s bytes in %.1f s (%.1f MB/s)",
            self._source.description,
            f"{self._read:,}",
            seconds,
            self._read / seconds / 1e6,
        )
        return StagedFile(self._url, self._read, self._sha256())

    def cancel(self) -> None:
        """
        Stop, and take back what was begun; safe in a signal handler, and takes three seconds at most.

        The bucket is told from another thread, because the interrupted one may hold any lock.
        """
        self._cancelled.set()
        last_words = threading.Thread(target=self._bucket.abort, daemon=True)
        last_words.start()
        last_words.join(_SECONDS_FOR_LAST_WORDS)

    def _send_whole(self, data: bytes) -> None:
        self._check_end()
        self._check_cancelled()
        self._bucket.put(data)
        self._report.arrived(len(data))
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
                        f"{self._source.description} is longer than {MOST_PARTS:,} parts of {part_size:,} bytes, which "
                        "is the most that S3 takes. Nothing was created; set a larger `part_size`."
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
            # The parts still on their way end by themselves, unless the process is about to be killed.
            threads.shutdown(wait=not self._cancelled.is_set(), cancel_futures=True)
            if not finished:
                self._bucket.abort()
        self._bucket.check_size(self._read)

    def _send_part(self, number: int, data: bytes) -> PartReceipt:
        receipt = self._bucket.put_part(number, data)
        self._report.arrived(len(data))
        return receipt

    def _collect(self, in_flight: set[Future[PartReceipt]], *, at_most: int) -> list[PartReceipt]:
        """Wait until few enough parts are on their way, and give the receipts of those that have arrived."""
        receipts: list[PartReceipt] = []
        while True:
            self._check_cancelled()
            timeout = 0 if len(in_flight) <= at_most else _SECONDS_UNTIL_CANCELLATION_IS_SEEN
            done, _ = wait(in_flight, timeout, return_when=FIRST_COMPLETED)
            in_flight -= done
            receipts += [future.result() for future in done]
            if len(in_flight) <= at_most:
                return receipts

    def _next_part(self, stream: ByteStream, size: int) -> bytes:
        """Read a whole part, or what is left."""
        part = stream.read(size)
        if 0 < len(part) < size or not isinstance(part, bytes):  # boto3 takes no views
            part = _filled(part, stream, size)
        self._hash(part)
        self._read += len(part)
        if self._limit is not None and self._read > self._limit:
            raise SourceError(
                f"{self._source.description} goes on after {self._limit:,} bytes, the most that Mapbox takes of its "
                "format. Nothing was created.\nSend fewer features or attributes, or make vector tiles of it (MBTiles)."
            )
        return part

    def _check_end(self) -> None:
        if self._source.size is not None and self._read != self._source.size:
            raise StagingError(
                f"{self._source.description} had {self._source.size:,} bytes when it was looked at and "
                f"{self._read:,} when it was sent: something is still writing it. Nothing was created; upload it once "
                "it is whole."
            )

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise StagingStoppedError(
                f"Staging {self._source.description} was stopped after {self._report.count:,} bytes had arrived, "
                "because the task was asked to end. Nothing was created."
            )


def _filled(begun: Octets, stream: ByteStream, size: int) -> bytes:
    """
    Read on until there are so many bytes, or the stream ends.

    There is one buffer, whatever the pieces, and it becomes the result as it is: joining them would take the part's
    size twice.
    """
    buffer = io.BytesIO()
    buffer.seek(size - 1)
    buffer.write(b"\0")
    buffer.seek(0)
    buffer.write(begun)
    while buffer.tell() < size and (piece := stream.read(size - buffer.tell())):
        buffer.write(piece)
    buffer.truncate()
    return buffer.getvalue()


class Stager:
    """
    Stages sources, each under a key of its own.

    :param get_credentials: asks Mapbox for credentials of one key.
    :param make_s3_client: makes a boto3 S3 client of credentials.
    :param options: how sources are sent.
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
        Stage a source; where the credentials end in the middle, again from the start with others.

        :param source: what to send.
        :param limit: bytes beyond which Mapbox would refuse it.
        :raises StagingError: as :meth:`Staging.run` does; expired credentials where the source cannot be read again, or
            none last long enough.
        :raises MapboxError: as the API or the source has it.
        """
        for left in reversed(range(_TRIES_AT_CREDENTIALS)):
            self._check_stopped(source)
            credentials = self._get_credentials()
            s3 = self._make_s3_client(credentials)
            self._current = Staging(source, credentials, s3, options=self._options, limit=limit)
            self._check_stopped(source)  # from here on `cancel` finds what there is to stop
            failure: StagingCredentialsExpiredError
            try:
                return self._current.run()
            except StagingCredentialsExpiredError as error:
                failure = error
            finally:
                self._current = None
            if not source.rereadable:
                raise StagingCredentialsExpiredError(
                    f"{failure} {source.description} can be read only once, so it cannot be sent again from the start: "
                    "run the task again."
                )
            if not left:
                raise failure
            log.info("%s Staging it again from the start with new ones.", failure)
        raise AssertionError("the last try returns or raises")

    def cancel(self) -> None:
        """Stop the staging that is under way, see :meth:`Staging.cancel`, and begin no other."""
        self._stopped.set()
        current = self._current
        if current is not None:
            current.cancel()

    def _check_stopped(self, source: Source) -> None:
        if self._stopped.is_set():
            raise StagingStoppedError(
                f"Staging {source.description} was stopped before it began, because the task was asked to end. Nothing "
                "was created."
            )


class _ProgressLog:
    """Says how far staging is, every ten seconds, whichever thread comes by."""

    def __init__(self, source: Source, progress: Progress | None, clock: Callable[[], float]) -> None:
        self._source = source
        self._progress = progress
        self._clock = clock
        self._started = self._said = clock()
        self._lock = threading.Lock()
        self.count = 0

    def arrived(self, size: int) -> None:
        """Count bytes that are in the bucket."""
        with self._lock:
            self.count += size
            count, now = self.count, self._clock()
            due = now - self._said >= _SECONDS_BETWEEN_LOG_LINES
            if due:
                self._said = now
        if self._progress is not None:
            self._progress(count, self._source.size)
        if due:
            of_all = f" of {self._source.size:,} ({count / self._source.size:.0%})" if self._source.size else ""
            rate = count / (now - self._started) / 1e6
            log.info("Staging %s: %s%s bytes, %.1f MB/s", self._source.description, f"{count:,}", of_all, rate)
