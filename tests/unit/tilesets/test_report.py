"""The table of tilesets for people: whatever a name contains, it stays a table."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from markdown_it import MarkdownIt

from airflow_mapbox.tilesets.models import Tileset
from airflow_mapbox.tilesets.report import TilesetTotals, plain_line, tileset_row, tileset_table
from tests.unit.support import ACCOUNT
from tests.unit.tilesets.support import tileset_json

NOW = datetime(2023, 11, 20, tzinfo=UTC)


def tileset(**changed: Any) -> Tileset:
    return Tileset.from_json(tileset_json(**changed))


def cells(markdown: str) -> list[list[str]]:
    """Give the text of each cell of each row, as a reader of the rendered table sees it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and rows and token.level == 4:
            children = token.children or ()
            assert {child.type for child in children} <= {"text"}, token.content
            rows[-1].append("".join(child.content for child in children))
    return rows


def test_a_row_has_what_mapbox_tells() -> None:
    assert tileset_row(tileset(), NOW) == {
        "id": "orion.harbours",
        "name": "Harbours",
        "type": "vector",
        "visibility": "private",
        "status": "available",
        "size": "20.5 kB",
        "precision": "10m, 1m",
        "area": "659.0 km²",
        "CU": "1.5",
        "age": "5 d",
        "modified": "2023-11-15 22:13",
    }


def test_an_unknown_figure_is_an_empty_cell() -> None:
    row = tileset_row(Tileset.from_json({"id": "orion.x"}), NOW)

    assert {value for name, value in row.items() if name != "id"} == {""}


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (26_843_545_600, "26.8 GB"), (5e15, "5000.0 TB")],
)
def test_sizes_are_decimal(size: float, shown: str) -> None:
    assert tileset_row(tileset(filesize=size), NOW)["size"] == shown


@pytest.mark.parametrize(
    ("area", "shown"), [(0, "0.0 km²"), (0.0004, "0.0004 km²"), (0.5, "0.5 km²"), (1234567.8, "1,234,567.8 km²")]
)
def test_a_small_area_is_not_shown_as_nothing(area: float, shown: str) -> None:
    assert tileset_row(tileset(tileset_precisions={"1m": area}), NOW)["area"] == shown


@pytest.mark.parametrize(("hours", "shown"), [(-5, "0 h"), (0.5, "0 h"), (47, "47 h"), (48, "2 d"), (9600, "400 d")])
def test_ages_are_in_hours_and_then_in_days(hours: float, shown: str) -> None:
    created = (NOW - timedelta(hours=hours)).isoformat()

    assert tileset_row(tileset(created=created), NOW)["age"] == shown


def test_totals_say_what_is_unknown() -> None:
    totals = TilesetTotals.of(
        [tileset(), tileset(visibility="public", cu=None), tileset(filesize=None, tileset_precisions={"10m": 1.0})]
    )

    assert str(totals) == (
        "3 tilesets (1 public); 41.0 kB (unknown for 1); 3.0 compute units (unknown for 1); "
        "1,319.0 km² (10m: 1,318.0 km², 1m: 1.0 km²)"
    )


def test_the_table_of_no_tilesets_is_a_table() -> None:
    assert len(cells(tileset_table([], now=NOW))) == 1
    assert "0 tilesets (0 public); 0 bytes" in tileset_table([])


@pytest.mark.parametrize(
    "name",
    [
        "a|b",
        "a\nb",
        "a\r\n| x | y |\n",
        "\\|",
        "`a|b`",
        "[x](http://elsewhere.example)",
        "<script>alert(1)</script>",
        "**bold** _it_ ~~no~~",
        "&lt;",
        "![x](y)",
        "\u2028line",
        "\x1b[31mred",
        "http://elsewhere.example",
        "snake_case_name",
        "|",
        "---",
    ],
)
def test_a_name_is_shown_as_it_is_and_stays_in_its_cell(name: str) -> None:
    rows = cells(tileset_table([tileset(name=name), tileset()], now=NOW))

    assert len(rows) == 3
    assert {len(row) for row in rows} == {11}
    assert rows[1][1] == plain_line(name)


def test_random_names_stay_in_their_cells() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    alphabet = "|\\`*_[]()<>~#!&$\n\r\t ab1-:=é\u2028\x1b\x00+.\"'"
    for _ in range(300):
        names = ["".join(rng.choices(alphabet, k=rng.randrange(1, 12))) for _ in range(3)]
        rows = cells(tileset_table([tileset(name=name, id=f"{ACCOUNT}.x") for name in names], now=NOW))

        assert len(rows) == 4, names
        assert [row[1] for row in rows[1:]] == [plain_line(name) for name in names], names


def test_a_tileset_is_older_by_its_last_change() -> None:
    changed = tileset(created="2020-01-01T00:00:00Z", modified="2023-11-19T00:00:00Z")

    assert not changed.is_older_than(timedelta(days=2), NOW)
    assert changed.is_older_than(timedelta(hours=23), NOW)
    assert tileset(created="2020-01-01T00:00:00Z", modified=None).is_older_than(timedelta(days=2), NOW)
    assert not tileset(created=None, modified="?").is_older_than(timedelta(0), NOW)
