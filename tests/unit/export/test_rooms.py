"""The rooms of the export import in one direction, so that each can be read by itself."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

EXPORT = ROOT / "airflow_mapbox" / "export"
ROOMS = {
    "geometry": {"errors", "geometry"},
    "text": {"errors", "text"},
    "readers": {"errors", "options", "geometry", "text", "readers"},
    "tiles": {"errors", "tiles"},
}
IMPORT = re.compile(r"from airflow_mapbox\.export\.(\w+)")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    imported = {name for file in (EXPORT / room).glob("*.py") for name in IMPORT.findall(file.read_text())}

    assert imported <= ROOMS[room]


def test_options_import_only_the_choices_of_geometry() -> None:
    imports = re.findall(r"from airflow_mapbox\.export\.([\w.]+) import", (EXPORT / "options.py").read_text())

    assert set(imports) == {"errors", "geometry.options"}
