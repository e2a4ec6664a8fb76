"""Messages for the command line, in which options are spelled as the command line takes them."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow.cli.cli_config import Arg

from airflow_mapbox.cli.options import EXPORT_PREFIX

# A Python value as messages have it: a string, a list or tuple, a dictionary, `…` for any, a number or a bare word.
_VALUE = r"""(?>"[^"\n]*"|'[^'\n]*'|\[[^]\n]*\]|\([^)\n]*\)|\{[^}\n]*\}|…|[\w.+-]*\w)?"""
# A call in Python, such as frame.set_crs(crs=4326), whose keywords stay.
_CALL = r"(?P<call>\w\([^()\n]*\))"


class Spelling:
    """
    Rewrites the Python keywords in a message as the options of a command.

    A message names a keyword as ``crs="EPSG:4326"``, ``crs=…``, ``crs=`` or ``export={"crs": "EPSG:4326"}``, in
    backquotes, or bare if it has an underscore (``part_size``). Everything else stays.

    :param arguments: of the command: a keyword is an argument's ``dest``, without the prefix of the export's.
    :param command: the command, whose help lists what ``export={…}`` may hold.
    """

    def __init__(self, arguments: Iterable[Arg], command: str) -> None:
        flags = dict(_named(arguments))
        self._of_export = {
            name.removeprefix(EXPORT_PREFIX): flag for name, flag in flags.items() if name.startswith(EXPORT_PREFIX)
        }
        self._options = self._of_export | flags
        self._command = command
        names = "|".join(map(re.escape, (*self._options, "export")))
        bare = "|".join(re.escape(name) for name in self._options if "_" in name) or "(?!)"
        self._keywords = re.compile(
            # Not within a path (/x=1/y=2.parquet) or a URL (?x=1&y=2).
            rf"{_CALL}|(?<![\w/.(?&=-])(?P<name>{names})=(?P<value>{_VALUE})(?![\w/=])"
            rf"|`(?P<quoted>{names})`|(?<![\w/.\"'-])(?P<bare>{bare})(?![\w/=\"'-]|\.\w)"
        )
        # A parenthesis that repeats the option before it, as another surface spells it.
        self._repeated = re.compile(r"(?P<told>(?P<option>--[a-z-]+)\b[^()\n]{0,40}) \([^()\n]*(?P=option)\b[^()\n]*\)")

    def __call__(self, message: str) -> str:
        """
        Return a message in the command line's words.

        :param message: an error's text.
        """
        return self._repeated.sub(lambda match: match["told"], self._keywords.sub(self._option, message))

    def _option(self, match: re.Match[str]) -> str:
        name, value = match["name"] or match["quoted"] or match["bare"], match["value"] or ""
        if name is None:
            return match[0]
        if name != "export":
            return f"{self._options[name]} {_shell_value(value)}".rstrip()
        chosen = _literal(value)
        if not isinstance(chosen, Mapping):
            return f"`{self._command} --help`"
        given = [f"{self._of_export.get(key, key)} {_shell_value(repr(one))}".rstrip() for key, one in chosen.items()]
        return " ".join(given)


def _named(arguments: Iterable[Arg]) -> Iterator[tuple[str, str]]:
    """Give the name (``dest``) and the long option of each argument that is one."""
    for argument in arguments:
        flag = next((flag for flag in argument.flags if flag.startswith("--")), None)
        if flag is not None:
            yield argument.kwargs.get("dest") or flag.removeprefix("--").replace("-", "_"), flag


def _shell_value(text: str) -> str:
    """Return a Python value as a shell takes it; `…` and what is no value stay."""
    value = _literal(text)
    if isinstance(value, bool):
        return ""
    if isinstance(value, (list, set)):
        return shlex.quote(",".join(map(str, value)))
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, str):
        return value if value == "…" else shlex.quote(value)
    return text


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.replace("…", "'…'") if text == "…" or ": …" in text else text)
    except (ValueError, SyntaxError):
        return None
