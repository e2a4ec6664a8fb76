"""The headings of docs/troubleshooting.md are errors that the code, Mapbox or Airflow really has."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mapbox import exceptions

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs" / "_ext"))
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
HEADINGS = [heading.strip("` ") for heading in re.findall(r"^### (.+)$", PAGE, re.MULTILINE)]
# Texts of Airflow's command line, and of Mapbox (docs/reference/errors.md).
OF_OTHERS = {
    "Dag … could not be found; either it does not exist or it failed to parse.",
    "An upload is already active",
    "Could not access url",
}


def strings() -> Iterator[str]:
    """Yield the string literals of the package, with … for each part that is computed. Docstrings are left out."""
    from error_messages import text_of

    for path in sorted((ROOT / "airflow_mapbox").rglob("*.py")):
        if "emulator" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in docstrings:
                continue
            text = text_of(node)
            if text is not None:
                yield text


TEXTS = [text.replace("\n", " ") for text in strings()]


def occurs(heading: str) -> bool:
    """Return whether a string has all fixed parts of a heading, in their order."""
    pattern = re.compile(".*".join(map(re.escape, heading.split("…"))))
    return any(pattern.search(text) for text in TEXTS)


def test_the_page_has_headings() -> None:
    assert len(HEADINGS) > 40
    assert len(set(HEADINGS)) == len(HEADINGS)


@pytest.mark.parametrize("heading", [heading for heading in HEADINGS if heading not in OF_OTHERS])
def test_each_heading_is_the_text_of_an_error(heading: str) -> None:
    assert occurs(heading)


def test_a_text_that_no_error_has_is_noticed() -> None:
    assert not occurs("The source … exists on … this machine.")


def test_each_exception_of_tasks_is_in_the_table() -> None:
    public = [
        name
        for name, value in vars(exceptions).items()
        if inspect.isclass(value) and value.__module__ == exceptions.__name__
    ]
    assert len(public) == 7
    assert [name for name in public if f"| `{name}` |" not in PAGE] == []
