"""Run a temporary Redis server on the loopback, and record every command that it gets."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path

import redis

from demo.stack import StackError

_PROGRAM = "redis-server"
_SECONDS_TO_START = 20
_SECONDS_TO_STOP = 10


class RedisServer:
    """
    A Redis server without persistence. It starts empty, so its commands contain all that was ever in it.

    :param folder: folder of its log.
    :param port: a free port.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._client = redis.Redis("127.0.0.1", port)
        self._monitor: threading.Thread | None = None
        self._is_recording = threading.Event()
        self.commands: list[str] = []

    @staticmethod
    def is_installed() -> bool:
        """Return whether Debian's package redis-server is installed."""
        return shutil.which(_PROGRAM) is not None

    @property
    def url(self) -> str:
        """The URL for Celery."""
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """
        Start the server, and record its commands.

        :raises StackError: if it does not start.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [_PROGRAM, "--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--appendonly", "no"]
        with (self._folder / "redis.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, start_new_session=True)
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"Redis did not start; see {self._folder / 'redis.log'}")
            time.sleep(0.05)
        self._monitor = threading.Thread(target=self._record, name="redis-monitor", daemon=True)
        self._monitor.start()
        if not self._is_recording.wait(_SECONDS_TO_START):
            raise StackError("Redis did not accept MONITOR")

    def stop(self) -> None:
        """Stop the server."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        if self._monitor is not None:
            self._monitor.join(_SECONDS_TO_STOP)

    def keys(self) -> list[str]:
        """Return the names of all keys at the moment."""
        return sorted(key.decode() for key in self._client.scan_iter(count=1000))

    def _answers(self) -> bool:
        try:
            return bool(self._client.ping())
        except redis.ConnectionError:
            return False

    def _record(self) -> None:
        try:
            with redis.Redis("127.0.0.1", self._port, socket_timeout=None).monitor() as monitor:
                self._is_recording.set()
                for command in monitor.listen():
                    self.commands.append(command["command"])
        except redis.ConnectionError:
            return  # the server was stopped
