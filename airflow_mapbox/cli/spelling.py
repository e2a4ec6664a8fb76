"""Rewrite Python parameters in error messages as command-line options."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow.cli.cli_config import Arg

from airflow_mapbox.cli.options import EXPORT_PREFIX

# A Python value in a message: a string, list, tuple or dictionary, `…` for any value, a number or a bare word.
# Each length has a limit, so that the time is linear even if a message quotes the content of a file.
_VALUE = (
    r"""(?>"[^"\n]{0,2000}"|'[^'\n]{0,2000}'|\[[^]\n]{0,2000}\]|\([^)\n]{0,2000}\)|\{[^}\n]{0,2000}\}|…"""
    r"""|[\w.+-]{0,100}\w)?"""
)
# A call in Python, such as frame.set_crs(crs=4326). Its keywords are not changed.
_CALL = r"(?P<call>\w\((?>[^()\n]{1,200}|\([^()\n]{0,200}\)){0,9}\))"
# An addition for authors of tasks, which the command line leaves out.
_IN_TASK = r"(?P<in_task> \(in (?:an upload|a task) export=\{[^}\n]{0,200}\}\))"


class Spelling:
    """
    Rewrites the Python parameters in a message as the options of a command.

    A message writes a keyword of the export as ``crs="EPSG:4326"``, ``crs=…``, ``crs=`` or
    ``export={"crs": "EPSG:4326"}``, and likewise ``format="auto"``. It writes any other parameter in backquotes, for
    example ```part_size```. The rest of the message is not changed.

    :param arguments: the command's arguments. A parameter is an argument's ``dest``, without the export's prefix.
    :param command: the command. Its help replaces ``export={…}``.
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
        Return a message with command-line options.

        :param message: an error's message.
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
        keywords = _literal(value)
        if not isinstance(keywords, Mapping):
            return f"`{self._command} --help`"
        return " ".join(
            f"{self._of_export.get(keyword, keyword)} {_shell_value(repr(value))}".rstrip()
            for keyword, value in keywords.items()
        )


def _named(arguments: Iterable[Arg]) -> Iterator[tuple[str, str]]:
    """Return the name (``dest``) and the long option of each argument that has one."""
    for argument in arguments:
        flag = next((flag for flag in argument.flags if flag.startswith("--")), None)
        if flag is not None:
            yield argument.kwargs.get("dest") or flag.removeprefix("--").replace("-", "_"), flag


def _shell_value(text: str) -> str:
    """Return a Python value in a shell's syntax. `…` and text that is not a value are not changed."""
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
