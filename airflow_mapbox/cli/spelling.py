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
# Every length is bounded, so that a message that quotes a file's content takes time in proportion to its length.
_VALUE = (
    r"""(?>"[^"\n]{0,2000}"|'[^'\n]{0,2000}'|\[[^]\n]{0,2000}\]|\([^)\n]{0,2000}\)|\{[^}\n]{0,2000}\}|…"""
    r"""|[\w.+-]{0,100}\w)?"""
)
# A call in Python, such as frame.set_crs(crs=4326), whose keywords stay.
_CALL = r"(?P<call>\w\((?>[^()\n]{1,200}|\([^()\n]{0,200}\)){0,9}\))"
# What a message adds for those who write a task.
_IN_TASK = r"(?P<in_task> \(in (?:an upload|a task) export=\{[^}\n]{0,200}\}\))"


class Spelling:
    """
    Rewrites the Python parameters in a message as the options of a command.

    A message names a keyword of the export as ``crs="EPSG:4326"``, ``crs=…``, ``crs=`` or
    ``export={"crs": "EPSG:4326"}``, likewise ``format="auto"``; and any other parameter in backquotes, as
    ```part_size```. Everything else stays.

    :param arguments: of the command: a parameter is an argument's ``dest``, without the prefix of the export's.
    :param command: the command, whose help lists what ``export={…}`` may hold.
    """

    def __init__(self, arguments: Iterable[Arg], command: str) -> None:
        flags = dict(_named(arguments))
        self._of_export = {
            name.removeprefix(EXPORT_PREFIX): flag for name, flag in flags.items() if name.startswith(EXPORT_PREFIX)
        }
        self._options = self._of_export | flags
        self._command = command
        keywords = [name for name in self._of_export if name not in flags] + ["format", "export"]
        quoted = [name for name in flags if name != "format" and not name.startswith(EXPORT_PREFIX)]
        self._parameters = re.compile(
            # Not within a path (/x=1/y=2.parquet) or a URL (?x=1&y=2).
            rf"{_CALL}|{_IN_TASK}|(?<![\w/.(?&=-])(?P<keyword>{'|'.join(keywords)})=(?P<value>{_VALUE})(?![\w/=])"
            rf"|`(?P<quoted>{'|'.join(quoted)})`"
        )

    def __call__(self, message: str) -> str:
        """
        Return a message in the command line's words.

        :param message: an error's text.
        """
        return self._parameters.sub(self._option, message)

    def _option(self, match: re.Match[str]) -> str:
        if match["in_task"]:
            return ""
        if match["quoted"]:
            return self._options[match["quoted"]]
        name, value = match["keyword"], match["value"]
        if name is None or not self._of_export:
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
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
