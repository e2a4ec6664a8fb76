from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from pyproj import CRS
from shapely.geometry import LineString, Point

from airflow_mapbox.export import ExportError
from airflow_mapbox.export.errors import UnreadableSourceError
from airflow_mapbox.export.options import Selection
from airflow_mapbox.export.readers import read_source
from airflow_mapbox.export.readers.geoparquet import READ_BYTES
from tests.unit.export.support import features, frame, streamed


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
            sizes.append(batch.geometry.nbytes + sum(column.nbytes for column in batch.columns.values()))
            found.append(batch.columns["n"].to_numpy())

    assert (np.concatenate(found) == source["n"]).all()
    # Where short rows end, one batch has as many as were right for them: 32,768.
    largest = sorted(sizes, reverse=True)
    assert largest[0] <= (1.1 if first < 2 else 13) * READ_BYTES
    assert largest[1] <= 2 * READ_BYTES


def retyped(path: Path, **kinds: pa.DataType) -> None:
    """Have a file keep its columns in other types, as other writers do."""
    table = pq.read_table(path)
    for name, kind in kinds.items():
        column = table.column(name).combine_chunks()
        column = getattr(column, "storage", column).cast(pa.binary() if name == "geometry" else pa.string())
        column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, path)
    assert {name: pq.read_schema(path).field(name).type for name in kinds} == kinds


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.binary(21),
        pa.dictionary(pa.int32(), pa.binary()),
    ],
    ids=str,
)
def test_geometries_are_read_from_every_type_of_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    source = written(tmp_path / "x.parquet", ["a", "b", "c"], 2)
    source.loc[1, "geometry"] = None
    source.to_parquet(tmp_path / "x.parquet")
    retyped(tmp_path / "x.parquet", geometry=kind)

    document, report = streamed(tmp_path / "x.parquet")

    assert [feature["geometry"]["coordinates"] for feature in document["features"]] == [[-170, 0], [170, 0]]
    assert report.dropped == {"no geometry": 1}


@pytest.mark.slow
def test_views_are_read_in_batches_of_the_same_size(tmp_path: Path) -> None:
    texts = [f"{n % 1000}" * 500 for n in range(50_000)]
    written(tmp_path / "x.parquet", texts, 50_000)
    retyped(tmp_path / "x.parquet", geometry=pa.binary_view(), text=pa.string_view())

    (batches,) = read_source(tmp_path / "x.parquet", Selection())
    found = list(batches)

    assert [text for batch in found for text in batch.columns["text"].to_pylist()] == texts
    assert len(found) < 20
    assert features(tmp_path / "x.parquet")[7]["properties"] == {"n": 7, "text": "7" * 500}


def test_geometries_that_are_not_bytes_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    written(tmp_path / "x.parquet", ["a"], 1)
    table = pq.read_table(tmp_path / "x.parquet")
    table = table.drop_columns("geometry").append_column("geometry", pa.array([1]))
    pq.write_table(table, tmp_path / "x.parquet")

    with pytest.raises(UnreadableSourceError, match=r"x\.parquet cannot be read as GeoParquet"):
        features(tmp_path / "x.parquet")


def test_short_rows_are_read_many_at_a_time(tmp_path: Path) -> None:
    written(tmp_path / "x.parquet", ["short"] * 200_000, 200_000)
    assert pq.ParquetFile(tmp_path / "x.parquet").num_row_groups == 1

    (batches,) = read_source(tmp_path / "x.parquet", Selection())

    assert len(list(batches)) < 10


def test_vertices_of_max_segment_are_bounded() -> None:
    """A line over 1,000 km has 10 million segments of a decimetre."""
    line = frame([LineString([(0, 0), (1e6, 0)])], crs="EPSG:32633")

    with pytest.raises(ExportError, match=r"(?s)max_segment= would make 10,000,001 vertices.*batch_rows="):
        features(line, max_segment=0.1)
    assert len(features(line, max_segment=1e4)[0]["geometry"]["coordinates"]) == 101


@pytest.mark.parametrize("code", [4326, 3857, 32633, 5070])
def test_a_reference_system_is_known_by_its_code_as_geopandas_writes_it(tmp_path: Path, code: int) -> None:
    """PROJ reads geopandas' JSON of WGS 84 in tens of milliseconds, in each thread anew."""
    frame([Point(1, 2)], f"EPSG:{code}").to_parquet(tmp_path / "x.parquet")

    (batch,) = (batch for batches in read_source(tmp_path / "x.parquet", Selection()) for batch in batches)

    assert batch.crs is not None
    assert batch.crs.srs == f"EPSG:{code}"


@pytest.mark.parametrize("change", ["semi_major_axis", "member", "no id", "unknown id"])
def test_a_reference_system_that_only_has_the_code_of_another_is_read_as_it_is_written(
    tmp_path: Path, change: str
) -> None:
    frame([Point(1, 2)], "EPSG:4326").to_parquet(tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    geo = json.loads(table.schema.metadata[b"geo"])
    crs = geo["columns"]["geometry"]["crs"]
    if change == "semi_major_axis":
        crs["datum_ensemble"]["ellipsoid"]["semi_major_axis"] = 6378000
    elif change == "member":
        crs["datum_ensemble"]["members"].pop()
    elif change == "no id":
        del crs["id"]
    else:
        crs["id"] = {"authority": "NONE", "code": 1}
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo).encode()}), tmp_path / "x.parquet")

    (batch,) = (batch for batches in read_source(tmp_path / "x.parquet", Selection()) for batch in batches)

    assert batch.crs is not None
    assert batch.crs.srs != "EPSG:4326"
    assert batch.crs == CRS.from_user_input(crs)
