"""Run the emulator's command as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class Command:
    """A running emulator of account ``acme``. Pass :attr:`remote` to :class:`Account`."""

    def __init__(self, tmp_path: Path, *options: str, token: str | None = None) -> None:
        ready = tmp_path / "ready.json"
        ready.unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if name != "MAPBOX_EMULATOR_TOKEN"}
        if token:
            environment["MAPBOX_EMULATOR_TOKEN"] = token
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "airflow_mapbox.emulator", "--port", "0", "--s3-port", "0"),
                *("--folder", str(tmp_path / "folder"), "--ready-file", str(ready), "--account", "acme", *options),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 100
        while not ready.exists():
            assert self.process.poll() is None, self.process.stdout.read()  # type: ignore[union-attr]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.ready = json.loads(ready.read_text())

    @property
    def remote(self) -> Any:
        """An object with the attributes of :class:`Emulator` that :class:`Account` needs."""
        token = Path(self.ready["token_file"]).read_text().strip()
        return SimpleNamespace(token=token, **self.ready)

    def peak_memory(self) -> int:
        """The process's peak memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) << 10

    def end(self, name: signal.Signals = signal.SIGTERM) -> str:
        self.process.send_signal(name)
        output, _ = self.process.communicate(timeout=100)
        return str(output)
