"""An emulator that remembers the digest of what each upload was made of, and tasks that upload to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.store import Store
from tests.crashes.task import Task, digest

POINT = '{"type": "Point", "coordinates": [7.1, 50.7]}'
_MADE_OF: dict[str, str] = {}


@pytest.fixture(scope="session")
def made_of() -> dict[str, str]:
    """Digest of the staged file by upload id, taken where processing begins."""
    return _MADE_OF


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    take = Store.take_staged

    def take_and_shorten(self: Store, upload: Any) -> Path | None:
        staged = take(self, upload)
        if staged is not None:
            _MADE_OF.setdefault(upload.id, digest(staged))
            staged.write_text(POINT)  # what comes after does not matter here
        return staged

    patch = pytest.MonkeyPatch()
    patch.setattr(Store, "take_staged", take_and_shorten)
    settings = EmulatorSettings(processing_seconds=0, rate_limit=0, workers=1)
    with Emulator(tmp_path_factory.mktemp("emulator"), settings=settings) as running:
        yield running
    patch.undo()


@pytest.fixture(autouse=True)
def no_faults(emulator: Emulator) -> Iterator[None]:
    yield
    emulator.faults.clear()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that goes in one request."""
    path = tmp_path_factory.mktemp("data") / "small.csv"
    path.write_text("lon,lat,n\n" + "".join(f"{n % 170},{n % 80},{n}\n" for n in range(500)))
    return path


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of three parts."""
    path = tmp_path_factory.mktemp("data") / "large.csv"
    path.write_text("lon,lat,n\n" + "".join(f"{n % 170},{n % 80},{n:020}\n" for n in range(450_000)))
    assert 2 * 5 * 2**20 < path.stat().st_size < 3 * 5 * 2**20
    return path


MakeTask = Callable[..., Task]


@pytest.fixture
def make_task(emulator: Emulator, tmp_path: Path) -> MakeTask:
    made: list[Task] = []

    def make(source: Path | str, **options: Any) -> Task:
        made.append(Task(emulator, tmp_path / f"task-{len(made)}", str(source), **options))
        return made[-1]

    return make
