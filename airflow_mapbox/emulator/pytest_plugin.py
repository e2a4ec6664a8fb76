"""The pytest plugin: the fixture ``mapbox_emulator`` is a running emulator for a test.

pytest imports this module at every start. So the servers, which take a second, are imported only by the fixture.
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
    """Register the marker."""
    config.addinivalue_line("markers", f"{MARKER}(**settings): fields of EmulatorSettings for this test's emulator")


@pytest.fixture
def mapbox_emulator_settings() -> EmulatorSettings:
    """The settings of ``mapbox_emulator``: no rate limits and no minimum duration of processing. Override to change."""
    from airflow_mapbox.emulator.settings import EmulatorSettings

    return EmulatorSettings(processing_seconds=0, rate_limit=0, tilesets_read_limit=0, tilesets_write_limit=0)


@pytest.fixture
def mapbox_emulator(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    mapbox_emulator_settings: EmulatorSettings,
) -> Iterator[Emulator]:
    """A running emulator for one test. Airflow's connection ``mapbox_default`` points to it.

    A start takes some hundredths of a second, so each test has its own emulator. A test never sees the uploads, faults,
    requests or clock of another test, and needs no cleanup.
    """
    settings = mapbox_emulator_settings
    for marker in reversed(list(request.node.iter_markers(MARKER))):
        if marker.args:
            raise pytest.UsageError(f"the marker {MARKER} takes only keyword arguments")
        settings = dataclasses.replace(settings, **marker.kwargs)
    with _start(tmp_path_factory.mktemp("mapbox"), settings) as emulator:
        monkeypatch.setenv(CONNECTION_VARIABLE, emulator.airflow_connection())
        yield emulator


def _start(folder: Path, settings: EmulatorSettings) -> Emulator:
    try:
        from airflow_mapbox.emulator import Emulator
    except ImportError as error:
        pytest.fail(str(error), pytrace=False)
    return Emulator(folder, settings=settings)
