"""The Python blocks of the documentation, run as a reader runs them: page by page, against the emulator."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from tests.conftest import ROOT
from tests.connections import connection
from tests.dags.conftest import Outcome
from tests.support.object_store import ObjectStore

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.slow]

RunDag = Callable[..., Outcome]

# The first line of a block that another test runs, or that cannot run here.
RUN_ELSEWHERE = {
    ("README.md", "from datetime import datetime, timezone"): "tests/dags/test_readme.py runs the whole file",
    ("docs/how-to/test-dags.md", "from airflow.sdk import dag"): "tests/system/test_wheel.py runs the three files",
    ("docs/how-to/test-dags.md", "import os"): "tests/system/test_wheel.py runs the three files",
    ("docs/how-to/test-dags.md", "import json"): "tests/system/test_wheel.py runs the three files",
}
# What stands at the top of the reader's own file, or in an earlier part of the page.
TOP = """
import dataclasses
from pathlib import Path

import geopandas
import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, CronDataIntervalTimetable, ObjectStoragePath, dag, task

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.export import join_mbtiles, write_geojson, write_mbtiles
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.operators.tilesets import DeleteTilesetsOperator
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
"""
_NUMBERS = count(1)
DAY = datetime(2018, 2, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Block:
    """A block of Python on a page."""

    page: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def is_dag_file(self) -> bool:
        return "@dag" in self.text

    @property
    def makes_tasks(self) -> bool:
        return re.search(r"^\w* ?=? ?\w+(Operator|Sensor)\b|^@task", self.text, re.M) is not None

    @property
    def is_fixture(self) -> bool:
        return "@pytest.fixture" in self.text


def blocks() -> list[Block]:
    pages = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        Block(str(page.relative_to(ROOT)), text)
        for page in pages
        for text in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    ]


BLOCKS = [block for block in blocks() if (block.page, block.first_line) not in RUN_ELSEWHERE]


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator of the account in the pages, with tilesets that they name. It lets a tileset be updated."""
    settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0, cache_seconds=0)
    with Emulator(tmp_path / "emulator", settings=settings) as running:
        names = ["parcels", "test-1", *(f"earthquakes-{year}" for year in range(2016, 2027))]
        for age, name in enumerate(reversed(names)):
            running.add_tileset(f"acme.{name}", created=running.clock() - age * 86_400)
        yield running


@pytest.fixture
def folder(tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name, and the connection to the emulator."""
    import geopandas

    monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator))
    # The emulator's clock runs as the machine's. A sample of tiles is read when Mapbox's cache has them.
    monkeypatch.setattr("airflow_mapbox.tilesets.verify.CDN_SECONDS", 0.0)
    folder = tmp_path / "files"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in (
        "parcels",
        "north",
        "south",
        f"north-{DAY:%Y%m%d}",
        f"south-{DAY:%Y%m%d}",
        "part-1",
        "part-2",
        "places",
    ):
        places().to_parquet(f"{name}.parquet")
        places().to_file(f"{name}.geojson")
    places().to_file("places.gpkg")
    assert geopandas.read_file("parcels.geojson").crs == 4326
    return folder


def places() -> Any:
    """Two places in Switzerland, whose bounds a page states."""
    import geopandas

    points = geopandas.points_from_xy([7.44, 8.54], [46.95, 47.37])
    return geopandas.GeoDataFrame({"owner": ["A", "B"], "area": [1.5, 2.5]}, geometry=points, crs=4326)


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One server for all pages."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ObjectStore(tmp_path_factory.mktemp("store"), port, ("bucket", "lake", "exports"))
    store.start()
    try:
        yield store
    finally:
        store.stop()


@pytest.fixture
def stored(object_store: ObjectStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The objects that the pages name, and the connections to them."""
    # Airflow keeps the file system of a connection for the life of a process. Another module has one of my_conn in a
    # parameter of its tests, made before there was such a connection.
    monkeypatch.setattr("airflow.sdk.io.store._STORE_CACHE", {})
    for name in ("my_conn", "my_aws"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", object_store.connection())
    for key in ("parcels.geojson", f"parcels-{DAY:%Y%m%d}.geojson"):
        object_store.put("bucket", key, Path("parcels.geojson").read_bytes())
    object_store.put("lake", "parcels.parquet", Path("parcels.parquet").read_bytes())


@pytest.fixture
def names(emulator: Emulator, folder: Path) -> dict[str, Any]:
    """The names that a page takes as given."""
    from airflow_mapbox.export import write_mbtiles
    from airflow_mapbox.hooks.tilesets import MapboxTilesetsHook

    write_mbtiles("part-2.parquet", "part-2.mbtiles", name="parcels", minzoom=8, maxzoom=13)
    given = {
        "active": (),
        "folder": folder / "another emulator",
        "frame": places(),
        "mapbox_emulator": emulator,
        "now": datetime.now(UTC),
        "part": Path("part-1.parquet"),
        "parts": ["part-1.mbtiles", "part-2.mbtiles"],
        "tilesets": list(MapboxTilesetsHook().list_tilesets()),
        "token": emulator.token,
    }
    exec(TOP, given)
    return given


def as_reader_has_it(text: str, folder: Path, emulator: Emulator) -> str:
    """Return a block with this machine's paths and addresses, and with what the page leaves open."""
    text = re.sub(r'"/(shared|data|tmp)/', f'"{folder}/', text)
    text = text.replace("source=...", f'source="{folder}/parcels.geojson"').replace("tileset=...", 'tileset="open"')
    text = text.replace("(): ...", "(): return frame")
    return re.sub(r"(UploadsClient|TilesetsClient)\(token\)", rf'\1(token, base_url="{emulator.url}")', text)


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}))
def test_the_python_of_a_page_runs(
    page: str, names: dict[str, Any], folder: Path, emulator: Emulator, run_dag: RunDag, request: pytest.FixtureRequest
) -> None:
    on_page = [block for block in BLOCKS if block.page == page]
    if any("s3://" in block.text for block in on_page):
        request.getfixturevalue("stored")
    for block in on_page:
        text = as_reader_has_it(block.text, folder, emulator)
        if block.is_fixture:
            run_as_conftest(text, folder)
        elif block.is_dag_file:
            run_as_dag_file(text, folder)
        elif block.makes_tasks:
            outcome = run_dag(lambda text=text: make_tasks(text, names), mark_success_pattern="approve")
            assert set(outcome.states.values()) == {"success"}, outcome.states
        else:
            exec(text, names)


def make_tasks(text: str, names: dict[str, Any]) -> None:
    """Make the tasks of a block in the current DAG, with those before them that the page has shown already."""
    if re.search(r"\bupload\.output", text) and not re.search(r"^upload = ", text, re.M):
        source = str(Path("parcels.geojson").absolute())
        # A new tileset for each block: a replaced one is shown from Mapbox's cache for five minutes.
        names["upload"] = names["StageAndCreateUploadOperator"](
            task_id="upload", source=source, name="parcels", tileset=f"verified-{next(_NUMBERS)}"
        )
    if re.search(r"^wait >>", text, re.M):
        names["wait"] = names["EmptyOperator"](task_id="wait")
    exec(text, names)
    for function in re.findall(r"^@task[^\n]*\ndef (\w+)", text, re.M):
        if not re.search(rf"(?<!def ){function}\(", text):
            names[function]()


def run_as_dag_file(text: str, folder: Path) -> None:
    """Save a block in a DAGs folder, let Airflow load it, and run its DAG unless only an asset's event starts it."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    (name,) = re.findall(r"^@dag[^\n]*\ndef (\w+)", text, re.M)
    calls = "" if re.search(rf"^{name}\(\)", text, re.M) else f"\n\n{name}()\n"
    dags = folder / "dags"
    dags.mkdir(exist_ok=True)
    (dags / f"{name}.py").write_text(f"{TOP}\nframe = None\n{text}{calls}")
    bag = DagBag(dags / f"{name}.py")
    assert bag.import_errors == {}
    dag = bag.dags[name]
    if dag.task_dict:
        sync_bag_to_db(bag, "dags-folder", None)
        assert dag.test(logical_date=DAY).state == "success"
    else:
        assert dag.timetable.asset_condition is not None


def run_as_conftest(text: str, folder: Path) -> None:
    """Run a test under the page's fixture, in a pytest of its own."""
    project = folder / "project"
    project.mkdir()
    (project / "conftest.py").write_text(f"import dataclasses\n\nimport pytest\n\n\n{text}")
    (project / "test_account.py").write_text(
        "def test_account(mapbox_emulator):\n    assert mapbox_emulator.account == 'acme'\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(project)]
    done = subprocess.run(command, cwd=project, env=os.environ, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_each_block_that_runs_elsewhere_is_on_its_page() -> None:
    counts = Counter((block.page, block.first_line) for block in blocks())
    assert {key: counts[key] for key in RUN_ELSEWHERE} == dict.fromkeys(RUN_ELSEWHERE, 1)
