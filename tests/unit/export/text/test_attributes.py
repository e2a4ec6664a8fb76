from __future__ import annotations

import datetime
import decimal
import json
import math
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely.geometry import Point

from airflow_mapbox.export.errors import AttributeNameError, AttributeValueError, EmptyExportError
from airflow_mapbox.export.text.attributes import columns_by_name, encode_properties
from tests.unit.export.support import features, frame, streamed

BERLIN = "Europe/Berlin"


def encoded(column: pa.Array | pd.Series, *as_text: str) -> list[Any]:
    """Give what JSON has of each value of a column."""
    pieces = encode_properties({"v": column}, frozenset(as_text))
    texts = [piece.to_pylist() if isinstance(piece, pa.Array) else [piece] * len(column) for piece in pieces]
    return [json.loads("".join(row))["v"] for row in zip(*texts, strict=True)]


def geoparquet(path: Path, **columns: Any) -> Path:
    table = pa.table(columns)
    points = pa.array([shapely.to_wkb(Point(0, 0))] * len(table))
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}
    table = table.append_column("geometry", points)
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo).encode()}), path)
    return path


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.nulls(2), [None, None]),
        (pa.array([True, None]), [True, None]),
        *((pa.array([1, None], kind()), [1, None]) for kind in (pa.int8, pa.int16, pa.int32, pa.int64)),
        *((pa.array([1, None], kind()), [1, None]) for kind in (pa.uint8, pa.uint16, pa.uint32, pa.uint64)),
        (pa.array([np.float16(0.5), None], pa.float16()), [0.5, None]),
        (pa.array([0.1, math.nan, math.inf, None], pa.float32()), [0.1, None, None, None]),
        (pa.array([0.1, math.nan, -math.inf, 1e300, -0.0]), [0.1, None, None, 1e300, 0.0]),
        (pa.array([decimal.Decimal("1.50"), None], pa.decimal32(5, 2)), [1.5, None]),
        (pa.array([decimal.Decimal("1.50"), None], pa.decimal64(5, 2)), [1.5, None]),
        (pa.array([decimal.Decimal("-0.01"), None], pa.decimal128(5, 2)), [-0.01, None]),
        (pa.array([decimal.Decimal("1E3"), None], pa.decimal256(5, -2)), [1000, None]),
        *(
            (pa.array(['ü"\\\n\x01', "", None], kind()), ['ü"\\\n\x01', "", None])
            for kind in (pa.string, pa.large_string)
        ),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array(["a", "b", None, "a"]).dictionary_encode(), ["a", "b", None, "a"]),
        (pa.array([7, None, 7]).dictionary_encode(), [7, None, 7]),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None])), ["a", None]),
        (pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None])), ["a", "a", None]),
        (pa.array([datetime.date(2026, 1, 2), None], pa.date32()), ["2026-01-02", None]),
        (pa.array([datetime.date(1815, 6, 18), None], pa.date64()), ["1815-06-18", None]),
        (pa.array([datetime.time(3, 4, 5), None], pa.time32("s")), ["03:04:05", None]),
        (pa.array([datetime.time(3, 4, 5, 7000), None], pa.time32("ms")), ["03:04:05.007000", None]),
        (pa.array([datetime.time(3, 4, 5), datetime.time(3, 4, 5, 6)]), ["03:04:05", "03:04:05.000006"]),
        (pa.array([1, 10**9], pa.time64("ns")), ["00:00:00.000000001", "00:00:01"]),
        (pa.array([90, None], pa.duration("s")), [90.0, None]),
        (pa.array([1500, None], pa.duration("ms")), [1.5, None]),
        (pa.array([[1, None], None, []]), ["[1,null]", None, "[]"]),
        (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), ["[1,2]"]),
        (pa.array([["a"], None], pa.large_list(pa.string())), ['["a"]', None]),
        (pa.array([{"a": 1, "b": ['"']}, None]), ['{"a":1,"b":["\\""]}', None]),
        (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), ['{"k":1}', None]),
        (pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()), [str(uuid.UUID(int=5)), None]),
        (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None], pa.int8())), [True, False, None]),
        (pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(['{"a":1}', None])), ['{"a":1}', None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_type_of_arrow_has_its_form(column: pa.Array, expected: list[Any]) -> None:
    assert encoded(column) == expected
    assert encoded(pa.concat_arrays([column, column]).slice(len(column))) == expected
    assert encoded(column.slice(1)) == expected[1:]
    assert encoded(column.slice(0, 0)) == []


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", BERLIN, "Asia/Kolkata", "America/St_Johns", "+05:30"])
def test_moments_read_as_the_same_moments(unit: str, zone: str | None) -> None:
    seed = np.random.SeedSequence().entropy
    print("seed", seed)
    rng = np.random.default_rng(seed)
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    ticks = [*rng.integers(-(10**9), 4 * 10**9, 50) * per_second, *rng.integers(-(10**9), 10**9, 50), 0, -1]
    column = pa.array([*map(int, ticks), None], pa.timestamp(unit, zone))

    *written, last = encoded(column)

    assert last is None
    for tick, text in zip(ticks, written, strict=True):
        assert "T" in text
        assert pd.Timestamp(text).value == int(tick) * 10**9 // per_second, text
        assert ("+" in text[10:] or "-" in text[10:]) is (zone is not None)


def test_a_zone_is_written_as_its_offset_at_that_moment() -> None:
    moments = [datetime.datetime(2026, month, 1, tzinfo=datetime.UTC) for month in (1, 7)]

    assert encoded(pa.array(moments, pa.timestamp("s", BERLIN))) == [
        "2026-01-01T01:00:00+01:00",
        "2026-07-01T02:00:00+02:00",
    ]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_moments_whose_offset_has_seconds_are_written_in_utc(unit: str) -> None:
    # Berlin's own time was 53 minutes and 28 seconds ahead until 1893, and ISO 8601's offsets have no seconds.
    moments = [
        datetime.datetime(1887, 6, 1, 12, 0, 1, tzinfo=datetime.UTC),
        None,
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    ]
    expected = ["1887-06-01T12:00:01+00:00", None, "2026-01-01T01:00:00+01:00"]
    local = [None if moment is None else moment.astimezone(ZoneInfo(BERLIN)) for moment in moments]

    assert encoded(pa.array(moments, pa.timestamp(unit, BERLIN))) == expected
    assert encoded(pd.Series(local, dtype=object)) == expected
    first = datetime.datetime(1, 1, 1, tzinfo=ZoneInfo(BERLIN))
    assert encoded(pd.Series([first], dtype=object)) == ["0001-01-01T00:00:00+00:53:28"]
    assert encoded(pd.Series([[one] for one in local])) == [json.dumps([one]) for one in expected]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"x", None]),
        pa.array([b"x"], pa.large_binary()),
        pa.array([b"xy"], pa.binary(2)),
        pa.array([b"x"], pa.binary_view()),
        pa.array([[b"x"]]),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        pa.array([b"\xff"], pa.binary()).view(pa.string()),
        pa.array([86_400_000_000], pa.int64()).cast(pa.time64("us")),
        pa.array([2**31 - 1], pa.int32()).cast(pa.date32()),
        pa.array([2**62], pa.int64()).cast(pa.timestamp("us")),
        pa.array([2**62], pa.int64()).cast(pa.timestamp("us", "UTC")),
    ],
    ids=lambda column: str(column.type),
)
def test_a_value_that_json_cannot_express_names_its_column(column: pa.Array) -> None:
    with pytest.raises(AttributeValueError, match="Column 'v'"):
        encoded(column)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series(pd.period_range("2026-01", periods=2, freq="M")), ["2026-01", "2026-02"]),
        (pd.Series(pd.arrays.IntervalArray.from_tuples([(0, 1), None])), ["(0.0, 1.0]", None]),
        (pd.Series(pd.arrays.SparseArray([0.5, math.nan])), [0.5, None]),
        (pd.Series(pd.Categorical([3, None, 1])), [3, None, 1]),
        (pd.Series(pd.Categorical(pd.to_datetime(["2026-01-02", None]))), ["2026-01-02T00:00:00", None]),
        (pd.Series([1, 2], dtype=pd.ArrowDtype(pa.int8())), [1, 2]),
        (pd.Series([["a"], None], dtype=pd.ArrowDtype(pa.list_(pa.string()))), ['["a"]', None]),
        (pd.Series(["a", None], dtype="str"), ["a", None]),
        (pd.Series([uuid.UUID(int=1), None]), [str(uuid.UUID(int=1)), None]),
        (pd.Series([{"a": 1}, {"b": 2}]), ['{"a":1}', '{"b":2}']),
        (pd.Series([1, 2.5, None], dtype=object), [1, 2.5, None]),
        (pd.Series([datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1)]), ["2026-01-01", "2026-01-01T00:00:00"]),
        (pd.Series([pd.NaT, None], dtype=object), [None, None]),
        (pd.Series([True, None, False], dtype=object), [True, None, False]),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, pd.Series) else "",
)
def test_every_type_of_pandas_has_its_form(column: pd.Series, expected: list[Any]) -> None:
    written = encoded(column)

    assert written == expected
    assert [type(value) for value in written] == [type(value) for value in expected]


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(AttributeValueError, match="Column 'v' has a complex"):
        encoded(pd.Series([1 + 2j]))


class TestIntegersPast53Bits:
    BIG = 2**53 + 1

    def test_an_integer_past_53_bits_makes_the_whole_column_of_geoparquet_text_with_a_note(
        self, tmp_path: Path
    ) -> None:
        path = geoparquet(tmp_path / "in.parquet", id=[1] * 50 + [self.BIG], n=[2**53] * 51)

        document, report = streamed(path, batch_rows=3)

        assert {type(feature["properties"]["id"]) for feature in document["features"]} == {str}
        assert document["features"][-1]["properties"] == {"id": str(self.BIG), "n": 2**53}
        assert report.notes == ("Column 'id' has integers beyond 2^53 and is written as strings.",)

    def test_a_file_without_statistics_is_read_for_it(self, tmp_path: Path) -> None:
        path = geoparquet(tmp_path / "in.parquet", id=[1, -self.BIG])
        table = pq.read_table(path)
        pq.write_table(table, path, write_statistics=False)

        assert [feature["properties"]["id"] for feature in features(path)] == ["1", str(-self.BIG)]

    def test_decimals_are_judged_as_integers_are(self, tmp_path: Path) -> None:
        big = decimal.Decimal(self.BIG)
        path = geoparquet(tmp_path / "in.parquet", id=pa.array([1, big], pa.decimal128(20, 0)))

        assert [feature["properties"]["id"] for feature in features(path)] == ["1", str(self.BIG)]

    @pytest.mark.parametrize("kind", [None, object, "Int64"])
    def test_categories_are_judged_as_integers_are(self, kind: Any) -> None:
        values = pd.Series([self.BIG, 1, self.BIG], dtype=kind).astype("category")

        document, report = streamed(frame([Point(0, 0)] * 3, id=values, n=pd.Categorical([1, 2, None])))

        properties = [feature["properties"] for feature in document["features"]]
        assert properties == [
            {"id": str(self.BIG), "n": 1},
            {"id": "1", "n": 2},
            {"id": str(self.BIG), "n": None},
        ]
        assert report.notes == ("Column 'id' has integers beyond 2^53 and is written as strings.",)

    def test_a_frame_that_comes_too_late_is_an_error_that_names_the_parameter(self) -> None:
        def frames() -> Iterator[geopandas.GeoDataFrame]:
            yield frame([Point(0, 0)], id=[1])
            yield frame([Point(0, 0)], id=[self.BIG])

        with pytest.raises(AttributeValueError, match=r"(?s)Column 'id' .*as_text=\['id'\]"):
            features(frames())
        texts = [feature["properties"]["id"] for feature in features(frames(), as_text=["id"])]
        assert texts == ["1", str(self.BIG)]

    def test_a_column_of_text_in_one_frame_is_text_in_the_next(self) -> None:
        frames = [frame([Point(0, 0)], id=[self.BIG]), frame([Point(0, 0)], id=[1])]

        assert [feature["properties"]["id"] for feature in features(frames)] == [str(self.BIG), "1"]

    def test_numbers_of_any_type_become_text_on_request(self) -> None:
        source = frame([Point(0, 0)] * 2, a=[1, 2], b=[0.5, math.nan], c=["x", None], d=[decimal.Decimal("1.50"), None])

        first, second = (feature["properties"] for feature in features(source, as_text=["a", "b", "c", "d"]))

        assert first == {"a": "1", "b": "0.5", "c": "x", "d": "1.50"}
        assert second == {"a": "2", "b": None, "c": None, "d": None}


class TestNames:
    def test_columns_of_one_name_are_refused_in_geoparquet_too(self, tmp_path: Path) -> None:
        path = geoparquet(tmp_path / "in.parquet", a=[1], b=[2])
        table = pq.read_table(path)
        same = table.rename_columns(["a", "a", "geometry"]).replace_schema_metadata(table.schema.metadata)
        pq.write_table(same, path)

        with pytest.raises(AttributeNameError, match="More than one column is called a"):
            features(path)

    def test_a_name_that_utf_8_cannot_hold_is_refused(self) -> None:
        with pytest.raises(AttributeNameError, match="UTF-8"):
            columns_by_name([("\ud800", pa.nulls(1))])

    def test_columns_are_chosen_by_name(self, tmp_path: Path) -> None:
        path = geoparquet(tmp_path / "in.parquet", a=[1], b=[2], c=[3])

        assert features(path, columns=["c", "a"])[0]["properties"] == {"a": 1, "c": 3}
        assert features(frame([Point(0, 0)], a=[1], b=[2]), columns=["b"])[0]["properties"] == {"b": 2}

    def test_a_column_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        path = geoparquet(tmp_path / "in.parquet", a=[1])

        for source in (path, frame([Point(0, 0)], a=[1])):
            with pytest.raises(AttributeNameError, match=r"(?s)no column.* b"):
                features(source, columns=["a", "b"])


@pytest.mark.parametrize("source", ["frame", "geoparquet", "frames"])
def test_an_unknown_as_text_column_is_an_error_that_lists_the_columns(tmp_path: Path, source: str) -> None:
    one = frame([Point(0, 0)], id=[1], name=["a"])
    one.to_parquet(tmp_path / "in.parquet")
    given = {"frame": one, "geoparquet": tmp_path / "in.parquet", "frames": iter([one, one])}[source]

    with pytest.raises(AttributeNameError, match=r"(?s)as_text= names idd, .* are id, name\."):
        streamed(given, as_text=["id", "idd"])


def test_a_column_to_write_as_text_may_be_in_some_frames_only() -> None:
    source = [frame([Point(0, 0)], id=[1]), frame([Point(1, 1)], other=[2])]

    assert [feature["properties"] for feature in features(iter(source), as_text=["other"])] == [
        {"id": 1},
        {"other": "2"},
    ]


def test_a_column_to_write_as_text_may_be_missing_from_nothing() -> None:
    with pytest.raises(EmptyExportError):
        streamed(iter([]), as_text=["id"])
