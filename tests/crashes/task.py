"""A task of one intent: tries in processes of their own until one says that it is done or that no other would help."""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mapbox.emulator import Emulator
from tests.connections import connection
from tests.crashes import one_try
from tests.crashes.one_try import FileLedger, Step, Try

# A process costs some hundredths of a second where a server that has everything imported forks it.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.crashes.one_try", "airflow.providers.amazon.aws.hooks.s3"])

# As Airflow's supervisor does after SIGTERM.
_SECONDS_UNTIL_SIGKILL = 5.0
_MOST_TRIES = 12
_names = itertools.count(1)

Death = tuple[Step, signal.Signals]


@dataclass
class Task:
    """One intent, and what became of it."""

    emulator: Emulator
    folder: Path
    source: str
    tileset: str = ""
    deaths: list[Death | None] = field(default_factory=list)
    outcomes: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tileset = self.tileset or f"crash-{next(_names)}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def start(self, death: Death | None = None) -> tuple[Any, Try]:
        """Start the next try, which replaces the one before it."""
        step, by = death or (None, signal.SIGKILL)
        number = len(self.deaths) + 1
        this = Try(number, self.source, self.tileset, connection(self.emulator), self.folder, step, by)
        FileLedger(self.folder, number).begin()
        self.deaths.append(death)
        process = _processes.Process(target=one_try.main, args=(this,), daemon=True)
        process.start()
        return process, this

    def run(self, deaths: Iterable[Death | None] = ()) -> dict[str, Any]:
        """Run try after try, each dying as it is told, and then as many as it takes."""
        for death in itertools.chain(deaths, itertools.repeat(None)):
            process, this = self.start(death)
            outcome = self.end(process, this)
            if "upload" in outcome or outcome.get("retryable") is False or len(self.outcomes) >= _MOST_TRIES:
                return outcome
            if outcome.get("after"):
                self.emulator.clock.advance(outcome["after"])
            if outcome.get("error") == "UploadActiveError":
                self.await_idle()
        raise AssertionError("never ends")

    def end(self, process: Any, this: Try) -> dict[str, Any]:
        """Wait for a try, as Airflow's supervisor does, and give its outcome."""
        process.join(_SECONDS_UNTIL_SIGKILL if this.by is signal.SIGTERM and this.die_after else 60)
        if process.is_alive():
            process.kill()
            process.join()
        outcome = json.loads(this.outcome.read_text()) if this.outcome.exists() else {"died": process.exitcode}
        self.outcomes.append(outcome)
        return outcome

    def await_idle(self) -> None:
        """Wait until nothing of this tileset is being processed."""
        for _ in range(600):
            if all(row["finished"] for row in self.uploads()):
                return
            time.sleep(0.05)
        raise AssertionError("processing does not end")

    def uploads(self) -> list[dict[str, Any]]:
        """Give the uploads of the tileset, by the emulator's own books."""
        with sqlite3.connect(self.emulator.folder / "emulator.sqlite3") as books:
            books.row_factory = sqlite3.Row
            rows = books.execute(
                "SELECT * FROM uploads WHERE tileset = ?", (f"{self.emulator.account}.{self.tileset}",)
            ).fetchall()
        return [dict(row) for row in rows]

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("try-*.log")))

    def notes(self) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("entry.json*"))


def await_stopped(process: Any) -> None:
    """Wait until a process has stopped itself."""
    for _ in range(600):
        if Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.05)
    raise AssertionError("the process does not stop")


def go_on(process: Any) -> None:
    os.kill(process.pid, signal.SIGCONT)


def secrets_of(emulator: Emulator) -> list[str]:
    """Give the token and every temporary credential that was given out."""
    with sqlite3.connect(emulator.folder / "emulator.sqlite3") as books:
        rows = books.execute("SELECT access_key, secret, session FROM credentials").fetchall()
    return [emulator.token, *(secret for row in rows for secret in row)]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
