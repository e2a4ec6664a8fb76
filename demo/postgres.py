"""Run a temporary PostgreSQL server on the loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

_USER = "demo"
_DATABASE = "postgres"
_SECONDS_TO_START = 60
_SECONDS_TO_STOP = 30


class PostgresError(RuntimeError):
    """The server did not start."""


class Postgres:
    """
    A PostgreSQL server with its files in a temporary folder, which `stop` removes.

    PostgreSQL refuses to run as root. So if this process is root, the server runs as its package's user `postgres`.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._port: int

    @staticmethod
    def is_installed() -> bool:
        """Return whether PostgreSQL is installed in Debian's folder."""
        return bool(_programs())

    @property
    def address(self) -> dict[str, Any]:
        """The arguments for psycopg's ``connect``."""
        return {"host": "127.0.0.1", "port": self._port, "user": _USER, "dbname": _DATABASE}

    @property
    def url(self) -> str:
        """The database's URL for SQLAlchemy."""
        return f"postgresql+psycopg://{_USER}@127.0.0.1:{self._port}/{_DATABASE}"

    def dump(self) -> str:
        """Return the database's content as SQL."""
        return subprocess.run(
            [_programs()[-1] / "pg_dump", "-h", "127.0.0.1", "-p", str(self._port), "-U", _USER, _DATABASE],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def start(self) -> None:
        """
        Create a database, start the server, and wait until it is ready.

        :raises PostgresError: with the end of the server's log if the server does not start.
        """
        programs = _programs()[-1]
        folder = self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        (data := folder / "data").mkdir()
        owner: dict[str, Any] = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            for path in (folder, data):
                os.chown(path, user.pw_uid, user.pw_gid)
        command = [programs / "initdb", "-D", data, "-U", _USER, "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **owner)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        options = ["-D", data, "-h", "127.0.0.1", "-p", str(self._port), "-k", folder, "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", *options], stdout=log, stderr=log, cwd=folder, **owner
            )
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server and remove its files."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # a fast shutdown, which disconnects all clients
            try:
                self._process.wait(_SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def __enter__(self) -> Postgres:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _is_ready(self) -> bool:
        command = [_programs()[-1] / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        return subprocess.run(command, check=False).returncode == 0


def _programs() -> list[Path]:
    """Return the program folder of each version, the newest last."""
    servers = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return sorted((server.parent for server in servers), key=lambda folder: float(folder.parent.name))
