"""What README and docs tell a reader to copy, their links and sentences, and the pages that the code cites."""

from __future__ import annotations

import ast
import json
import re
import statistics
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.conftest import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MOST_WORDS, MOST_WORDS_MEDIAN = 25, 13
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


def test_every_documented_mapbox_connection_has_a_port() -> None:
    """Airflow 3.3.1 and 3.3.2 cannot test one without (apache/airflow#73298)."""
    # JSON, a Python dictionary, or a shell command that may go on over several lines.
    connection = re.compile(r"""["']conn_type["']: ["']mapbox["'][^}]*|--conn-type mapbox(?:[^\n]*\\\n)*[^\n]*""")
    found = [
        (str(file.relative_to(ROOT)), text)
        for file in text_files()
        if "tests" not in file.relative_to(ROOT).parts
        for text in connection.findall(file.read_text())
    ]

    assert {file for file, _ in found} >= {
        "docs/how-to/connect.md",
        "docs/how-to/emulator.md",
        "docker/docker-compose.yaml",
    }
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

    assert not missing, "\n".join(missing)


def inline_tokens(page: Path, inside: str) -> Iterator[Token]:
    """
    Yield a page's pieces of inline Markdown that stand in elements of one kind.

    :param inside: such as ``paragraph_open``; a table's cell is not a paragraph.
    """
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text())
    for before, token in pairwise(tokens):
        if token.type == "inline" and (before.type == inside or not inside):
            yield token


def leading_lines(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


def sentences(page: Path) -> Iterator[tuple[int, str]]:
    """Yield each sentence outside of tables, headings and code blocks, with its line. Inline code is one word."""
    for token in inline_tokens(page, "paragraph_open"):
        line = 1 + (token.map or [0])[0]
        parts = [
            "code" if child.type == "code_inline" else "\n" if child.type == "softbreak" else child.content
            for child in token.children or ()
        ]
        for sentence in re.split(r"(?<=[.!?])[\"')]*(?=\s)", "".join(parts)):
            if sentence.strip():
                yield line + leading_lines(sentence), " ".join(sentence.split())
            line += sentence.count("\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short(page: Path) -> None:
    lengths = [(len(sentence.split()), line, sentence) for line, sentence in sentences(page)]
    long = [
        f"{page.relative_to(ROOT)}:{line}: {words} words: {text}" for words, line, text in lengths if words > MOST_WORDS
    ]

    assert long == []
    # A page that is made from code may have no sentence of its own.
    assert statistics.median([words for words, *_ in lengths] or [0]) <= MOST_WORDS_MEDIAN


# Phrases that the house style replaces: a clause in a noun's place, old words, people who act without a name.
ODD = re.compile(
    r"\b(of which|somebody|nobody|go(es)? on|patience|ceremony|(?<!there )(is|are) none|that there is not|as \w+ has it"
    r"|what is there|where there is no|whatever crashes|tells? apart|come again|may have happened)\b"
)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each sentence of a module's docstrings without its examples and tables, with the line of its object."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = (ast.get_docstring(node) or "").partition("Example::")[0]
        text = re.sub(
            r"^ *=== *(=* *)*\n(.*\n)*? *=== *(=* *)*\n(.*\n)*? *===.*$|::\n\n(?:    .*\n?|\n)+",
            "",
            text,
            flags=re.MULTILINE,
        )
        for part in re.split(r"\n\s*\n|\n(?=\s*:\w)|\n(?=[-*] )", text):
            words = re.sub(r"``[^`]*``|:\w+:`[^`]*`", "code", re.sub(r"^\s*:\w+[^:]*:", "", part))
            for sentence in re.split(r"(?<=[.!?])\s", " ".join(words.split())):
                yield getattr(node, "lineno", 1), sentence


MODULES = [path for path in sorted((ROOT / "airflow_mapbox").rglob("*.py")) if "static" not in path.parts]


def test_sentences_of_docstrings_are_short_and_plain() -> None:
    found = [(path, line, sentence) for path in MODULES for line, sentence in docstrings(path) if sentence]
    lengths = [len(sentence.split()) for *_, sentence in found]
    print(f"{len(lengths)} sentences, median {statistics.median(lengths)}, longest {max(lengths)}")
    bad = [
        f"{path.relative_to(ROOT)}:{line}: {sentence}"
        for path, line, sentence in found
        if len(sentence.split()) > MOST_WORDS or ODD.search(sentence)
    ]

    assert len(lengths) > 4000
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_have_no_odd_phrases(page: Path) -> None:
    assert [f"{page.name}:{line}: {sentence}" for line, sentence in sentences(page) if ODD.search(sentence)] == []


def anchors(page: Path) -> set[str]:
    headings = (token.content.lower() for token in inline_tokens(page, "heading_open"))
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    children = [child for token in inline_tokens(page, "") for child in token.children or ()]
    links = [str(child.attrs["href"]) for child in children if child.type == "link_open"]
    broken = []
    for link in links:
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        if "://" not in link and not (file.exists() and (not anchor or anchor in anchors(file))):
            broken.append(link)

    assert broken == []


def test_each_example_is_in_the_table() -> None:
    listed = re.findall(r"^\| `(\w+\.py)`", (ROOT / "docs/how-to/examples.md").read_text(), re.M)

    assert sorted(listed) == sorted(path.name for path in (ROOT / "dags").glob("*.py"))


def test_each_picture_is_there_and_used() -> None:
    used = {
        (page.parent / token.attrs["src"]).resolve()
        for page in PAGES
        for block in MarkdownIt().parse(page.read_text())
        for token in block.children or ()
        if token.type == "image" and not str(token.attrs["src"]).startswith("http")
    }

    assert used == {path.resolve() for path in (ROOT / "docs/images").iterdir()}
