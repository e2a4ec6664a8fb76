"""How many threads write, and that their number changes nothing but the time."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from airflow_mapbox.export import pipeline as features
from airflow_mapbox.export import stream_geojson
from airflow_mapbox.export.cores import usable_cores
from airflow_mapbox.export.readers.batch import BATCH_BYTES
from airflow_mapbox.tasks.export_source import export_source
from tests.unit.export.support import frame


def _cgroups(folder: Path, membership: str, **files: str) -> dict[str, Path]:
    """Write what the kernel shows of cgroups."""
    for name, text in files.items():
        path = folder / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "membership").write_text(membership)
    return {"cgroups": folder / "mounted", "membership": folder / "membership"}


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)


V1, V2 = "4:memory:/x\n3:cpu,cpuacct:/docker/abc\n", "0::/pod/container\n"
OLD = "cpu,cpuacct/docker/abc/cpu.cfs_"


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        (V2, {}, 8),
        (V2, {"pod/container/cpu.max": "max 100000\n"}, 8),
        (V2, {"pod/container/cpu.max": "300000 100000\n"}, 3),
        (V2, {"pod/container/cpu.max": "250000 100000\n"}, 3),
        (V2, {"pod/container/cpu.max": "5000 100000\n"}, 1),
        (V2, {"pod/container/cpu.max": "6400000 100000\n"}, 8),
        (V2, {"pod/container/cpu.max": "max 100000\n", "pod/cpu.max": "200000 100000\n"}, 2),
        (V2, {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/../other\n", {"cpu.max": "400000 100000\n"}, 4),
        ("1:name=systemd:/\n0::/a\n", {"unified/a/cpu.max": "200000 100000\n"}, 2),
        (V1, {f"{OLD}quota_us": "-1\n", f"{OLD}period_us": "100000\n"}, 8),
        (V1, {f"{OLD}quota_us": "150000\n", f"{OLD}period_us": "50000\n"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {f"{OLD}quota_us": "nonsense", f"{OLD}period_us": "0"}, 8),
        ("", {"cpu.max": "100000 100000\n"}, 8),
    ],
)
def test_a_containers_quota_limits_the_cores(
    tmp_path: Path, membership: str, files: dict[str, str], cores: int
) -> None:
    assert usable_cores(**_cgroups(tmp_path, membership, **files)) == cores


def test_affinity_limits_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    monkeypatch.setattr(os, "process_cpu_count", lambda: 1, raising=False)

    assert usable_cores(**_cgroups(tmp_path, V2)) == 1


def _mixed() -> Any:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-180, 180, 30_000), rng.uniform(-80, 80, 30_000)
    geometries = shapely.points(x, y)
    geometries[::3] = shapely.box(x, y, x + 0.1, y + 0.1)[::3]
    geometries[::7] = shapely.linestrings(np.stack([x, y, -x, -y], axis=1).reshape(-1, 2, 2))[::7]
    geometries = np.where(shapely.bounds(geometries)[:, 2] > 180, shapely.Point(0, 0), geometries)
    return frame(list(geometries), number=np.arange(30_000), text=[f"{'long ' * (n % 50)}text" for n in range(30_000)])


@pytest.mark.slow
def test_the_bytes_are_the_same_for_any_number_of_threads() -> None:
    source = _mixed()

    def written(threads: int) -> tuple[bytes, Any]:
        stream = stream_geojson(source, threads=threads, batch_rows=700)
        return b"".join(stream), stream.report

    assert written(1) == written(2) == written(5)


@pytest.mark.parametrize(("given", "count"), [(None, 3), (5, 5)])
def test_as_many_threads_write_as_there_are_cores_or_as_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, given: int | None, count: int
) -> None:
    monkeypatch.setattr(features, "usable_cores", lambda: 3)
    encode, all_at_once = features.encode, threading.Barrier(count, timeout=30)

    def together(*args: Any, **options: Any) -> Any:
        all_at_once.wait()  # which only so many threads pass
        return encode(*args, **options)

    monkeypatch.setattr(features, "encode", together)
    source = frame(list(shapely.points(np.zeros((count * 2, 2)))))

    assert b"".join(stream_geojson(source, threads=given, batch_rows=1))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_memory_holds_few_batches_for_each_thread(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    held, most, lock = 0, 0, threading.Lock()
    encode, split = features.encode, features.Batch.split

    def counted(self: Any, rows: int | None = None) -> Any:
        nonlocal held, most
        for part in split(self, rows):
            with lock:
                held += 1
                most = max(most, held)
            yield part

    def released(*args: Any, **options: Any) -> Any:
        nonlocal held
        try:
            return encode(*args, **options)
        finally:
            with lock:
                held -= 1

    monkeypatch.setattr(features.Batch, "split", counted)
    monkeypatch.setattr(features, "encode", released)
    source = frame(list(shapely.points(np.zeros((500, 2)))), text=["x" * (BATCH_BYTES // 10)] * 500)

    for _ in stream_geojson(source, threads=threads):
        pass

    assert most <= threads + 2


def test_the_number_of_threads_makes_no_other_upload(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    frame([shapely.Point(1, 2)]).to_parquet(path)

    def fingerprint(**options: Any) -> Any:
        return export_source(path, "geojson", options, name="x").fingerprint

    assert fingerprint() == fingerprint(threads=2) != fingerprint(decimals=3)
