"""The wheel, built and installed where nothing else is: what a user gets."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(600)


def attempt(*command: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
    environment |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    # Elsewhere than in the checkout, so that only what was installed can be imported.
    return subprocess.run([*map(str, command)], env=environment, cwd=home, capture_output=True, text=True)


def run(*command: str | Path, home: Path) -> str:
    done = attempt(*command, home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def distribution(home: Path) -> Path:
    """Build the source archive, and the wheel from it; return their folder."""
    # With the hatchling that is installed here, which constraints.txt pins.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", home / "dist", ROOT, home=home)
    return home / "dist"


@pytest.fixture(scope="module")
def wheel(distribution: Path) -> Path:
    (built,) = distribution.glob("*.whl")
    return built


def install(python: Path, *what: str | Path, home: Path) -> str:
    """Install into an environment, or say what would be with `--dry-run`; give what was said."""
    what = ("-c", ROOT / "constraints.txt", *what)
    # As in the Makefile: uv is quick, and pip reaches what pip is configured to.
    uv = (sys.executable, "-m", "uv", "pip", "install", "--system-certs", "--python", python)
    done = attempt(*uv, *what, home=home)
    return done.stderr if done.returncode == 0 else run(python, "-m", "pip", "install", *what, home=home)


def environment(folder: Path, *what: str | Path, home: Path) -> Path:
    """Make an environment of what is given and nothing else; give its interpreter."""
    run(sys.executable, "-m", "venv", folder, home=home)
    python = folder / "bin" / "python"
    if what:
        install(python, *what, home=home)
    return python


@pytest.fixture(scope="module")
def empty_environment(home: Path, wheel: Path) -> Path:
    return environment(home / "venv", wheel, home=home)


@pytest.fixture(scope="module")
def testing_environment(home: Path, wheel: Path) -> Path:
    """What the page "Test your own DAGs" has a reader install."""
    wanted = f"airflow-provider-mapbox[emulator] @ {wheel.as_uri()}"
    return environment(home / "testing", wanted, "pytest", home=home)


def test_the_tests_of_the_source_archive_pass_in_its_own_folder(home: Path, distribution: Path) -> None:
    (archive,) = distribution.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(home / "sources", filter="data")
    (folder,) = (home / "sources").iterdir()
    # One room of the package, and what reads the pages, the examples and the metadata.
    chosen = [
        folder / "tests/unit" / name for name in ("rules", "test_docs.py", "test_layout.py", "test_index_page.py")
    ]

    told = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, *chosen, home=folder)

    assert re.search(r"\d{2,} passed", told)


def test_the_same_commit_makes_the_same_bytes(home: Path, distribution: Path) -> None:
    again = home / "again"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", again, ROOT, home=home)

    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in distribution.iterdir()
    }


def test_airflow_lists_the_provider_and_its_connection_type(home: Path, empty_environment: Path) -> None:
    providers = run(empty_environment, "-m", "airflow", "providers", "list", "--output", "plain", home=home)
    (line,) = [line for line in providers.splitlines() if line.startswith("airflow-provider-mapbox")]
    assert "Mapbox" in line
    hooks = run(empty_environment, "-m", "airflow", "providers", "hooks", "--output", "plain", home=home)
    (line,) = [line for line in hooks.splitlines() if line.split()[:1] == ["mapbox"]]
    assert "airflow_mapbox.hooks.uploads.MapboxUploadsHook" in line


# The names that users import. They stay where they are, whatever moves behind them.
PUBLIC_NAMES = """
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.hooks.postgis import postgis_query
from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from airflow_mapbox.triggers.uploads import UploadCompleteTrigger
from airflow_mapbox.uploads.client import UploadsClient
from airflow_mapbox.uploads.errors import ApiError, MapboxError, SourceError, ThrottledError, UploadFailedError
from airflow_mapbox.exceptions import MapboxFailError, MapboxTaskError, MapboxUploadFailedError
from airflow_mapbox.exceptions import MapboxUploadGoneError, MapboxUploadStalledError, MapboxUploadTimeoutError
from airflow_mapbox.export import ExportError, stream_geojson, write_auto, write_geojson, write_mbtiles
from airflow_mapbox.preflight import check_source, estimate_area, expected_maxzoom
from airflow_mapbox.billing.rates import Rates
from airflow_mapbox.emulator import Emulator, EmulatorSettings
"""


@pytest.mark.parametrize("line", PUBLIC_NAMES.split("\n")[1:-1])
def test_a_public_name_is_where_users_import_it(home: Path, testing_environment: Path, line: str) -> None:
    run(testing_environment, "-c", line, home=home)


def test_everything_but_the_emulator_works_without_its_extra(home: Path, empty_environment: Path) -> None:
    code = (
        "import airflow_mapbox.hooks.uploads, airflow_mapbox.hooks.staging, airflow_mapbox.operators.uploads\n"
        "import airflow_mapbox.sensors.uploads, airflow_mapbox.preflight\n"
        "import geopandas\n"
        "from airflow_mapbox.export import write_geojson\n"
        "frame = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([7], [50]), crs=4326)\n"
        "print(write_geojson(frame, 'x.geojson').features)\n"
    )
    assert run(empty_environment, "-c", code, home=home).splitlines()[-1] == "1"


def test_the_example_of_the_page_on_testing_passes_with_the_wheel_alone(home: Path, testing_environment: Path) -> None:
    page = (ROOT / "docs/how-to/test-dags.md").read_text()
    project = home / "project"
    # Each file of the example stands behind the line that names it.
    files = re.findall(r"^`((?:dags|tests)/\w+\.py)`[^\n]*\n\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["dags/roads.py", "tests/conftest.py", "tests/test_roads.py"]
    for name, text in files:
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    told = run(testing_environment, "-m", "pytest", "--strict-markers", project, home=home)

    assert f"{page.count('def test_')} passed" in told


def documented_installs(name: str) -> list[list[str]]:
    """Return the arguments of each `pip install` in a page's code blocks."""
    # In a comment are the lines that only the index page shows: the index does not have the package yet.
    shown = re.sub(r"<!--.*?-->", "", (ROOT / name).read_text(), flags=re.DOTALL)
    lines = re.findall(r"^pip install (.*)$", shown, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/test-dags.md"])
def test_the_install_lines_of_the_documentation_find_the_package(home: Path, page: str) -> None:
    python = environment(home / f"{Path(page).stem}-venv", home=home)
    installs = documented_installs(page)
    assert installs
    for wanted in installs:
        # "In the clone's folder": nothing is written into it, and nothing is installed.
        places = [re.sub(r"^(?=constraints\.txt)|^\.", f"{ROOT}/", name) for name in wanted]
        told = install(python, "--dry-run", *places, home=home)
        assert "Would install" in told
        assert "airflow-provider-mapbox" in told


def test_an_extra_is_added_to_the_installed_package(home: Path, empty_environment: Path) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "airflow_mapbox").rglob("*.py")]
    extras = {
        extra
        for page in pages
        for extras in re.findall(r"pip install 'airflow-provider-mapbox\[([\w,]+)\]'", page.read_text())
        for extra in extras.split(",")
    }
    assert {"mbtiles", "s3", "emulator"} <= extras
    for extra in sorted(extras - {"EXTRA"}):
        wanted = f"airflow-provider-mapbox[{extra}]"

        told = run(
            empty_environment, "-m", "pip", "install", "--dry-run", "-c", ROOT / "constraints.txt", wanted, home=home
        )

        assert "Would install" in told
        assert "does not provide" not in told
