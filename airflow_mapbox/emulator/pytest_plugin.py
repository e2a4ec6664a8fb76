"""The pytest plugin: ``mapbox_emulator``, a running emulator for a test.

pytest imports this at its every start, so it imports nothing that takes time; the servers come with the fixture's use.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mapbox.emulator.server import Emulator
    from airflow_mapbox.emulator.settings import EmulatorSettings

MARKER = "mapbox_emulator"
CONNECTION_VARIABLE = "AIRFLOW_CONN_MAPBOX_DEFAULT"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"{MARKER}(**settings): fields of EmulatorSettings that mapbox_emulator has in this test"
    )


@pytest.fixture
def mapbox_emulator_settings() -> EmulatorSettings:
    """The settings of ``mapbox_emulator``: no rate limit and no least time for processing; override it for others."""
    from airflow_mapbox.emulator.settings import EmulatorSettings

    return EmulatorSettings(processing_seconds=0, rate_limit=0)


@pytest.fixture
def mapbox_emulator(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    mapbox_emulator_settings: EmulatorSettings,
) -> Iterator[Emulator]:
    """A running emulator of the test's own, which Airflow's connection ``mapbox_default`` points to.

    Each test has one to itself, because a start takes some hundredths of a second: so no test finds another's uploads,
    faults, requests or clock, and none can forget to clear them.
    """
    settings = mapbox_emulator_settings
    for marker in reversed(list(request.node.iter_markers(MARKER))):
        if marker.args:
            raise pytest.UsageError(f"the marker {MARKER} takes settings by name")
        settings = dataclasses.replace(settings, **marker.kwargs)
    with _start(tmp_path_factory.mktemp("mapbox"), settings) as running:
        monkeypatch.setenv(CONNECTION_VARIABLE, running.airflow_connection())
        yield running


def _start(folder: Path, settings: EmulatorSettings) -> Emulator:
    try:
        from airflow_mapbox.emulator.server import Emulator
    except ImportError as error:
        pytest.fail(
            f"mapbox_emulator needs what is installed by: pip install 'airflow-provider-mapbox[emulator]' ({error})",
            pytrace=False,
        )
    return Emulator(folder, settings=settings)
