"""Make the export's options into options of a command, from their definition in airflow_mapbox.export.options."""

from __future__ import annotations

import csv
import types
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from airflow.cli.cli_config import Arg

from airflow_mapbox.export.options import OPTIONS, ExportOption

if TYPE_CHECKING:
    from argparse import Namespace

# The prefix keeps the export's `name` apart from the upload's `name`.
EXPORT_PREFIX = "export_"


def export_arguments(taken: Collection[str]) -> tuple[Arg, ...]:
    """
    Return an argument for each option of the export.

    :param taken: options that the command already has. If ``--name`` is one, the export's is ``--export-name``.
    """
    return tuple(_argument(option, taken) for option in OPTIONS.values())


def chosen_export(args: Namespace) -> dict[str, Any] | None:
    """
    Return the export's keywords from a command line, or None if there are none.

    :param args: the parsed command line.
    """
    options = {name: getattr(args, EXPORT_PREFIX + name) for name in OPTIONS}
    return {name: value for name, value in options.items() if value is not None} or None


def _argument(option: ExportOption, taken: Collection[str]) -> Arg:
    flag = "--" + option.name.replace("_", "-")
    if flag in taken:
        flag = "--" + (EXPORT_PREFIX + option.name).replace("_", "-")
    has_default = option.default is not None and option.default is not False and option.default != ()
    help = f"Export: {option.help}" + (f" (default: {option.default})" if has_default else "")
    return Arg((flag,), help=help, dest=EXPORT_PREFIX + option.name, default=None, **_parsing(option.type))


def _parsing(hint: Any) -> dict[str, Any]:
    """Return argparse's keywords for a type."""
    if get_origin(hint) in (Union, types.UnionType):
        # The first member is the type for the command line: a layer's name, not its number; a number, not None.
        hint = get_args(hint)[0]
    origin, members = get_origin(hint), get_args(hint)
    if hint is bool:
        return {"action": "store_true"}
    if origin is Literal:
        return {"choices": members}
    if origin is tuple:
        return {"type": members[0], "nargs": len(members), "metavar": "NUMBER"}
    if isinstance(origin, type) and issubclass(origin, (Sequence, Collection)):
        return {"type": _names, "metavar": "NAME,…"}
    return {"type": hint, "metavar": "NUMBER"} if hint in (int, float) else {"type": str, "metavar": "TEXT"}


def _names(text: str) -> list[str]:
    """Split names at commas. A name with a comma needs double quotation marks."""
    return next(csv.reader([text]))
