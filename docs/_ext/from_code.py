"""Pages from code: the command lines' parsers, the provider's metadata, and tables of a class's settings."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow.cli.cli_config import ActionCommand, GroupCommand
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from airflow_mapbox import defaults
from airflow_mapbox.cli.definition import get_mapbox_cli_commands
from airflow_mapbox.emulator.__main__ import _parser as emulator_parser
from airflow_mapbox.get_provider_info import get_provider_info

# Classes with so many parameters that a table shows them best.
TABLED = {"airflow_mapbox.emulator.EmulatorSettings"}
_PARAM = re.compile(r":param (\w+): (.*)")
_CONSTANT = re.compile(r"(?<==)(?:defaults\.)?([A-Z][A-Z_]+)\b")
_CODE_OR_MARKUP = re.compile(r"((?<![\w-])--[a-z][\w-]*|[a-z]+://[\w.{}/]*)|([*`|\\_])")


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command of this package, by the command as people write it."""
    (group,) = get_mapbox_cli_commands()
    return dict(_airflow_parsers(f"airflow {group.name}", group)) | {"mapbox-emulator": emulator_parser()}


def _airflow_parsers(
    words: str, command: ActionCommand | GroupCommand
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    if isinstance(command, GroupCommand):
        for subcommand in command.subcommands:
            yield from _airflow_parsers(f"{words} {subcommand.name}", subcommand)
        return
    parser = argparse.ArgumentParser(prog=words, description=f"{command.help}.")
    for argument in command.args:
        argument.add_to_parser(parser)
    yield words, parser


class Commands(SphinxDirective):
    """A section for each command, with its options as Sphinx describes options: they can be searched and linked."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return [self._section(words, parser) for words, parser in parsers().items()]

    def _section(self, words: str, parser: argparse.ArgumentParser) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(words)], names=[words])
        section += nodes.title("", "", nodes.literal(words, words))
        lines = [f".. program:: {words}", "", _plain(parser.description or ""), ""]
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                lines += _option(action)
        section += self.parse_text_to_nodes("\n".join(lines))
        return section


def _option(action: argparse.Action) -> Iterator[str]:
    if action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        value = f"<{action.metavar or action.dest.lower()}>"
    if isinstance(action.nargs, int):
        value = " ".join([value] * action.nargs)
    names = ", ".join(f"{flag} {value}".strip() for flag in action.option_strings)
    yield f".. option:: {names or value + (' …' if action.nargs == '+' else '')}"
    yield ""
    meaning = (action.help or "") % vars(action)
    yield f"   {_plain(meaning.rstrip('.'))}."
    yield ""


def _plain(text: str) -> str:
    """Return text without markup as reStructuredText. Options and URLs become code."""
    return _CODE_OR_MARKUP.sub(lambda found: f"``{found[1]}``" if found[1] else f"\\{found[2]}", text)


class ConnectionFields(SphinxDirective):
    """The fields of the connection's form, from the provider's metadata."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        (connection,) = get_provider_info()["connection-types"]
        form = connection["ui-field-behaviour"]
        labels = {**form["relabeling"], "port": "Port"}
        rows = [(f"``{field}``", label, _plain(form["placeholders"].get(field, ""))) for field, label in labels.items()]
        rows += [
            (f"``{name}`` in ``extra``", field["label"], _plain(field["description"]))
            for name, field in connection["conn-fields"].items()
        ]
        return self.parse_text_to_nodes(table(("field", "label in the form", "value"), rows))


class ConfigurationOptions(SphinxDirective):
    """The options of ``airflow.cfg``, from the provider's metadata."""

    def run(self) -> list[nodes.Node]:
        """Return a description and a table for each option."""
        return [
            node
            for section, content in get_provider_info()["config"].items()
            for name, option in content["options"].items()
            for node in self._described(section, name, option)
        ]

    def _described(self, section: str, name: str, option: Mapping[str, Any]) -> list[nodes.Node]:
        rows = [
            ("option", f"``[{section}] {name}``"),
            ("environment variable", f"``AIRFLOW__{section.upper()}__{name.upper()}``"),
            ("type", option["type"]),
            ("default", "none" if option["default"] is None else f"``{option['default']}``"),
            ("example", f"``{option['example']}``"),
            ("since version", option["version_added"]),
        ]
        return self.parse_text_to_nodes(f"{_plain(option['description'])}\n{table((), rows)}")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    Return a table as reStructuredText.

    :param header: the first row; empty for a table without a header.
    """
    lines = ["", ".. list-table::", *(["   :header-rows: 1"] if header else []), ""]
    for row in (header, *rows) if header else rows:
        lines += [f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(row)]
    return "\n".join([*lines, ""])


def tabulate_parameters(
    app: Sphinx,  # noqa: ARG001 - this and the next one are autodoc's event
    what: str,  # noqa: ARG001
    name: str,
    obj: Any,
    options: Any,  # noqa: ARG001
    lines: list[str],
) -> None:
    """Turn the ``:param:`` fields of a dataclass into a table with types and defaults."""
    if name not in TABLED:
        return
    start = next(number for number, line in enumerate(lines) if line.startswith(":param "))
    meanings: dict[str, str] = {}
    for line in lines[start:]:
        if match := _PARAM.match(line):
            current, meanings[match[1]] = match[1], match[2]
        elif line.strip():
            meanings[current] += f" {line.strip()}"
    rows = [
        (f"``{field.name}``", f"``{field.type}``", f"``{field.default!r}``", meanings[field.name])
        for field in dataclasses.fields(obj)
    ]
    lines[start:] = table(("setting", "type", "default", "meaning"), rows).splitlines()


def complete_signature(
    app: Sphinx,  # noqa: ARG001 - this is autodoc's event
    what: str,  # noqa: ARG001
    name: str,
    obj: Any,
    options: Any,  # noqa: ARG001
    signature: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    """Write the values of constants. Leave out the signature of a class whose table has all of it."""
    if name in TABLED:
        return "", None
    if signature is None:
        return None
    modules = [sys.modules.get(getattr(owner, "__module__", "")) for owner in (obj, getattr(obj, "__init__", None))]
    constants = {name: value for module in (*modules, defaults) if module for name, value in vars(module).items()}

    def value(found: re.Match[str]) -> str:
        constant = constants.get(found[1])
        return repr(constant) if isinstance(constant, str | int | float) else found[0]

    return _CONSTANT.sub(value, signature), returns


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives, and what autodoc asks."""
    app.add_directive("commands", Commands)
    app.add_directive("connection-fields", ConnectionFields)
    app.add_directive("configuration-options", ConfigurationOptions)
    app.connect("autodoc-process-docstring", tabulate_parameters)
    app.connect("autodoc-process-signature", complete_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
