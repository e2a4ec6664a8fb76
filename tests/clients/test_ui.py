"""`make ui`, followed by a newcomer in headless Chromium: what it prints to do first works with the defaults."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_mapbox.emulator.connection import airflow_connection
from tests.clients.conftest import beside_package, run
from tests.clients.test_map import CHROMIUM
from tests.clients.test_map import DRIVER as MAP_DRIVER
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("npm") is None, reason="the browser is driven by an npm package; there is no npm"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; .ci/run installs it"),
]

DRIVER = Path(__file__).with_name("drive_ui.mjs")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ui")


@pytest.fixture(scope="module")
def printed(home: Path) -> Iterator[str]:
    """Run what `make ui` runs, and give all that it has printed once it says how to end it."""
    command = [sys.executable, "-m", "demo.run", "--serve", "--folder", str(home)]
    lines = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        try:
            yield "".join(lines)
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
    assert process.returncode == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drivers, beside the npm package that they use."""
    folder = tmp_path_factory.mktemp("drivers")
    shutil.copy(MAP_DRIVER, folder)
    beside_package(DRIVER, "playwright-core@1.65.1", folder=folder)
    return folder


@pytest.fixture(scope="module")
def followed(printed: str, folder: Path, home: Path) -> dict[str, Any]:
    """Trigger the DAG that is named first, test the demo's connection, and add one by the form."""
    (dag,) = re.findall(r"1\. Open (\S+)", printed)
    (connections,) = re.findall(r"Open (\S+/connections)", printed)
    ready = json.loads((home / "emulator-ready.json").read_text())
    described = airflow_connection(
        url=ready["url"],
        s3_url=ready["s3_url"],
        account=ready["account"],
        token=Path(ready["token_file"]).read_text().strip(),
    )
    said = run(
        "node", folder / DRIVER.name, str(CHROMIUM), dag, connections, folder, cwd=folder,
        CONNECTION=json.dumps(described),
    )  # fmt: skip
    return dict(json.loads(said))


@pytest.mark.usefixtures("followed")
def test_the_first_trigger_with_the_defaults_ends_in_a_map_with_data(printed: str, folder: Path) -> None:
    (tileset,) = re.findall(r"^ *(http\S+/tilesets/\S+)$", printed, re.MULTILINE)
    deadline = time.monotonic() + 120
    while requests.get(f"{tileset}.json", timeout=10).status_code != 200:
        assert time.monotonic() < deadline, "the tileset that make ui names was not made"
        time.sleep(1)

    seen = json.loads(run("node", folder / MAP_DRIVER.name, str(CHROMIUM), tileset, folder / "map.png", cwd=folder))

    assert seen["drawn"] >= 100
    assert seen["land"] > 0
    assert any("NAME" in row for row in seen["attributes"])


@pytest.mark.parametrize("connection", ["demo", "form"])
def test_the_icon_of_the_connection_test_turns_green(followed: dict[str, Any], connection: str) -> None:
    said = followed[connection]

    assert (said["status"], said["answer"]["status"]) == (200, True), said["answer"]
    red, green, blue = map(float, re.findall(r"[\d.]+", said["color"])[:3])
    assert green > max(red, blue), said["color"]


def test_deferred_tasks_find_a_triggerer(printed: str) -> None:
    (airflow,) = re.findall(r"^  Airflow +(\S+)$", printed, re.MULTILINE)

    health = requests.get(f"{airflow}/api/v2/monitor/health", timeout=10).json()

    assert health["triggerer"]["status"] == "healthy"
