"""Properties of the parsers that hold for any content, with inputs made by hypothesis."""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_mapbox.preflight import formats, plainfeatures
from airflow_mapbox.preflight.csvcells import QUOTED, split_cells
from airflow_mapbox.preflight.findings import Content, Finding
from airflow_mapbox.preflight.jsonprefix import BrokenJSONError, EndOfPart, JSONPart, loads
from airflow_mapbox.preflight.passing import passing_check
from airflow_mapbox.preflight.plainfeatures import PlainReader
from tests.unit.preflight.support import as_bytes, with_geometry

CELLS = st.one_of(
    st.floats(-180, 180).map(repr),
    st.integers(-85, 85).map(str),
    st.sampled_from(["", " ", "nan", "1_0", "a,b", 'a"b', "a\nb", "a\r\nb", "200", "1e999"]),
)
ROWS = st.lists(st.lists(CELLS, min_size=0, max_size=5), min_size=1, max_size=12)
Box = tuple[float, float, float, float]


def checked(kind: formats.Format, data: bytes, part: int) -> tuple[list[Finding], Content]:
    content = Content()
    check = passing_check(kind, content)
    assert check is not None
    for start in range(0, len(data), part):
        check.feed(data[start : start + part])
    return check.close(), content


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.integers(1, 40))
def test_any_table_has_the_rows_and_bounds_that_the_csv_module_reads(
    rows: list[list[str]], line_end: str, quoting: Any, part: int
) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator=line_end, quoting=quoting).writerows([["lon", "lat", "a"], *rows])
    filled = [row for row in rows if any(cell.strip() for cell in row)]
    pairs = [pair for row in filled if (pair := position(row)) is not None]

    findings, content = checked(formats.CSV, written.getvalue().encode(), part)

    assert content.features == len(filled)
    assert content.bounds == (box_of(pairs) if pairs else None)
    assert ("csv-wide-rows" in [found.name for found in findings]) == any(len(row) > 3 for row in filled)


def position(row: list[str]) -> tuple[float, float] | None:
    try:
        x, y = float(row[0]), float(row[1])
    except (ValueError, IndexError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) and "_" not in row[0] + row[1] else None


def box_of(pairs: list[tuple[float, float]]) -> Box:
    xs, ys = zip(*pairs, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


TUPLES = st.one_of(
    st.tuples(st.floats(-180, 180), st.floats(-85, 85)).map(lambda pair: f"{pair[0]!r},{pair[1]!r}"),
    st.tuples(st.floats(-180, 180), st.floats(-85, 85)).map(lambda pair: f"{pair[0]!r},{pair[1]!r},7"),
    st.sampled_from(["1", "1,", ",1", "1,2,3,4", "a,b", "1,nan", "1,,2"]),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.lists(TUPLES, max_size=6), min_size=1, max_size=6), st.integers(1, 60))
def test_any_coordinates_of_kml_have_the_bounds_of_each_position_by_itself(
    elements: list[list[str]], part: int
) -> None:
    pairs = []
    for text in (text for element in elements for text in element):
        cells = text.split(",")
        if len(cells) > 1 and (pair := position(cells)) is not None:
            pairs.append(pair)
    places = "".join(f"<Placemark><coordinates>{' '.join(element)}</coordinates></Placemark>" for element in elements)
    data = f'<?xml version="1.0"?><kml><Document>{places}</Document></kml>'.encode()

    _, content = checked(formats.KML, data, part)

    assert content.features == len(elements)
    assert content.bounds == (box_of(pairs) if pairs else None)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(
            st.tuples(st.one_of(st.integers(-180, 180), st.floats(-180, 180)), st.floats(-85, 85)),
            min_size=2,
            max_size=20,
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([(), (7.5,)]),
)
def test_the_bounds_of_plain_features_are_those_of_their_positions(
    lines: list[list[tuple[float, float]]], height: tuple[float, ...]
) -> None:
    features = [with_geometry(type="LineString", coordinates=[(*pair, *height) for pair in line]) for line in lines]

    reader = PlainReader()
    plain = reader.read(as_bytes(features))

    assert plain is not None
    assert (plain.features, plain.positions) == (len(lines), sum(map(len, lines)))
    assert reader.bounds == box_of([pair for line in lines for pair in line])


@pytest.mark.parametrize("digits", [4_000, 4_301, 100_000])
@pytest.mark.parametrize("sign", ["", "-"])
def test_an_integer_of_many_digits_overflows_and_raises_nothing(digits: int, sign: str) -> None:
    text = sign + "1" * digits

    assert JSONPart(f"{text},").value() in (float("inf"), float("-inf"), loads(text))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \\u', max_size=60))
def test_any_text_is_a_value_broken_or_at_its_end(text: str) -> None:
    part = JSONPart(text)
    try:
        part.value()
    except (EndOfPart, BrokenJSONError):
        return

    assert 0 < part.at <= len(text)


@pytest.mark.parametrize("number", ["1" * 5_000, "-" + "1" * 5_000])
def test_a_number_of_5000_digits_in_geojson_is_beyond_the_map(number: str) -> None:
    feature = '{"type":"Feature","geometry":{"type":"Point","coordinates":[%s,2]},"properties":{"a":%s}}'
    data = '{"type":"FeatureCollection","features":[%s]}' % (feature % (number, number))

    findings, _ = checked(formats.GEOJSON, data.encode(), 1 << 18)

    assert [found.name for found in findings] == ["geojson-range"]


def test_more_members_than_any_writer_makes_end_the_check_with_a_note() -> None:
    members = ",".join(f'"{number}":0' for number in range(10_001))
    for data in (
        f'{{"type":"FeatureCollection",{members},"features":[]}}',
        f'{{"type":"FeatureCollection","features":[],{members}}}',
    ):
        _, content = checked(formats.GEOJSON, data.encode(), 1 << 18)

        assert "more than 10,000 members" in content.notes[0]


def arrays_with_a_trend(rng: random.Random, count: int) -> Iterator[list[tuple[float, ...]]]:
    """Yield the positions of arrays that move over the map: steadily, not at all, or in leaps."""
    x, y, step_x, step_y, ordinates = rng.uniform(-100, 100), rng.uniform(-50, 50), 0.0, 0.0, 2
    for number in range(count):
        if number % 60 == 0:
            step_x, step_y = rng.choice([(0, 0), (0.1, 0), (-0.1, 0), (0, 0.05), (0, -0.05), (0.1, 0.05), (5, 5)])
            ordinates = rng.choice([2, 2, 2, 3])
        x, y = min(max(x + step_x, -179), 179), min(max(y + step_y, -80), 80)
        size = rng.choice([0, 1, 5, 5])
        yield [(rng.uniform(x, x + 0.3), rng.gauss(y, 0.3), 7.0)[:ordinates] for _ in range(size)]


@pytest.mark.parametrize("seed", range(20))
def test_the_bounds_of_arrays_are_exact_in_any_order(seed: int) -> None:
    rng = random.Random(seed)
    arrays = list(arrays_with_a_trend(rng, 500))
    reader = PlainReader()

    for positions in arrays:
        plain = reader.read(as_bytes([with_geometry(type="Point", coordinates=position) for position in positions]))
        assert plain is not None
        assert plain.positions == len(positions)

    assert reader.bounds == box_of([position[:2] for positions in arrays for position in positions])


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_bounds_of_few_arrays_are_computed_in_sorted_data(
    direction: int, axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    compute = plainfeatures._Decoded.bounds
    monkeypatch.setattr(plainfeatures._Decoded, "bounds", lambda self: computed.append(1) or compute(self))
    rng, reader, arrays = random.Random(5), PlainReader(), 1_000

    for number in range(arrays):
        along = direction * (0.1 * number - 50)
        pairs = [(along + rng.uniform(0, 0.2), rng.uniform(-30, 30)) for _ in range(50)]
        features = [with_geometry(type="Point", coordinates=pair if axis == 0 else pair[::-1]) for pair in pairs]
        assert reader.read(as_bytes(features)) is not None

    assert reader.bounds is not None
    assert len(computed) < 0.2 * arrays


TOKENS = [*'",;\n\r', "\r\n", '""', '","', '"\n"', "1", "a", " "]
TABLE_TEXT = st.lists(st.sampled_from(TOKENS), max_size=30).map("".join)


@settings(max_examples=1_000, deadline=None, derandomize=True)
@given(TABLE_TEXT, st.integers(2, 3))
@example('"a","b\nc","d","e"\n', 2)
@example('"a","b","\nc","d"\n', 2)
@example('a,"b', 2)
@example('"a","\n","b"', 3)
def test_cells_are_split_as_the_csv_module_does_or_not_at_all(text: str, width: int) -> None:
    rows = list(csv.reader(io.StringIO(text, newline="")))

    cells = split_cells(text, ",", width)

    if cells is not None:
        assert [len(row) for row in rows] == [width] * len(rows)
        read = [cell.replace("\r\n", "\n") for row in rows for cell in row]
        assert len(cells) == len(read)
        for cell, expected in zip(cells, read, strict=True):
            assert cell in (expected, QUOTED, f"\n{expected}", f"\n{QUOTED}")


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("content", ["a", "a, b", "", "a\tb"])
def test_common_tables_are_split_without_a_parser(quoting: Any, line_end: str, content: str) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, quoting=quoting, lineterminator=line_end).writerows([[1.5, -2.5, content]] * 3)

    cells = split_cells(written.getvalue(), ",", 3)

    assert cells is not None
    assert [float(cell) for cell in cells[::3] + cells[1::3]] == [1.5] * 3 + [-2.5] * 3


def test_a_quotation_mark_in_a_cell_leaves_the_row_to_the_parser() -> None:
    assert split_cells('1,2,"a ""b"""\n', ",", 3) is None


def test_what_is_held_of_sorted_data_has_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plainfeatures, "_MAX_HELD_BYTES", 10_000)
    reader, largest = PlainReader(), 0
    for number in range(300):
        line = [(0.01 * number + step / 1000, step / 10) for step in range(50)]
        assert reader.read(as_bytes([with_geometry(type="LineString", coordinates=line)])) is not None
        largest = max(largest, sum(len(array) for array, _ in reader._held))

    assert 0 < largest <= 10_000
    assert reader.bounds == (0, 0, 2.99 + 0.049, 4.9)
