"""
Publish a layer that is too large for one worker: tile its parts on many workers, join the tiles, upload once, wait.

Trigger this DAG without parameters. Its data is bundled: the counties of Virginia in four files. For a layer of your
own, set the parameter `data_set` to a folder of GeoParquet files, such as `s3://my_conn@bucket/parcels`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath, Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator
from airflow_mapbox.sensors.uploads import UploadCompleteSensor

# Workers pass tiles to each other in this folder. With several machines, all workers must share it.
EXPORT_FOLDER = Path(
    os.environ.get("MAPBOX_EXPORT_FOLDER") or Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "exports"
)
COUNTIES = Path(__file__).parent / "data" / "virginia-counties"
LAYER = "counties"
# All parts need the same zooms. Below the minzoom the tiles of a large layer would contain too many features.
MINZOOM, MAXZOOM = 5, 10


@dag(
    schedule=None,
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a run overwrites the parts of the run before
    tags=["mapbox", "example"],
    params={
        "data_set": Param(
            str(COUNTIES),
            type="string",
            title="Data set",
            description="A folder of GeoParquet files, on storage that all workers reach",
        )
    },
    doc_md=__doc__,
)
def layer_in_parts() -> None:
    @task
    def find_parts(params: dict[str, Any] | None = None) -> list[str]:
        folder = ObjectStoragePath((params or {})["data_set"])
        parts = sorted(str(path) for path in folder.iterdir() if path.suffix == ".parquet")
        if not parts:
            raise AirflowFailException(f"{folder} has no .parquet file. Set the parameter data_set to another folder.")
        return parts

    # Without a maximum, the parts of one large layer would take all worker slots.
    @task(map_index_template="{{ part.rpartition('/')[2] }}", retries=2, max_active_tis_per_dag=8)
    def tile(part: str) -> str:
        from airflow_mapbox.export import ExportError, write_mbtiles

        source = ObjectStoragePath(part)
        path = EXPORT_FOLDER / "layer_in_parts" / f"{source.stem}.mbtiles"
        try:
            write_mbtiles(source, path, name=LAYER, minzoom=MINZOOM, maxzoom=MAXZOOM)
        except ExportError as error:
            if error.retryable:
                raise
            raise AirflowFailException(str(error)) from None
        return str(path)

    @task(retries=2)
    def join(parts: list[str]) -> dict[str, Any]:
        from airflow_mapbox.export import ExportError, join_mbtiles

        try:
            return join_mbtiles(parts, EXPORT_FOLDER / "layer_in_parts.mbtiles", name="Counties of Virginia").to_json()
        except ExportError as error:
            if error.retryable:
                raise
            raise AirflowFailException(str(error)) from None

    tiled = tile.expand(part=find_parts())
    upload = StageAndCreateUploadOperator(
        task_id="upload",
        source=join(tiled),  # type: ignore[arg-type] - a list of the mapped tasks' results
        tileset="virginia-counties-in-parts",
        name="Counties of Virginia, joined",
        retries=2,  # a retry never creates a second upload
    )
    UploadCompleteSensor(task_id="wait", upload_id=upload.output)


layer_in_parts()
