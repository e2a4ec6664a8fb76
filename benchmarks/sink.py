"""A bucket at the end of a network: takes what S3 takes, no faster than told, and throws it away."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BLOCK = 1 << 18
_CRC32 = "x-amz-checksum-crc32"
_XML = '<?xml version="1.0" encoding="UTF-8"?><{0} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{1}</{0}>'


class Link:
    """What all connections share: so many bytes a second."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def carry(self, count: int) -> None:
        """Return when so many bytes have passed."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            left = self._free_at - now
        if left > 0:
            time.sleep(left)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    link: Link

    def do_PUT(self) -> None:
        """Take a part, or a whole object."""
        if "100-continue" in self.headers.get("Expect", ""):
            self.send_response_only(100)
            self.end_headers()
        left = int(self.headers["Content-Length"])
        block = bytearray(_BLOCK)
        view = memoryview(block)
        while left:
            count = self.rfile.readinto(view[: min(left, _BLOCK)])  # type: ignore[attr-defined]
            if not count:
                return
            self.link.carry(count)
            left -= count
        # The checksum as it came, which S3 would have made itself: the client compares it, and nothing here looks.
        checksum = {_CRC32: self.headers[_CRC32]} if _CRC32 in self.headers else {}
        self._answer(200, "", ETag='"sink"', **checksum)

    def do_POST(self) -> None:
        """Begin and complete an upload in parts."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "uploadId=" in self.path:
            self._answer(200, _XML.format("CompleteMultipartUploadResult", "<ETag>sink</ETag>"))
        else:
            self._answer(200, _XML.format("InitiateMultipartUploadResult", "<UploadId>sink</UploadId>"))

    def do_HEAD(self) -> None:
        """Refuse, as a bucket does whose credentials are for writing."""
        self._answer(403, "")

    def _answer(self, status: int, body: str, **headers: str) -> None:
        self.send_response_only(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def serve(bytes_per_second: float) -> ThreadingHTTPServer:
    """
    Make the server on a free port of the loopback.

    :param bytes_per_second: of the link, in all.
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
