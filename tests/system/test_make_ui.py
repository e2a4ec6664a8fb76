"""`make ui`, followed by a newcomer in headless Chromium: what it prints to do first works with the defaults."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import ROOT
from tests.support.browser import CHROMIUM, browser

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; .ci/run installs it"),
]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run what `make ui` runs, and give all that it has printed once it says how to end it."""
    command = [sys.executable, "-m", "demo.run", "--serve", "--folder", str(tmp_path_factory.mktemp("ui"))]
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


def test_the_first_trigger_with_the_defaults_makes_the_tileset_that_it_names(printed: str, tmp_path: Path) -> None:
    (dag,) = re.findall(r"1\. Open (\S+)", printed)
    (tileset,) = re.findall(r"^ *(http\S+/tilesets/\S+)$", printed, re.MULTILINE)
    with browser(tmp_path) as person:
        person.page.goto(dag)
        person.page.get_by_test_id("trigger-dag-button").click()
        person.page.get_by_test_id("trigger-dag-submit").click()
        person.page.get_by_test_id("trigger-dag-submit").wait_for(state="detached")

    deadline = time.monotonic() + 120
    while requests.get(f"{tileset}.json", timeout=10).status_code != 200:
        assert time.monotonic() < deadline, "the tileset that make ui names was not made"
        time.sleep(1)


def test_the_connection_that_it_made_turns_green_at_its_test(printed: str, tmp_path: Path) -> None:
    (connections,) = re.findall(r"Open (\S+/connections)", printed)
    with browser(tmp_path) as person:
        person.page.goto(connections)
        row = person.page.get_by_role("row").filter(has_text="mapbox_default")
        with person.page.expect_response(lambda answer: answer.url.endswith("/connections/test")) as tested:
            row.locator("td").last.locator("button").first.click()
        answer = tested.value.json()

    assert answer["status"] is True, answer


def test_deferred_tasks_find_a_triggerer(printed: str) -> None:
    (airflow,) = re.findall(r"^  Airflow +(\S+)$", printed, re.MULTILINE)

    health = requests.get(f"{airflow}/api/v2/monitor/health", timeout=10).json()

    assert health["triggerer"]["status"] == "healthy"
