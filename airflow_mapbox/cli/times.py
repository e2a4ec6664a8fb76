"""Read times and ages of a command line: ``7d``, ``12h``, or ISO 8601 with a time zone."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import datetime, timedelta

from airflow_mapbox.errors import OptionError
from airflow_mapbox.uploads.selection import parse_moment

_AGE = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta:
    """
    Return an age.

    :param text: a number and a unit: ``30m``, ``12h``, ``7d`` or ``2w``.
    :raises ArgumentTypeError: if it is not an age.
    """
    match = _AGE.fullmatch(text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is not an age: give a number with m, h, d or w, such as 12h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def moment(text: str) -> datetime | timedelta:
    """
    Return a time with a time zone, or an age by the server's clock.

    :param text: ISO 8601 with a time zone, or an age as :func:`age` reads it.
    :raises ArgumentTypeError: if it is neither, or has no time zone.
    """
    if _AGE.fullmatch(text):
        return age(text)
    try:
        return parse_moment(text, "time")
    except OptionError as error:
        problem = str(error).replace("`time`", "The time").replace("\n", " ")
    raise ArgumentTypeError(f"{problem} An age such as 12h or 7d is possible too")
