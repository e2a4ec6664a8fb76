"""The texts of the package's errors, from its code: one heading for each, with the class and what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import airflow_mapbox

PACKAGE = Path(airflow_mapbox.__file__).parent
# The rooms in the order in which a reader meets them, and what their errors are about.
ROOMS = {
    "tasks": "Tasks",
    "sensors": "Tasks",
    "operators": "Tasks",
    "hooks": "Tasks",
    "http": "The connection and the API",
    "security": "The connection and the API",
    "names": "Names",
    "sources": "The source",
    "export": "The export",
    "preflight": "The preflight",
    "billing": "The bill",
    "uploads": "Staging, creation and waiting",
    "tilesets": "Tilesets",
    "cli": "The command line",
}

# Python's own classes, for a wrong argument.
BUILTIN = {"TypeError", "ValueError"}
# What modules raise for each other. Others see the text as a part of a message or of a report.
INTERNAL = {"BrokenJSONError", "GeometryError", "ProblemError", "TileError"}


@dataclass(frozen=True)
class Message:
    """
    An error's text.

    :param room: the heading of its section.
    :param error: the name of its class.
    :param lines: its lines, with … for each part that is computed.
    """

    room: str
    error: str
    lines: tuple[str, ...]

    @property
    def title(self) -> str:
        """What happened: the first line, or its first sentence if the rest says what to do."""
        return re.split(r"(?<=[a-z…)]\.) (?=[A-Z])", self.lines[0])[0]

    @property
    def rest(self) -> str:
        """What to do."""
        return " ".join((self.lines[0].removeprefix(self.title), *self.lines[1:])).strip()


def public_errors() -> set[str]:
    """Return the names of all errors that a caller may see."""
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    names = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return {name for name in names if name.endswith("Error") and not name.startswith("_")} - INTERNAL | BUILTIN


def messages() -> list[Message]:
    """Return the messages of the package without the emulator, by room. Of equal texts there is one."""
    errors, found = public_errors(), dict[tuple[str, ...], Message]()
    for path in sorted(PACKAGE.rglob("*.py")):
        room = ROOMS.get(path.relative_to(PACKAGE).with_suffix("").parts[0])
        if room is not None:
            for error, text in _raised(ast.parse(path.read_text()), errors):
                lines = tuple(" ".join(line.split()) for line in text.splitlines() if line.strip())
                # Some messages are made of computed parts only.
                if len(re.sub(r"[…\W]", "", lines[0])) > 3:
                    found.setdefault(lines, Message(room, error, lines))
    order = list(dict.fromkeys(ROOMS.values()))
    return sorted(
        found.values(), key=lambda message: (order.index(message.room), message.title.lstrip("… `'\"").lower())
    )


def _raised(tree: ast.AST, errors: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the class and the text of each error that is made."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            text = next(filter(None, map(text_of, node.args)), None)
            if name in errors and text:
                yield name, text


def text_of(node: ast.AST) -> str | None:
    """Return the text of a string in code, with … for each part that is computed; None for other code."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is right is None else f"{left or '…'}{right or '…'}"
    return None


class ErrorMessages(SphinxDirective):
    """A section for each room, with a section for each message."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        sections: dict[str, Any] = {}
        for message in messages():
            section = sections.get(message.room)
            if section is None:
                section = sections[message.room] = nodes.section(ids=[nodes.make_id(message.room)])
                section += nodes.title(text=message.room)
            section += self._section(message)
        return list(sections.values())

    def _section(self, message: Message) -> nodes.section:
        name = f"{message.room} {message.title}"
        section = nodes.section(ids=[f"{nodes.make_id(name)[:80]}-{self.env.new_serialno('message')}"])
        section += nodes.title(text=message.title)
        line = nodes.paragraph()
        line += nodes.literal(text=message.error)
        if message.rest:
            line += nodes.Text(f": {message.rest}")
        section += line
        return section


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("error-messages", ErrorMessages)
    return {"parallel_read_safe": True}
