"""Select tilesets by a pattern of their names."""

from __future__ import annotations

import re
from fnmatch import translate

from airflow_mapbox.errors import OptionError

_NAME_PATTERN = re.compile(r"[A-Za-z0-9_*?\[\]!-]+")


def compile_match(match: str, account: str) -> re.Pattern[str]:
    """
    Return a compiled pattern for the names of an account's tilesets.

    :param match: a shell pattern with ``*``, ``?`` and ``[…]`` for the name, with or without ``account.`` before it.
        Upper and lower case differ.
    :param account: the account.
    :return: the pattern, for ``fullmatch`` with the id's part after the account's dot.
    :raises OptionError: if no tileset of the account can have such a name.

    Example::

        compile_match("earthquakes-*", "acme").fullmatch("earthquakes-2026")
    """
    pattern = match.removeprefix(f"{account}.")
    if not _NAME_PATTERN.fullmatch(pattern):
        raise OptionError(
            f"`match` is {match!r}, and no tileset of account {account!r} can have such a name.\nGive a pattern for "
            "the name after the account's dot, of A-Z, a-z, 0-9, -, _, *, ? and […], such as earthquakes-*."
        )
    return re.compile(translate(pattern))
