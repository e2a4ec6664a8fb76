"""
Work grows with the size of the data, not with its square.

Counted are bytes that are searched, values that are written, and vertices that GEOS is given; no time, which a busy
machine changes. GEOS takes as long as parts squared for some functions, so those count parts squared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from airflow_mapbox.export import stream_geojson
from airflow_mapbox.export.options import Selection
from airflow_mapbox.export.readers import geoparquet, read_source
from airflow_mapbox.export.text import attributes
from tests.unit.export.support import features, frame, geometry, streamed

ROWS = 2000
TEXTS = [f"{n:06} {'long text ' * 16}" for n in range(ROWS)]


def _frame(column: Any) -> geopandas.GeoDataFrame:
    return frame(list(shapely.points(np.zeros((ROWS, 2)))), text=column)


COLUMNS: dict[str, Callable[[], Any]] = {
    "str": lambda: pd.array(TEXTS, dtype="str"),
    "object": lambda: np.array(TEXTS, dtype=object),
    "python": lambda: pd.array(TEXTS, dtype=pd.StringDtype("python")),
    "string": lambda: pd.array(TEXTS, dtype=pd.ArrowDtype(pa.string())),
    "large_string": lambda: pd.array(TEXTS, dtype=pd.ArrowDtype(pa.large_string())),
    "categorical": lambda: pd.Categorical(TEXTS),
    "dictionary": lambda: pd.Series(pa.array(TEXTS).dictionary_encode(), dtype=pd.ArrowDtype(_DICTIONARY)),
}
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each text that is searched for what JSON escapes."""
    found: list[int] = []
    escaped = attributes._escaped

    def counted(texts: pa.Array) -> pa.Array:
        if texts.buffers()[2] is not None:
            found.append(texts.buffers()[2].size)
        return escaped(texts)

    monkeypatch.setattr(attributes, "_escaped", counted)
    return found


@pytest.mark.parametrize("kind", COLUMNS)
def test_each_text_is_searched_once_however_many_slices_there_are(kind: str, searched: list[int]) -> None:
    source = _frame(COLUMNS[kind]())

    found = features(source, batch_rows=50)

    assert [feature["properties"]["text"] for feature in found] == TEXTS
    assert sum(searched) <= 1.1 * sum(map(len, TEXTS))


def test_frames_that_share_categories_write_their_own_alone(searched: list[int]) -> None:
    whole = _frame(pd.Categorical(TEXTS))

    found = features(whole.iloc[n : n + 4] for n in range(0, 400, 4))

    assert [feature["properties"]["text"] for feature in found] == TEXTS[:400]
    assert sum(searched) <= 1.1 * sum(map(len, TEXTS[:400]))


def test_a_file_of_categories_is_read_by_as_many_rows_as_one_of_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geoparquet, "READ_BYTES", sum(map(len, TEXTS)) // 4)
    _frame(pd.Categorical(TEXTS)).to_parquet(tmp_path / "x.parquet")

    ((*batches,),) = read_source(tmp_path / "x.parquet", Selection())

    assert sum(map(len, batches)) == ROWS
    assert len(batches) <= 16


@pytest.mark.parametrize("values", [TEXTS, list(range(ROWS)), [f"2026-01-{1 + n % 28:02}" for n in range(ROWS)]])
def test_missing_categories_stay_missing(values: list[Any]) -> None:
    expected = [None if n % 3 == 0 else value for n, value in enumerate(values)]
    arrow = pa.array(expected).dictionary_encode()

    for given in (pd.Categorical(expected), pd.Series(arrow, dtype=pd.ArrowDtype(arrow.type))):
        found = features(_frame(given), batch_rows=7)
        assert [feature["properties"]["text"] for feature in found] == expected


def test_a_slice_of_text_with_gaps_and_quotes_is_written_unchanged() -> None:
    texts = [None if n % 5 == 0 else f'"{n}"\n\\' * (n % 3) for n in range(ROWS)]

    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        found = features(_frame(pd.Series(pa.array(texts, kind), dtype=pd.ArrowDtype(kind))), batch_rows=13)
        assert [feature["properties"]["text"] for feature in found] == texts


@pytest.mark.slow
def test_many_columns_have_slices_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = 0
    encode = attributes._Encoder.encode

    def counted(self: Any, column: Any) -> Any:
        nonlocal encoded
        encoded += 1
        return encode(self, column)

    monkeypatch.setattr(attributes._Encoder, "encode", counted)
    columns = 3000
    table = pd.DataFrame(np.zeros((300, columns)), columns=[f"c{n}" for n in range(columns)])
    source = geopandas.GeoDataFrame(table, geometry=shapely.points(np.zeros((300, 2))), crs=4326)

    streamed(source)

    assert encoded <= 2 * columns


def test_the_statistics_of_many_columns_are_found_without_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0

    class Counted:
        def __init__(self, metadata: pq.FileMetaData) -> None:
            self._metadata = metadata

        @property
        def schema(self) -> Any:
            nonlocal read
            read += 1
            return self._metadata.schema

        def __getattr__(self, name: str) -> Any:
            return getattr(self._metadata, name)

    columns = 300
    table = pd.DataFrame(np.ones((2, columns), np.int64), columns=[f"c{n}" for n in range(columns)])
    geopandas.GeoDataFrame(table, geometry=shapely.points(np.zeros((2, 2))), crs=4326).to_parquet(
        tmp_path / "x.parquet"
    )
    metadata = pq.ParquetFile.metadata
    monkeypatch.setattr(pq.ParquetFile, "metadata", property(lambda self: Counted(metadata.fget(self))))

    assert len(features(tmp_path / "x.parquet")) == 2
    assert read <= 3 * columns


def _wrapped(ring: Any) -> Any:
    ring = np.array(ring, float)
    ring[:, 0] = (ring[:, 0] + 180) % 360 - 180
    return ring


def _square(x: float, y: float, size: float) -> list[tuple[float, float]]:
    return [(x, y), (x + size, y), (x + size, y + size), (x, y + size), (x, y)]


def _bow_tie(x: float, y: float, size: float = 0.01) -> list[tuple[float, float]]:
    return [(x, y), (x + size, y + size), (x + size, y), (x, y + size), (x, y)]


def _places(count: int) -> Iterator[tuple[float, float]]:
    side = int(np.ceil(np.sqrt(count)))
    return ((n // side / side, n % side / side) for n in range(count))


def holes_over_180(count: int) -> Any:
    holes = [_wrapped(_square(175.01 + 9.9 * x, 10 * y + 0.01, 1 / count)) for x, y in _places(count)]
    return shapely.Polygon(_wrapped(_square(175, 0, 10)), holes)


def parts_over_180(count: int) -> Any:
    return shapely.MultiPolygon(
        [shapely.Polygon(_wrapped(_square(179.5, y, 1 / count))) for y in np.linspace(-80, 80, count)]
        + [shapely.Polygon(_wrapped(_square(179.999, y, 0.002))) for y in np.linspace(-79.9, 79.9, count)]
    )


def turns_around_the_world(count: int) -> Any:
    turn = np.linspace(0, count * 360, count * 20)
    low = -80 + 150 * turn / turn[-1]
    ring = np.concatenate([np.stack([turn, low], 1), np.stack([turn, low + 60 / count], 1)[::-1]])
    return shapely.Polygon(_wrapped(np.concatenate([ring, ring[:1]])))


def bow_ties(count: int) -> Any:
    return shapely.MultiPolygon([shapely.Polygon(_bow_tie(x, 0)) for x in np.linspace(-170, 170, count)])


def bow_ties_as_holes(count: int) -> Any:
    return shapely.Polygon(
        _square(-10, -10, 20), [_bow_tie(-9 + 18 * x, -9 + 18 * y, 1 / count) for x, y in _places(count)]
    )


def a_ring_that_crosses_itself(count: int) -> Any:
    x, y = np.linspace(0, 10, count), np.where(np.arange(count) % 2, 0.01, -0.01)
    return shapely.Polygon(np.concatenate([np.stack([x, y], 1), np.stack([x, -y], 1)[::-1]]))


def _count_work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the vertices that GEOS is given, and the parts squared of what it takes so long for."""
    work = {"vertices": 0, "parts squared": 0}
    for name in ("difference", "intersection", "make_valid", "set_precision", "union_all", "disjoint_subset_union_all"):
        original = getattr(shapely, name)

        def counted(first: Any, *more: Any, original: Any = original, name: str = name, **options: Any) -> Any:
            given = np.atleast_1d(np.asarray(first, dtype=object))
            work["vertices"] += int(shapely.get_num_coordinates(given).sum())
            if name == "union_all":
                work["parts squared"] += len(given) ** 2
            elif name == "make_valid" or (name == "set_precision" and options.get("mode") != "pointwise"):
                work["parts squared"] += int((shapely.get_num_geometries(given).astype(np.int64) ** 2).sum())
            return original(first, *more, **options)

        monkeypatch.setattr(shapely, name, counted)
    return work


@pytest.mark.parametrize(
    "shape",
    [
        holes_over_180,
        parts_over_180,
        turns_around_the_world,
        bow_ties,
        bow_ties_as_holes,
        a_ring_that_crosses_itself,
    ],
)
def test_four_times_the_shape_is_not_sixteen_times_the_work(
    shape: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _count_work(monkeypatch)
    counted = []
    for count in (100, 400):
        work.update(dict.fromkeys(work, 0))
        source = frame([shape(count)])
        written = b"".join(stream_geojson(source))
        counted.append(dict(work))
        (only,) = json.loads(written)["features"]
        assert shapely.is_valid(shapely.from_geojson(json.dumps(only["geometry"])))

    small, large = counted
    for what in small:
        assert large[what] <= 6 * max(small[what], 100), what


def test_the_holes_over_180_are_all_cut_out() -> None:
    found = geometry(frame([holes_over_180(100)]))

    whole = 100 - 100 * (1 / 100) ** 2
    assert found.area == pytest.approx(whole, abs=1e-4)
    assert found.is_valid
    assert sum(len(part.interiors) for part in found.geoms) >= 90
