"""What an export leaves behind: nothing of what was killed, and a file like the one that it replaces."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely

from airflow_mapbox.export import mbtiles, write_auto, write_geojson, write_mbtiles
from airflow_mapbox.export.errors import NoSpaceError
from airflow_mapbox.sources.temporary import scratch_folder
from tests.unit.export.support import frame

Write = Callable[[Path], Any]
POINTS = frame([shapely.Point(0, 0), shapely.Point(1, 1)])

WRITERS = {
    "geojson": lambda path: write_geojson(POINTS, path),
    "mbtiles": lambda path: write_mbtiles(POINTS, path, maxzoom=3),
    "auto": lambda path: write_auto(POINTS, path.with_suffix(""), limit_bytes=10, maxzoom=3),
}

KILLED = """
import os, sys, geopandas, shapely
from airflow_mapbox.export import write_geojson, write_mbtiles
from airflow_mapbox.tasks.export_source import export_source

def frames():
    yield geopandas.GeoDataFrame(geometry=shapely.points([0] * 100_000, 0), crs=4326)
    print("asked", flush=True)
    sys.stdin.read()

how, target = sys.argv[1:]
if how == "geojson":
    write_geojson(frames(), target)
elif how == "mbtiles":
    write_mbtiles(frames(), target, maxzoom=3)
else:
    format = how.removeprefix("upload ")
    options = {"maxzoom": 3} | ({"limit_bytes": 10} if format == "auto" else {})
    export_source(frames(), format, options, name="x").open()
"""


def kill(how: str, target: Path, temporary: Path) -> None:
    """Have an export killed in its middle."""
    command = [sys.executable, "-c", KILLED, how, str(target)]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asked\n"
        process.kill()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


class TestWhatIsKilled:
    @pytest.mark.slow
    @pytest.mark.parametrize("how", ["mbtiles", "upload auto", "upload mbtiles"])
    def test_a_killed_export_leaves_no_temporary_folder_beyond_the_next_export(
        self, tmp_path: Path, temporary: Path, how: str
    ) -> None:
        for _ in range(2):
            kill(how, tmp_path / "x.mbtiles", temporary)
        assert len([left for left in temporary.iterdir() if left.is_dir()]) <= 2

        write_mbtiles(POINTS, tmp_path / "y.mbtiles", maxzoom=3)

        assert list(temporary.iterdir()) == []

    @pytest.mark.slow
    @pytest.mark.parametrize("how", ["geojson", "mbtiles"])
    def test_a_killed_export_leaves_no_part_beyond_the_next_export(
        self, tmp_path: Path, temporary: Path, how: str
    ) -> None:
        kill(how, tmp_path / "parcels-20260101", temporary)
        assert list(tmp_path.glob(".*.part*"))

        write_geojson(POINTS, tmp_path / "parcels-20260102.geojson")

        assert sorted(item.name for item in tmp_path.iterdir()) == ["parcels-20260102.geojson", "temporary"]

    def test_parts_of_a_running_export_are_not_removed(self, tmp_path: Path, temporary: Path) -> None:
        def frames() -> Iterator[geopandas.GeoDataFrame]:
            yield POINTS
            write_mbtiles(POINTS, tmp_path / "inner.mbtiles", maxzoom=3)
            yield POINTS

        report = write_mbtiles(frames(), tmp_path / "outer.mbtiles", maxzoom=3)

        assert report.features == 4
        assert list(temporary.iterdir()) == []

    def test_files_of_others_stay(self, tmp_path: Path) -> None:
        others = [".x.lock", ".0123456789abcdef.lock", "0123456789abcdef-0123456789abcdef.part", "a.part", ".lock"]
        for name in others:
            (tmp_path / name).write_text("mine")

        write_geojson(POINTS, tmp_path / "x.geojson")

        assert sorted(item.name for item in tmp_path.iterdir()) == sorted([*others, "x.geojson"])

    def test_a_link_or_a_pipe_in_place_of_a_lock_leads_nowhere(self, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.write_text("mine")
        (tmp_path / f".{'a' * 16}-{'b' * 16}.lock").symlink_to(victim)
        os.mkfifo(tmp_path / f".{'a' * 16}-{'c' * 16}.lock")

        write_geojson(POINTS, tmp_path / "x.geojson")

        assert victim.read_text() == "mine"


class TestTargets:
    @pytest.mark.parametrize("how", WRITERS)
    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o400])
    def test_targets_keep_their_permissions(self, tmp_path: Path, how: str, mode: int) -> None:
        path = tmp_path / ("x.geojson" if how == "geojson" else "x.mbtiles")
        path.write_bytes(b"")
        path.chmod(mode)

        WRITERS[how](path)

        assert path.stat().st_size
        assert stat.S_IMODE(path.stat().st_mode) == mode

    @pytest.mark.parametrize("how", WRITERS)
    def test_new_targets_have_the_permissions_of_the_umask(self, tmp_path: Path, how: str) -> None:
        path = tmp_path / ("x.geojson" if how == "geojson" else "x.mbtiles")
        before = os.umask(0o027)
        try:
            WRITERS[how](path)
        finally:
            os.umask(before)

        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    def test_targets_are_private_while_they_are_written(self, tmp_path: Path) -> None:
        def frames() -> Iterator[geopandas.GeoDataFrame]:
            yield POINTS
            (part,) = tmp_path.glob(".*.part")
            assert stat.S_IMODE(part.stat().st_mode) == 0o600

        write_geojson(frames(), tmp_path / "x.geojson")

    @pytest.mark.parametrize("how", ["geojson", "mbtiles"])
    @pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
    def test_targets_that_are_not_files_are_refused_and_stay(self, tmp_path: Path, how: str, kind: str) -> None:
        path = tmp_path / "x"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            socket.socket(socket.AF_UNIX).bind(str(path))
        else:
            path.symlink_to("/dev/null")
        before = path.stat()

        with pytest.raises(FileExistsError, match="device, a pipe or a socket"):
            WRITERS[how](path)

        assert (path.stat().st_mode, path.stat().st_ino) == (before.st_mode, before.st_ino)
        assert [item.name for item in tmp_path.iterdir()] == ["x"]

    @pytest.mark.parametrize("how", ["geojson", "mbtiles"])
    @pytest.mark.parametrize("is_there", [True, False])
    def test_a_link_is_followed_and_its_target_replaced(self, tmp_path: Path, how: str, is_there: bool) -> None:
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        if is_there:
            (folder / "real").write_bytes(b"before")
        (tmp_path / "latest").symlink_to(Path("elsewhere") / "real")

        WRITERS[how](tmp_path / "latest")

        assert (tmp_path / "latest").is_symlink()
        assert (folder / "real").stat().st_size > 6
        assert [item.name for item in folder.iterdir()] == ["real"]


def test_a_disk_that_is_full_at_the_end_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(mbtiles, "_clean_metadata", full)

    with pytest.raises(NoSpaceError) as failed:
        write_mbtiles(POINTS, tmp_path / "x.mbtiles", maxzoom=3)

    assert failed.value.retryable
    assert list(tmp_path.iterdir()) == []


def test_many_at_once_delete_nothing_of_each_other(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                with scratch_folder(tmp_path) as folder:
                    (folder / "x").write_text("x")
                    assert (folder / "x").read_text() == "x"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert list(tmp_path.iterdir()) == []
