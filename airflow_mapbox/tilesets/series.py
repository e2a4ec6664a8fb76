"""Order tilesets by the date or number in their names."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A day or a month, as in 2018-01-31, 20180131 and 2018-01. Digits that follow directly or after a "T" are the time, as
# in 20180131T130000. After another character they may be the number of a part, so they belong to the series.
_DATE = re.compile(
    r"(?<![0-9])(?P<year>(?:19|20|21)[0-9]{2})(?P<dash>[-_]?)(?P<month>0[1-9]|1[0-2])"
    r"(?:(?P=dash)(?P<day>0[1-9]|[12][0-9]|3[01])(?P<time>T?(?:[01][0-9]|2[0-3])(?:[0-5][0-9]){0,2})?)?(?![0-9])"
)
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Place:
    """
    The place of a name in its series.

    :param series: the name without its date or number. Names of one series differ in that only.
    :param order: a later date or a higher number has a greater order. Compare it within a series only.
    """

    series: str
    order: tuple[int, ...]


def place_of(name: str) -> Place | None:
    """
    Return the place of a tileset's name in its series.

    Every date in the name is its order. A name without a date has its last number as its order.

    :param name: the part of the id after the account's dot.
    :return: None if the name has no date and no number.

    Example::

        place_of("quakes-20180131").order < place_of("quakes-20180201").order
        place_of("quakes-de-7").series != place_of("quakes-fr-7").series
    """
    dates = list(_DATE.finditer(name))
    if dates:
        series = _DATE.sub(lambda date: _NUMBER.sub(lambda digits: "0" * len(digits[0]), date[0]), name)
        return Place(series, tuple(int("".join(_NUMBER.findall(date[0]))) for date in dates))
    numbers = list(_NUMBER.finditer(name))
    if not numbers:
        return None
    last = numbers[-1]
    return Place(f"{name[: last.start()]}#{name[last.end() :]}", (int(last[0]),))
