"""The layout of the package: docs/project/architecture.md draws it, and every module opens with one sentence."""

from __future__ import annotations

import ast
import re
import tomllib
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


def test_the_architecture_page_draws_the_layers_that_make_lint_checks() -> None:
    page = (ROOT / "docs/project/architecture.md").read_text()
    drawn = page.partition("```text\n")[2].partition("```")[0].split("\n")[:-1]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [at["layers"] for at in contracts if at.get("containers") == ["airflow_mapbox"]]

    assert [line.split(", ") for line in drawn] == [layer.split(" | ") for layer in layers]


def test_the_rooms_that_work_without_airflow_are_those_that_the_page_names() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [at["layers"] for at in contracts if at.get("containers") == ["airflow_mapbox"]]
    (core,) = [at["source_modules"] for at in contracts if at.get("forbidden_modules") == ["airflow"]]
    rooms = [room for layer in layers for room in layer.split(" | ")]
    lower = {*rooms[rooms.index("tilesets") :], "preflight", "emulator"}

    assert {module.removeprefix("airflow_mapbox.") for module in core} == lower


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_opens_with_one_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""

    assert re.match(r"[^\n]+\.(\n\n|$)", docstring), f"{path.name} opens with {docstring[:200]!r}"
