"""What README and docs tell a reader to copy, and the pages that the code cites."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What a test reads and a reader copies, or a maintainer follows.
FOLDERS = ("airflow_mapbox", "benchmarks", "dags", "demo", "docker", "docs", "tests")


def code_blocks(language: str) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for block in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S):
            yield page, block


def named(blocks: Iterator[tuple[Path, str]]) -> list[object]:
    return [pytest.param(block, id=f"{page.name}-{number}") for number, (page, block) in enumerate(blocks)]


def text_files() -> list[Path]:
    endings = {".py", ".md", ".yaml", ".js", ".mjs", ""}
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in endings]
    kept = [path for path in files if path.is_file() and ".venv" not in path.parts and not path.name.startswith(".")]
    return [ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml", *kept]


@pytest.mark.parametrize("block", named(code_blocks("python")))
def test_python_in_the_documentation_is_python(block: str) -> None:
    ast.parse(block)


@pytest.mark.parametrize("block", named(code_blocks("json")))
def test_json_in_the_documentation_is_json(block: str) -> None:
    json.loads(block)


def test_every_mapbox_connection_that_is_written_down_has_a_port() -> None:
    """Airflow 3.3.1 and 3.3.2 cannot test one without (apache/airflow#73298)."""
    # JSON, a Python dictionary, or a shell command that may go on over several lines.
    connection = re.compile(r"""["']conn_type["']: ["']mapbox["'][^}]*|--conn-type mapbox(?:[^\n]*\\\n)*[^\n]*""")
    found = [
        (str(file.relative_to(ROOT)), text)
        for file in text_files()
        if "tests" not in file.relative_to(ROOT).parts
        for text in connection.findall(file.read_text())
    ]

    assert {file for file, _ in found} >= {"docs/connect.md", "docs/emulator.md", "docker/docker-compose.yaml"}
    assert [(file, text) for file, text in found if not re.search(r"""["']port["']: 0|--conn-port 0""", text)] == []


def test_every_page_that_is_cited_is_in_the_repository() -> None:
    """A citation names the page by its path from the root, or, in a link, from the page that has it."""
    cited = re.compile(r"(?<![\w/.:-])((?:\.\./)*[\w./-]*\w\.md)\b(?!5)")
    files = [file for file in text_files() if file.name != "pyproject.toml"]
    missing = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in cited.findall(re.sub(r"https?://\S+", "", file.read_text()))
        if not (ROOT / name).is_file() and not (file.suffix == ".md" and (file.parent / name).is_file())
    ]

    assert missing == []


def test_every_heading_that_is_linked_is_there() -> None:
    def anchors(page: Path) -> set[str]:
        headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    links = [
        (page, target, anchor)
        for page in PAGES
        for target, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", page.read_text())
    ]

    assert links
    for page, target, anchor in links:
        assert anchor in anchors((page.parent / target) if target else page), f"{page.name}: {target}#{anchor}"
