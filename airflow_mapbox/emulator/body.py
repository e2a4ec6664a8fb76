"""Receive the body of an S3 request to disk and check it against its headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from airflow_mapbox.emulator.sigv4 import S3RefusedError

BLOCK_BYTES = 1 << 20
MAX_MEMORY_BYTES = 1 << 20
STREAMING_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
UNSIGNED = "UNSIGNED-PAYLOAD"


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    """zlib's CRC-32 with the interface of hashlib."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


# CRC-32C and CRC-64/NVME are not checked, because no required package implements them.
CHECKSUMS: dict[str, Callable[[], _Digest]] = {
    "content-md5": lambda: hashlib.md5(usedforsecurity=False),
    "x-amz-checksum-crc32": _Crc32,
    "x-amz-checksum-sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "x-amz-checksum-sha256": hashlib.sha256,
}


def receive(source: IO[bytes], headers: dict[str, str], *, folder: Path) -> tuple[IO[bytes], int, dict[str, str]]:
    """Return a request's decoded body (rewound), its length, and its trailing headers.

    :param source: the body as it arrives, with HTTP's own chunks already decoded.
    :param headers: names in lower case.
    :param folder: the folder for bodies that are too large for memory.
    :raises S3RefusedError: if the body is cut short, or differs from its signed checksum.
    """
    declared_sha256 = headers.get("x-amz-content-sha256", UNSIGNED)
    if declared_sha256.startswith("STREAMING-") and declared_sha256 != STREAMING_TRAILER:
        raise S3RefusedError(
            501, "NotImplemented", f"A body signed as {declared_sha256} is not something the emulator reads."
        )
    target = tempfile.SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115 - handed on to moto
    try:
        trailer = _copy(source, headers, declared_sha256, target)
        size = target.tell()
        target.seek(0)
    except BaseException:
        target.close()
        raise
    return target, size, trailer


def _copy(source: IO[bytes], headers: dict[str, str], declared_sha256: str, target: IO[bytes]) -> dict[str, str]:
    checks = {name: make() for name, make in CHECKSUMS.items()}
    if declared_sha256 == STREAMING_TRAILER:
        length = headers.get("x-amz-decoded-content-length")
        trailer = _copy_chunks(source, target, checks)
    else:
        length = headers.get("content-length")
        trailer = {}
        while block := source.read(BLOCK_BYTES):
            _write(target, checks, block)
    if length is not None and length != str(target.tell()):
        raise S3RefusedError(400, "IncompleteBody", "You did not provide the number of bytes specified by the header.")
    if re.fullmatch(r"[0-9a-f]{64}", declared_sha256) and not hmac.compare_digest(
        declared_sha256, checks["x-amz-checksum-sha256"].digest().hex()
    ):
        raise S3RefusedError(
            400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match."
        )
    for name, check in checks.items():
        expected = trailer.get(name) or headers.get(name)
        # A hyphen marks a composite checksum (CompleteMultipartUpload): it covers the parts, not this body.
        if expected and "-" not in expected and base64.b64encode(check.digest()).decode() != expected:
            raise S3RefusedError(400, "BadDigest", f"The {name} you specified did not match the calculated checksum.")
    return trailer


def _write(target: IO[bytes], checks: dict[str, _Digest], block: bytes) -> None:
    target.write(block)
    for check in checks.values():
        check.update(block)


def _copy_chunks(source: IO[bytes], target: IO[bytes], checks: dict[str, _Digest]) -> dict[str, str]:
    """Decode ``aws-chunked`` (size line, data, size line, … zero, trailing headers). Return the trailing headers."""
    while True:
        line = source.readline(BLOCK_BYTES)
        try:
            remaining = int(line.split(b";", 1)[0].strip(), 16)
        except ValueError:
            raise S3RefusedError(400, "IncompleteBody", "The request body terminated unexpectedly") from None
        if remaining == 0:
            break
        while remaining:
            block = source.read(min(remaining, BLOCK_BYTES))
            if not block:
                raise S3RefusedError(400, "IncompleteBody", "The request body terminated unexpectedly")
            remaining -= len(block)
            _write(target, checks, block)
        source.readline(2)
    trailer = {}
    while (line := source.readline(BLOCK_BYTES)).strip():
        name, _, value = line.decode("latin-1").partition(":")
        trailer[name.strip().lower()] = value.strip()
    return trailer
