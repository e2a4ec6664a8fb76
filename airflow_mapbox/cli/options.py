"""Make the export's options into options of a command, from the types that the export declares."""

from __future__ import annotations

import csv
import types
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from airflow.cli.cli_config import Arg

from airflow_mapbox.export.formats import GeoJSONKeywords, TileKeywords

if TYPE_CHECKING:
    from argparse import Namespace

# The prefix keeps the export's `name` apart from the upload's `name`.
EXPORT_PREFIX = "export_"


def export_arguments(taken: Collection[str]) -> tuple[Arg, ...]:
    """
    Return an argument for each option of the export.

    :param taken: options that the command already has. If ``--name`` is one, the export's is ``--export-name``.
    """
    hints = _hints()
    return tuple(_argument(name, hint, taken) for name, hint in hints.items())


def chosen_export(args: Namespace) -> dict[str, Any] | None:
    """
    Return the export's keywords from a command line, or None if there are none.

    :param args: the parsed command line.
    """
    options = {name: getattr(args, EXPORT_PREFIX + name) for name in _hints()}
    return {name: value for name, value in options.items() if value is not None} or None


def _hints() -> dict[str, Any]:
    return get_type_hints(GeoJSONKeywords, include_extras=True) | get_type_hints(TileKeywords, include_extras=True)


def _argument(name: str, hint: Any, taken: Collection[str]) -> Arg:
    flag = "--" + name.replace("_", "-")
    if flag in taken:
        flag = "--" + (EXPORT_PREFIX + name).replace("_", "-")
    help = ""
    if get_origin(hint) is Annotated:
        hint, help = get_args(hint)
    return Arg((flag,), help=f"Export: {help}".rstrip(": "), dest=EXPORT_PREFIX + name, default=None, **_parsing(hint))


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
