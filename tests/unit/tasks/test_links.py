"""What a task knows of its pages before it has asked Mapbox."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor
from airflow_mapbox.tasks.links import Pages, TilesetLink, UploadLink


def test_the_result_of_the_upload_task_names_the_tilesets_page() -> None:
    page = "https://console.mapbox.com/studio/tilesets/acme.parcels/"

    assert Pages.from_result({"id": "cid", "tileset_url": page}) == Pages(tileset=page)


@pytest.mark.parametrize(
    "result",
    [
        "cid",
        {},
        {"tileset_url": None},
        {"tileset_url": "javascript:alert(1)"},
        {"tileset_url": "https://user:c4n4ry@mapbox.example/tilesets/acme.parcels"},
        {"tileset_url": "https://mapbox.example/tilesets/acme.parcels?access_token=c4n4ry"},
    ],
)
def test_anything_else_is_no_page(result: Any) -> None:
    assert Pages.from_result(result) == Pages()


@pytest.mark.parametrize("kind", [StageAndCreateUploadOperator, UploadCompleteSensor])
def test_before_a_run_the_links_are_empty_also_of_a_mapped_task(kind: Any) -> None:
    key: Any = None
    mapped = kind.partial(task_id="mapped").expand(**{"upload_id" if "Sensor" in kind.__name__ else "source": ["a"]})

    for link in kind.operator_extra_links:
        assert link.get_link(mapped, ti_key=key) == ""
    assert [type(link) for link in kind.operator_extra_links] == [TilesetLink, UploadLink]
