"""The order of tilesets by the date or number in their names."""

from __future__ import annotations

import pytest

from airflow_mapbox.tilesets.series import place_of


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("quakes-20180131", "quakes-20180201"),
        ("quakes-2018-01-31", "quakes-2018-02-01"),
        ("quakes_2018_01_31_de", "quakes_2018_02_01_de"),
        ("quakes-2018-01", "quakes-2018-11"),
        ("quakes-20180131T230000", "quakes-20180201T010000"),
        ("quakes-20180131T09", "quakes-20180131T10"),
        ("quakes-2018013109", "quakes-2018013110"),
        ("run-9", "run-10"),
        ("20180131", "20180201"),
        ("magnitude-4-20180131", "magnitude-4-20180201"),
        ("from-20180101-to-20180131", "from-20180102-to-20180130"),
    ],
)
def test_names_of_one_series_are_in_order(older: str, newer: str) -> None:
    first, second = place_of(older), place_of(newer)

    assert first is not None
    assert second is not None
    assert first.series == second.series
    assert first.order < second.order


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("quakes-de-20180131", "quakes-fr-20180201"),
        ("magnitude-2-20180131", "magnitude-4-20180131"),
        ("layer-20180131-01", "layer-20180131-02"),  # the parts of one day
        ("quakes-20180131", "quakes-2018-02-01"),
        ("quakes-201801", "quakes-20180201"),
        ("quakes-20180131", "quakes-20181345"),  # not a date
        ("quakes-7", "Quakes-8"),
    ],
)
def test_other_names_are_other_series(one: str, other: str) -> None:
    first, second = place_of(one), place_of(other)

    assert first is not None
    assert second is not None
    assert first.series != second.series


@pytest.mark.parametrize("name", ["quakes", "quakes-strong", "quakes-²"])
def test_a_name_without_a_date_and_a_number_has_no_place(name: str) -> None:
    assert place_of(name) is None
