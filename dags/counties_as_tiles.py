"""
Publish a layer as vector tiles (MBTiles) under ceilings. A layer that is too large for GeoJSON needs this.

Tiles are made on the worker, so Mapbox does not choose the zooms, and bills what is sent: the MBTiles file. The task
fails before a byte is sent if that file is larger than `max_megabytes`, or in a higher price tier than `max_tier`. It
needs the extra `airflow-provider-mapbox[mbtiles]`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import dag

from airflow_mapbox.operators.uploads import StageAndCreateUploadOperator

COUNTIES = Path(__file__).parent / "data" / "virginia-counties-utm17n.zip"


@dag(
    schedule=None,
    start_date=datetime(2018, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mapbox", "example"],
    doc_md=__doc__,
)
def counties_as_tiles() -> None:
    StageAndCreateUploadOperator(
        task_id="upload",
        source=str(COUNTIES),
        format="mbtiles",
        export={"maxzoom": 9, "name": "counties"},
        tileset="virginia-counties-tiles",
        name="Counties of Virginia, as tiles",
        max_megabytes=25,
        max_tier="10m",
        wait_for_completion=True,
    )


counties_as_tiles()
