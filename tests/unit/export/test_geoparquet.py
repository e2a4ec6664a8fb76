from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from shapely.geometry import LineString

from airflow_mapbox.export import ExportError
from airflow_mapbox.export.batch import column_bytes
from airflow_mapbox.export.sources import read_source
from airflow_mapbox.export.sources.geoparquet import BATCH_BYTES
from airflow_mapbox.export.sources.selection import Selection

from .support import features, frame


def written(path: Path, texts: list[str], group: int) -> geopandas.GeoDataFrame:
    count = len(texts)
    points = frame(shapely.points(np.linspace(-170, 170, count), np.zeros(count)), n=np.arange(count), text=texts)
    points.to_parquet(path, row_group_size=group)
    return points


@pytest.mark.parametrize("group", [30_000, 100_000], ids=["groups", "one group"])
@pytest.mark.parametrize("first", [0, 1, 40_000], ids=lambda rows: f"{rows} short")
def test_a_batch_is_of_so_many_bytes_however_the_file_encodes_them(tmp_path: Path, group: int, first: int) -> None:
    """A dictionary has each text once, so the file has 20 kB of what are 150 MB in memory."""
    texts = ["short"] * first + [f"{n % 8}" * 1500 for n in range(100_000 - first)]
    source = written(tmp_path / "x.parquet", texts, group)

    sizes, found = [], []
    for batches in read_source(tmp_path / "x.parquet", Selection()):
        for batch in batches:
            assert batch.first == sum(map(len, found))
            sizes.append(batch.geometry.nbytes + sum(map(column_bytes, batch.columns.values())))
            found.append(batch.columns["n"].to_numpy())

    assert (np.concatenate(found) == source["n"]).all()
    # Where short rows end, one batch has as many as were right for them: 65,536.
    largest = sorted(sizes, reverse=True)
    assert largest[0] <= (1.1 if first < 2 else 13) * BATCH_BYTES
    assert largest[1] <= 2 * BATCH_BYTES


def test_short_rows_are_read_many_at_a_time(tmp_path: Path) -> None:
    written(tmp_path / "x.parquet", ["short"] * 200_000, 200_000)
    assert pq.ParquetFile(tmp_path / "x.parquet").num_row_groups == 1

    (batches,) = read_source(tmp_path / "x.parquet", Selection())

    assert len(list(batches)) < 10


def test_vertices_of_max_segment_are_bounded() -> None:
    """A line over 1,000 km has 10 million segments of a decimetre."""
    line = frame([LineString([(0, 0), (1e6, 0)])], crs="EPSG:32633")

    with pytest.raises(ExportError, match=r"max_segment= would make 10,000,001 vertices.*batch_rows="):
        features(line, max_segment=0.1)
    assert len(features(line, max_segment=1e4)[0]["geometry"]["coordinates"]) == 101
