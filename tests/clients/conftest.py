"""An emulator that speaks TLS, and what other clients need to be run against it unchanged."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings

SECONDS = 300


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program and give what it printed; what it complained of is the test's failure."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def settings_of_mapbox(emulator: Emulator) -> dict[str, str]:
    """Return the environment variables that lead the PyPI package ``mapbox`` to an emulator with TLS."""
    return {
        "MAPBOX_ACCESS_TOKEN": emulator.token,
        "MAPBOX_HOST": emulator.url.removeprefix("https://"),
        "AWS_ENDPOINT_URL": emulator.s3_url,
        "AWS_CA_BUNDLE": str(emulator.ca_file),
        "REQUESTS_CA_BUNDLE": str(emulator.ca_file),
    }


def beside_package(script: Path, *packages: str, folder: Path) -> Path:
    """Install npm packages into a folder and give a copy of the script that uses them, beside them."""
    (folder / "package.json").write_text('{"private": true}')
    run("npm", "install", "--no-audit", "--no-fund", *packages, cwd=folder)
    return Path(shutil.copy(script, folder))


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Emulator]:
    # Short pages, so that a client has to follow the links.
    settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0, page_bytes=400)
    with Emulator(tmp_path / "emulator", settings=settings, tls=True) as running:
        yield running
