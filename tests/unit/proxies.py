"""Proxies on the loopback that carry connections, and keep what they were told."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress


class Proxy:
    """A proxy that tunnels to wherever it is asked by ``CONNECT``."""

    scheme = "http"

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.heads: list[str] = []
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(connection,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            target = self._greet(near)
            if target is None:
                return
            with socket.create_connection(target) as far:
                while True:
                    for ready in select.select([near, far], [], [])[0]:
                        data = ready.recv(1 << 16)
                        if not data:
                            return
                        (far if ready is near else near).sendall(data)

    def _greet(self, near: socket.socket) -> tuple[str, int] | None:
        head = near.recv(1 << 16).decode("latin-1")
        self.heads.append(head)
        near.sendall(self._answer)
        if " 200 " not in self._answer.decode("latin-1"):
            return None
        host, _, port = head.split()[1].rpartition(":")
        return host, int(port)


class SocksProxy(Proxy):
    """A proxy that speaks SOCKS 5 (RFC 1928), without a login."""

    scheme = "socks5h"

    def _greet(self, near: socket.socket) -> tuple[str, int]:
        near.recv(1 << 16)
        near.sendall(b"\x05\x00")
        request = near.recv(1 << 16)
        assert request[:3] == b"\x05\x01\x00"
        host = socket.inet_ntoa(request[4:8]) if request[3] == 1 else request[5 : 5 + request[4]].decode()
        (port,) = struct.unpack(">H", request[-2:])
        self.heads.append(f"{host}:{port}")
        near.sendall(b"\x05\x00\x00\x01" + bytes(6))
        return host, port
