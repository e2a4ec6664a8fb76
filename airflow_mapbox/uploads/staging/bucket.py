"""One object of the staging bucket, written in one request or in parts. S3's checksum of each is compared."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_mapbox.errors import MapboxError, without_frames
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.uploads.errors import StagingCredentialsExpiredError, StagingError

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

# S3's error codes for expired credentials (Amazon S3, "Error responses").
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_MD5 = re.compile(r"[0-9a-f]{32}")
_CORRUPT = "BadDigest"  # S3's error code if the received bytes do not match the checksum
# boto3 retries failed requests itself. These attempts are for parts that arrived corrupt.
_PART_ATTEMPTS = 3


@dataclass(frozen=True, order=True)
class PartReceipt:
    """
    S3's receipt of one part. Completing the upload needs all receipts.

    :param number: number of the part, from 1.
    :param etag: the ETag of S3's reply.
    :param crc32: CRC-32 of the sent bytes, base64.
    """

    number: int
    etag: str
    crc32: str


class Bucket:
    """
    One object of the staging bucket.

    :param s3: a boto3 S3 client.
    :param bucket: the bucket's name.
    :param key: the object's key.
    :param description: the source, for messages.
    """

    def __init__(self, s3: Any, bucket: str, key: str, description: str) -> None:
        self._s3 = s3
        self._at = {"Bucket": bucket, "Key": key}
        self._description = description
        self._upload_id: str | None = None
        self._lock = threading.Lock()

    def put(self, data: bytes) -> None:
        """
        Write the object in one request.

        :param data: all bytes of the object.
        :raises StagingError: if S3 refuses it, or received other bytes.
        """
        self._send("put_object", "the file", data)

    def begin(self) -> None:
        """
        Start to write the object in parts.

        :raises StagingError: if S3 refuses.
        """
        # S3 compares the checksum of each part only if it is announced here (Amazon S3 API, "CreateMultipartUpload").
        answer = self._call(
            "create_multipart_upload",
            lambda: self._s3.create_multipart_upload(**self._at, ChecksumAlgorithm="CRC32"),
        )
        self._upload_id = answer["UploadId"]

    def put_part(self, number: int, data: bytes) -> PartReceipt:
        """
        Write one part. A part that arrives corrupt is sent again.

        :param number: number of the part, from 1.
        :param data: the part.
        :raises StagingError: if S3 refuses it, or it arrives corrupt each time.
        """
        answer, crc32 = self._send("upload_part", f"part {number}", data, UploadId=self._upload_id, PartNumber=number)
        return PartReceipt(number, answer["ETag"], crc32)

    def complete(self, parts: list[PartReceipt]) -> None:
        """
        Complete the object from its parts.

        :param parts: receipts of all parts, in order.
        :raises StagingError: if S3 refuses.
        """
        listed = [{"PartNumber": part.number, "ETag": part.etag, "ChecksumCRC32": part.crc32} for part in parts]
        at = {**self._at, "UploadId": self._upload_id}
        try:
            answer = self._call(
                "complete_multipart_upload",
                lambda: self._s3.complete_multipart_upload(**at, MultipartUpload={"Parts": listed}),
            )
        except _MissingUploadError:
            # boto3 retries after a lost reply, and then the upload is completed already.
            answer = {}
            if self._head() is None:
                raise
        with self._lock:
            self._upload_id = None
        expected, actual = _etag_of(parts), _etag(answer)
        if expected is not None and actual.endswith(f"-{len(parts)}") and _etag_is_md5(answer) and actual != expected:
            raise StagingError(
                f"S3 joined the {len(parts):,} parts of {self._description} to an object that differs from what was "
                "sent. No upload was created; run the task again."
            )

    def check_size(self, size: int) -> None:
        """
        Compare the size of the object with the number of sent bytes, if Mapbox allows it.

        Mapbox's credentials are for writing one key. It is unknown whether they allow reading its size
        (docs/reference/undocumented.md). The checksums of all parts are compared in any case.

        :param size: number of sent bytes.
        :raises StagingError: if the sizes differ.
        """
        actual = self._head()
        if actual is not None and actual != size:
            raise StagingError(
                f"The staging bucket has {actual:,} bytes of {self._description}, but {size:,} were sent. No upload "
                "was created; run the task again."
            )

    def abort(self) -> None:
        """Delete the parts of an incomplete upload. If that fails, log it."""
        with self._lock:
            upload_id, self._upload_id = self._upload_id, None
        if upload_id is None:
            return
        try:
            self._s3.abort_multipart_upload(**self._at, UploadId=upload_id)
            log.info("Deleted the staged parts of %s", self._description)
        except Exception as error:
            log.info(
                "The staged parts of %s stay in Mapbox's bucket until Mapbox deletes them (%s)",
                self._description,
                type(error).__name__,
            )

    @without_frames
    def _head(self) -> int | None:
        """Return the object's size; None if it cannot be read."""
        try:
            return int(self._s3.head_object(**self._at)["ContentLength"])
        except Exception as error:
            log.debug("The size of the staged object cannot be read (%s)", type(error).__name__)
            return None

    @without_frames
    def _call(self, name: str, call: Callable[[], _Answer]) -> _Answer:
        """Make one call. Its errors contain nothing of boto3, whose objects may hold headers with the session token."""
        try:
            return call()
        except MapboxError:
            raise
        except Exception as error:
            code = _error_code(error)
            message = f"{type(error).__name__}: {redact(str(error))}"
        what = f"Staging {self._description} failed at {name} ({message})."
        if code in _EXPIRED:
            raise StagingCredentialsExpiredError(f"{what} Mapbox's credentials have expired. No upload was created.")
        if code == _CORRUPT:
            raise _CorruptPartError(what)
        if code == "NoSuchUpload":
            raise _MissingUploadError(f"{what} No upload was created; run the task again.")
        raise StagingError(f"{what} No upload was created; run the task again.")

    def _send(self, name: str, what: str, data: bytes, **where: Any) -> tuple[Mapping[str, Any], str]:
        """Send bytes, and again if they arrive corrupt. Return S3's reply and the CRC-32 of the bytes."""
        crc32 = _crc32(data)
        send = getattr(self._s3, name)
        for attempts_left in reversed(range(_PART_ATTEMPTS)):
            try:
                answer = self._call(name, lambda: send(**self._at, **where, Body=data, ChecksumCRC32=crc32))
                if _matches(answer, data, crc32):
                    return answer, crc32
            except _CorruptPartError:
                pass
            if attempts_left:
                log.info("The staging bucket received other bytes for %s than were sent; sending it again", what)
        raise StagingError(
            f"The staging bucket received other bytes for {what} of {self._description} than were sent, "
            f"{_PART_ATTEMPTS} times. No upload was created; run the task again on another worker."
        )


class _CorruptPartError(StagingError):
    """S3 received other bytes than were sent."""


class _MissingUploadError(StagingError):
    """S3 does not know the multipart upload, or no longer."""


def _error_code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, Mapping) else ""


def _matches(answer: Mapping[str, Any], data: bytes, crc32: str) -> bool:
    """Return whether S3 received the sent bytes, as far as its reply shows."""
    etag, received = _etag(answer), answer.get("ChecksumCRC32")
    if received is not None:
        # An MD5 would take six times as long and show nothing more.
        return bool(received == crc32)
    return not (_etag_is_md5(answer) and _MD5.fullmatch(etag)) or etag == _md5(data)


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"').lower()


def _etag_is_md5(answer: Mapping[str, Any]) -> bool:
    # With a KMS key or a customer's key, an ETag is not a checksum (Amazon S3 API, "Object").
    return answer.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in answer


def _etag_of(parts: list[PartReceipt]) -> str | None:
    """Return the ETag that S3 computes from the parts' ETags: the MD5 of all. None if those are not MD5."""
    etags = [part.etag.strip('"').lower() for part in parts]
    if not all(_MD5.fullmatch(etag) for etag in etags):
        return None
    return f"{_md5(bytes.fromhex(''.join(etags)))}-{len(parts)}"


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
