"""What a tileset was last made from, as Airflow remembers it: by its events, and by its asset's state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Self

import airflow.sdk.execution_time.context as airflow_context
import pytest

from airflow_mapbox.tasks import assets
from airflow_mapbox.tasks.assets import last_published, tileset_alias, tileset_asset

TILESET = "demo.parcels"
URI = tileset_asset(TILESET).uri
KNOWN = {"fingerprint": {"size": 2}, "sha256": "d" * 64}


class Events:
    """A DAG's asset events, newest first."""

    def __init__(self, *extras: dict[str, Any]) -> None:
        self._events = [SimpleNamespace(asset=SimpleNamespace(uri=URI), extra=extra) for extra in extras]

    def __getitem__(self, _: object) -> Any:
        return self

    def ascending(self, _: bool) -> Self:
        return self

    def limit(self, count: int) -> list[Any]:
        return self._events[:count]


def last(monkeypatch: pytest.MonkeyPatch, events: Events, state: dict[str, Any] | None) -> Any:
    monkeypatch.setattr(airflow_context, "InletEventsAccessors", lambda _: events)
    monkeypatch.setattr(assets, "asset_state", lambda *_: state)
    return last_published(tileset_alias("dag"), TILESET)


def test_its_last_event_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    events = Events({"upload_id": "second", "mapbox_source": KNOWN}, {"upload_id": "first", "mapbox_source": KNOWN})

    assert last(monkeypatch, events, None).upload_id == "second"


def test_an_event_that_knows_no_source_leaves_it_to_the_asset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the sensor was given the upload's id alone."""
    events = Events({"upload_id": "first", "mapbox_source": {}})

    found = last(monkeypatch, events, {"mapbox_source": {"upload_id": "first", **KNOWN}})

    assert (found.upload_id, found.sha256) == ("first", "d" * 64)
    assert last(monkeypatch, events, None) is None
