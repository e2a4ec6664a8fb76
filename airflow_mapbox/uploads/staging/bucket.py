"""One object of the staging bucket: written whole or in parts, each compared with what S3 says it has received."""

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

# What S3 says of credentials whose time is over (Amazon S3, "Error responses").
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_MD5 = re.compile(r"[0-9a-f]{32}")
_SPOILED = "BadDigest"  # of bytes that do not have the checksum which came with them
# boto3 tries a request again by itself; these are for answers that say that other bytes arrived than were sent.
_TRIES_AT_A_PART = 3


@dataclass(frozen=True, order=True)
class PartReceipt:
    """
    What S3 said of one part.

    :param number: from 1.
    :param etag: as it came, which completion gives back.
    :param crc32: of what was sent, which completion gives as well.
    """

    number: int
    etag: str
    crc32: str


class Bucket:
    """
    One object of the staging bucket.

    :param s3: a boto3 S3 client.
    :param bucket: the bucket's name.
    :param key: the object's.
    :param description: of what is sent, for messages.
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

        :param data: all of it.
        :raises StagingError: where S3 refuses it, or has received something else.
        """
        self._send("put_object", "the file", data)

    def begin(self) -> None:
        """
        Begin to write it in parts.

        :raises StagingError: where S3 refuses.
        """
        # The checksum of each part is compared only where it was announced (Amazon S3 API, "CreateMultipartUpload").
        answer = self._call(
            "create_multipart_upload",
            lambda: self._s3.create_multipart_upload(**self._at, ChecksumAlgorithm="CRC32"),
        )
        self._upload_id = answer["UploadId"]

    def put_part(self, number: int, data: bytes) -> PartReceipt:
        """
        Write one part; one that arrived otherwise than it was sent is sent again, alone.

        :param number: from 1.
        :param data: the part.
        :raises StagingError: where S3 refuses it, or goes on receiving something else.
        """
        answer, crc32 = self._send("upload_part", f"part {number}", data, UploadId=self._upload_id, PartNumber=number)
        return PartReceipt(number, answer["ETag"], crc32)

    def complete(self, parts: list[PartReceipt]) -> None:
        """
        Make the object of its parts.

        :param parts: all of them, in order.
        :raises StagingError: where S3 refuses.
        """
        listed = [{"PartNumber": part.number, "ETag": part.etag, "ChecksumCRC32": part.crc32} for part in parts]
        at = {**self._at, "UploadId": self._upload_id}
        try:
            answer = self._call(
                "complete_multipart_upload",
                lambda: self._s3.complete_multipart_upload(**at, MultipartUpload={"Parts": listed}),
            )
        except _GoneError:
            # boto3 tries again where an answer was lost, and a completed upload is no longer there.
            answer = {}
            if self._head() is None:
                raise
        with self._lock:
            self._upload_id = None
        wanted, found = _etag_of(parts), _etag(answer)
        if wanted is not None and found.endswith(f"-{len(parts)}") and _digest_is_md5(answer) and found != wanted:
            raise StagingError(
                f"S3 made something else of the {len(parts):,} parts of {self._description} than was sent. Nothing was "
                "created; try again."
            )

    def check_size(self, size: int) -> None:
        """
        Compare the size of the object with what was sent, where Mapbox lets it be looked at.

        Its credentials are for writing one key, and nobody has shown that they allow a look; the digests of all parts
        are compared in any case.

        :param size: bytes that were sent.
        :raises StagingError: where it is another.
        """
        found = self._head()
        if found is not None and found != size:
            raise StagingError(
                f"The staging bucket has {found:,} bytes of {self._description}, of which {size:,} were sent. Nothing "
                "was created; try again."
            )

    def abort(self) -> None:
        """Take back the parts of an upload that was begun and not completed; what cannot be is said in the log."""
        with self._lock:
            upload_id, self._upload_id = self._upload_id, None
        if upload_id is None:
            return
        try:
            self._s3.abort_multipart_upload(**self._at, UploadId=upload_id)
            log.info("Took back the parts of %s that were staged", self._description)
        except Exception as error:
            log.info(
                "The parts of %s that were staged stay in Mapbox's bucket until it clears them (%s)",
                self._description,
                type(error).__name__,
            )

    @without_frames
    def _head(self) -> int | None:
        """Give the object's size, or None where it is not to be had."""
        try:
            return int(self._s3.head_object(**self._at)["ContentLength"])
        except Exception as error:
            log.debug("The staged object cannot be looked at (%s)", type(error).__name__)
            return None

    @without_frames
    def _call(self, name: str, call: Callable[[], _Answer]) -> _Answer:
        """Make one call; its errors carry nothing of boto3, which may hold headers with the session token."""
        try:
            return call()
        except MapboxError:
            raise
        except Exception as error:
            code = _error_code(error)
            said = f"{type(error).__name__}: {redact(str(error))}"
        what = f"Staging {self._description} failed at {name} ({said})."
        if code in _EXPIRED:
            raise StagingCredentialsExpiredError(f"{what} Mapbox's credentials did not last. Nothing was created.")
        if code == _SPOILED:
            raise _SpoiledError(what)
        if code == "NoSuchUpload":
            raise _GoneError(f"{what} Nothing was created; try again.")
        raise StagingError(f"{what} Nothing was created; try again.")

    def _send(self, name: str, what: str, data: bytes, **where: Any) -> tuple[Mapping[str, Any], str]:
        """Send bytes, and again where others arrived; give the answer, and the CRC-32 that went with them."""
        crc32 = _crc32(data)
        send = getattr(self._s3, name)
        for left in reversed(range(_TRIES_AT_A_PART)):
            try:
                answer = self._call(name, lambda: send(**self._at, **where, Body=data, ChecksumCRC32=crc32))
                if _same(answer, data, crc32):
                    return answer, crc32
            except _SpoiledError:
                pass
            if left:
                log.info("The staging bucket received other bytes for %s than were sent; sending it again", what)
        raise StagingError(
            f"The staging bucket received other bytes for {what} of {self._description} than were sent, "
            f"{_TRIES_AT_A_PART} times. Nothing was created; try again from another worker."
        )


class _SpoiledError(StagingError):
    """Other bytes arrived than were sent."""


class _GoneError(StagingError):
    """The upload in parts is no longer there."""


def _error_code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, Mapping) else ""


def _same(answer: Mapping[str, Any], data: bytes, crc32: str) -> bool:
    """Say whether S3 has received what was sent, as far as its answer tells."""
    etag, received = _etag(answer), answer.get("ChecksumCRC32")
    if received is not None:
        # An MD5 beside it would be six times as dear, and tell no more.
        return bool(received == crc32)
    return not (_digest_is_md5(answer) and _MD5.fullmatch(etag)) or etag == _md5(data)


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"').lower()


def _digest_is_md5(answer: Mapping[str, Any]) -> bool:
    # With a key of KMS or of the customer an ETag is no digest (Amazon S3 API, "Object").
    return answer.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in answer


def _etag_of(parts: list[PartReceipt]) -> str | None:
    """Give the ETag that S3 makes of those of the parts, where these are digests: the MD5 of them together."""
    etags = [part.etag.strip('"').lower() for part in parts]
    if not all(_MD5.fullmatch(etag) for etag in etags):
        return None
    return f"{_md5(bytes.fromhex(''.join(etags)))}-{len(parts)}"


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
