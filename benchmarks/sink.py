"""Serve an S3 bucket that accepts data at a limited rate, and discards it."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BLOCK_BYTES = 1 << 18
_CRC32 = "x-amz-checksum-crc32"
_XML = '<?xml version="1.0" encoding="UTF-8"?><{0} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{1}</{0}>'


class Link:
    """
    A network link that all connections share.

    :param bytes_per_second: its rate.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def carry(self, count: int) -> None:
        """Block until the link has carried a number of bytes."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            delay = self._free_at - now
        if delay > 0:
            time.sleep(delay)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    link: Link

    def do_PUT(self) -> None:
        """Receive a part or an object."""
        if "100-continue" in self.headers.get("Expect", ""):
            self.send_response_only(100)
            self.end_headers()
        bytes_left = int(self.headers["Content-Length"])
        block = bytearray(_BLOCK_BYTES)
        view = memoryview(block)
        while bytes_left:
            count = self.rfile.readinto(view[: min(bytes_left, _BLOCK_BYTES)])  # type: ignore[attr-defined]
            if not count:
                return
            self.link.carry(count)
            bytes_left -= count
        # S3 computes the checksum, and the client compares it. Here the client's own value is enough.
        checksum = {_CRC32: self.headers[_CRC32]} if _CRC32 in self.headers else {}
        self._respond(200, "", ETag='"sink"', **checksum)

    def do_POST(self) -> None:
        """Create or complete a multipart upload."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "uploadId=" in self.path:
            self._respond(200, _XML.format("CompleteMultipartUploadResult", "<ETag>sink</ETag>"))
        else:
            self._respond(200, _XML.format("InitiateMultipartUploadResult", "<UploadId>sink</UploadId>"))

    def do_HEAD(self) -> None:
        """Refuse, like a bucket with write-only credentials."""
        self._respond(403, "")

    def _respond(self, status: int, body: str, **headers: str) -> None:
        self.send_response_only(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Suppress the log."""


def serve(bytes_per_second: float) -> ThreadingHTTPServer:
    """
    Return a server on a free port of the loopback.

    :param bytes_per_second: the rate of all connections together.
    """
    handler = type("Handler", (_Handler,), {"link": Link(bytes_per_second)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    return server


if __name__ == "__main__":
    import sys

    with serve(float(sys.argv[1])) as running:
        print(running.server_port, flush=True)
        running.serve_forever()
