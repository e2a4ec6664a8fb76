"""The body of an S3 request, received to disk and checked against what its headers promise."""

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

BLOCK = 1 << 20
IN_MEMORY = 1 << 20
STREAMING_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
UNSIGNED = "UNSIGNED-PAYLOAD"


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    """zlib's CRC-32 with hashlib's manners."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


# CRC-32C and CRC-64/NVME have no implementation that the emulator could count on; they are taken on trust.
CHECKSUMS: dict[str, Callable[[], _Digest]] = {
    "content-md5": lambda: hashlib.md5(usedforsecurity=False),
    "x-amz-checksum-crc32": _Crc32,
    "x-amz-checksum-sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "x-amz-checksum-sha256": hashlib.sha256,
}


def receive(source: IO[bytes], headers: dict[str, str], *, folder: Path) -> tuple[IO[bytes], int, dict[str, str]]:
    """Return a request's plain body, rewound, its length, and the headers that came behind it.

    :param source: the body as it arrives, with HTTP's own chunks already undone.
    :param headers: names in lower case.
    :param folder: where a body goes that is too large for memory.
    :raises S3RefusedError: for a body that is cut short, or is not what was signed.
    """
    promised = headers.get("x-amz-content-sha256", UNSIGNED)
    if promised.startswith("STREAMING-") and promised != STREAMING_TRAILER:
        raise S3RefusedError(501, "NotImplemented", f"A body signed as {promised} is not something the emulator reads.")
    target = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(folder))  # noqa: SIM115 - handed on to moto
    try:
        trailer = _copy(source, headers, promised, target)
        size = target.tell()
        target.seek(0)
    except BaseException:
        target.close()
        raise
    return target, size, trailer


def _copy(source: IO[bytes], headers: dict[str, str], promised: str, target: IO[bytes]) -> dict[str, str]:
    checks = {name: make() for name, make in CHECKSUMS.items()}
    if promised == STREAMING_TRAILER:
        length = headers.get("x-amz-decoded-content-length")
        trailer = _copy_chunks(source, target, checks)
    else:
        length = headers.get("content-length")
        trailer = {}
        while block := source.read(BLOCK):
            _write(target, checks, block)
    if length is not None and length != str(target.tell()):
        raise S3RefusedError(400, "IncompleteBody", "You did not provide the number of bytes specified by the header.")
    if re.fullmatch(r"[0-9a-f]{64}", promised) and not hmac.compare_digest(
        promised, checks["x-amz-checksum-sha256"].digest().hex()
    ):
        raise S3RefusedError(
            400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match."
        )
    for name, check in checks.items():
        told = trailer.get(name) or headers.get(name)
        # A composite checksum, on CompleteMultipartUpload, is of the parts and not of this body.
        if told and "-" not in told and base64.b64encode(check.digest()).decode() != told:
            raise S3RefusedError(400, "BadDigest", f"The {name} you specified did not match the calculated checksum.")
    return trailer


def _write(target: IO[bytes], checks: dict[str, _Digest], block: bytes) -> None:
    target.write(block)
    for check in checks.values():
        check.update(block)


def _copy_chunks(source: IO[bytes], target: IO[bytes], checks: dict[str, _Digest]) -> dict[str, str]:
    """Undo ``aws-chunked``: size line, data, size line, … zero, trailing headers. Return those headers."""
    while True:
        line = source.readline(BLOCK)
        try:
            left = int(line.split(b";", 1)[0].strip(), 16)
        except ValueError:
            raise S3RefusedError(400, "IncompleteBody", "The request body terminated unexpectedly") from None
        if left == 0:
            break
        while left:
            block = source.read(min(left, BLOCK))
            if not block:
                raise S3RefusedError(400, "IncompleteBody", "The request body terminated unexpectedly")
            left -= len(block)
            _write(target, checks, block)
        source.readline(2)
    trailer = {}
    while (line := source.readline(BLOCK)).strip():
        name, _, value = line.decode("latin-1").partition(":")
        trailer[name.strip().lower()] = value.strip()
    return trailer
