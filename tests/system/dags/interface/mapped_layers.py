"""Two layers by dynamic task mapping, and one file that Mapbox would refuse for two reasons."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import dag, task

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator

FOLDER = Path(os.environ["MAPBOX_EXPORT_FOLDER"])


def _write(name: str, *positions: tuple[float, float]) -> str:
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": {"type": "Point", "coordinates": position}}
        for position in positions
    ]
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.geojson"
    document = {"type": "FeatureCollection", "features": features}
    if name == "metres":
        document["crs"] = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::25832"}}
    path.write_text(json.dumps(document))
    return str(path)


@dag(schedule=None, start_date=datetime(2018, 1, 1, tzinfo=UTC), catchup=False)
def mapped_layers() -> None:
    @task
    def layers() -> list[dict[str, str]]:
        return [
            {"source": _write("rivers", (7.1, 50.7), (7.2, 50.8)), "tileset": "rivers"},
            {"source": _write("lakes", (8.1, 47.7)), "tileset": "lakes"},
        ]

    StageAndCreateUploadOperator.partial(task_id="upload", wait_for_completion=True).expand_kwargs(layers())


@dag(schedule=None, start_date=datetime(2018, 1, 1, tzinfo=UTC), catchup=False)
def refused_file() -> None:
    @task
    def write() -> str:
        return _write("metres", (807_000.5, 6_575_000.5), (808_000.5, 6_576_000.5))

    StageAndCreateUploadOperator(task_id="upload", source=write(), tileset="metres", name="In metres")


mapped_layers()
refused_file()
