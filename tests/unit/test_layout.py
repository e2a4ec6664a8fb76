"""The layout of the package: docs/project/architecture.md draws it, and every module opens with one sentence."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "airflow_mapbox"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.read_text().strip())


def folders_on_disk() -> set[str]:
    return {str(path.parent.relative_to(PACKAGE)) for path in MODULES} - {"."}


def folders_drawn() -> set[str]:
    page = (ROOT / "docs/project/architecture.md").read_text()
    drawing = page.partition("```\nairflow_mapbox/\n")[2].partition("```")[0]
    folders, parents = set[str](), list[str]()
    for line in drawing.splitlines():
        if match := re.match(r"^((?:  ){1,3})(\w+)/  ", line):
            depth = len(match[1]) // 2
            parents[depth - 1 :] = [match[2]]
            folders.add("/".join(parents))
    return folders


def test_the_architecture_page_draws_every_folder_of_the_package() -> None:
    assert folders_drawn() == folders_on_disk()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_opens_with_one_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""

    assert re.match(r"[^\n]+\.(\n\n|$)", docstring), f"{path.name} opens with {docstring[:200]!r}"
