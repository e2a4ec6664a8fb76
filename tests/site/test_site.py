"""The site that `make site` has built: its links, its reference, its search, and nothing from other hosts."""

from __future__ import annotations

import ast
import dataclasses
import html
import importlib
import importlib.util
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

import airflow_mapbox
from airflow_mapbox.emulator import EmulatorSettings
from airflow_mapbox.get_provider_info import get_provider_info
from airflow_mapbox.rules.table import RULES
from tests.conftest import ROOT

SITE = ROOT / "build" / "site"
sys.path.append(str(ROOT / "docs" / "_ext"))

# Names that only other modules of this package and its tests import.
INTERNAL = {"airflow_mapbox.compat"}


class Page(HTMLParser):
    """The links, anchors and addresses of content of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.content: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if attributes.get("id"):
            self.anchors.add(str(attributes["id"]))
        if tag == "a" and attributes.get("href"):
            self.links.append(str(attributes["href"]))
        elif tag in ("img", "script", "iframe", "source", "video") and attributes.get("src"):
            self.content.append(str(attributes["src"]))
        elif tag == "link" and attributes.get("rel") not in ("index", "search", "next", "prev", "canonical"):
            self.content.append(str(attributes["href"]))


@cache
def page(path: Path) -> Page:
    return Page(path)


@pytest.fixture(scope="module")
def pages() -> dict[Path, Page]:
    assert SITE.is_dir(), "run: make site"
    return {path: page(path) for path in sorted(SITE.rglob("*.html"))}


@pytest.fixture(scope="module")
def inventory() -> dict[str, set[str]]:
    """The names that the reference describes, by their kind."""
    found = InventoryFile.loads((SITE / "objects.inv").read_bytes(), uri="")
    return {kind: set(names) for kind, names in found.data.items()}


@pytest.fixture(scope="module")
def described(inventory: dict[str, set[str]]) -> set[str]:
    return {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}


def test_the_site_has_every_page_of_the_documentation(pages: dict[Path, Page]) -> None:
    sources = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}

    assert sources <= {path.relative_to(SITE).with_suffix("") for path in pages}


def test_every_link_within_the_site_leads_to_a_page_and_an_anchor(pages: dict[Path, Page]) -> None:
    broken = []
    for path, content in pages.items():
        for link in content.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = page(target).anchors if target.suffix == ".html" and target.is_file() else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in anchors):
                broken.append(f"{path.relative_to(SITE)}: {link}")

    assert sum(len(content.links) for content in pages.values()) > 1000
    assert broken == []


def test_a_reader_gets_nothing_from_other_hosts(pages: dict[Path, Page]) -> None:
    content = {address for content in pages.values() for address in content.content}
    outside = re.compile(r"(url\(|@import)\s*['\"]?(https?:)?//")
    styles = [path for path in SITE.rglob("*.css") if outside.search(path.read_text())]

    assert any(address.endswith(".png") for address in content)
    assert [address for address in content if urlsplit(address).netloc] == []
    assert styles == []


def test_every_page_can_be_searched() -> None:
    index = (SITE / "searchindex.js").read_text()
    document = json.loads(index[index.index("(") + 1 : index.rindex(")")])

    sources = {str(path.relative_to(ROOT / "docs").with_suffix("")) for path in (ROOT / "docs").rglob("*.md")}
    assert set(document["docnames"]) == sources
    assert {"antimeridian", "backfil"} <= set(document["terms"])


def exported_names() -> Iterator[str]:
    """Yield each name that a module of the package has in `__all__`."""
    for module in pkgutil.walk_packages(airflow_mapbox.__path__, "airflow_mapbox."):
        if module.name in INTERNAL or module.name.endswith(".__main__"):
            continue
        tree = ast.parse(Path(str(importlib.util.find_spec(module.name).origin)).read_text())
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
                yield from (f"{module.name}.{name}" for name in ast.literal_eval(statement.value))


def imported_names() -> Iterator[str]:
    """Yield each name that a page, an example DAG or the list of public names imports."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    files = [*(ROOT / "dags").glob("*.py"), ROOT / "tests" / "system" / "test_wheel.py"]
    texts = [block for path in pages for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)]
    for text in (*texts, *(path.read_text() for path in files)):
        for module, names in re.findall(r"^ *from (airflow_mapbox[\w.]*) import ([\w, ]+)$", text, re.M):
            yield from (f"{module}.{name.strip()}" for name in names.split(","))


def metadata_names() -> Iterator[str]:
    """Yield each class and function that Airflow finds by the provider's metadata."""
    info = get_provider_info()
    for kind, base in [("hooks", "Hook"), ("operators", "Operator"), ("sensors", "Sensor"), ("triggers", "Trigger")]:
        for entry in info[kind]:
            for module in entry["python-modules"]:
                yield from (f"{module}.{name}" for name in own_classes(module) if name.endswith(base))
    yield from info["extra-links"]
    yield from (entry["class-name"] for entry in info["task-decorators"])
    for entry in info["asset-uris"]:
        yield from (entry["handler"], entry["factory"], entry["to_openlineage_converter"])


def own_classes(module: str) -> Iterator[str]:
    loaded = importlib.import_module(module)
    for name, value in vars(loaded).items():
        if isinstance(value, type) and value.__module__ == module and not name.startswith("_"):
            yield name


@pytest.mark.parametrize("name", sorted({*exported_names(), *imported_names(), *metadata_names()}))
def test_the_reference_describes_each_public_name(name: str, described: set[str]) -> None:
    module, _, attribute = name.rpartition(".")
    value: Any = getattr(importlib.import_module(module), attribute)

    # The reference describes a name once: where it is imported from, or where it is defined.
    defined = f"{value.__module__}.{value.__qualname__}" if callable(value) else name
    assert {name, defined} & described


def test_the_reference_describes_each_error(described: set[str]) -> None:
    errors = {
        f"{module}.{name}"
        for module in ("errors", "exceptions", "uploads.errors", "tilesets.errors", "export.errors")
        for module in [f"airflow_mapbox.{module}"]
        for name in own_classes(module)
    }

    assert len(errors) > 50
    assert errors - described == set()


def test_the_reference_has_each_option_of_each_command(inventory: dict[str, set[str]]) -> None:
    from from_code import parsers

    missing = [
        f"{words} {flag}"
        for words, parser in parsers().items()
        for action in parser._actions
        for flag in action.option_strings
        if flag not in ("-h", "--help") and f"{words.replace(' ', '-')}.{flag}" not in inventory["std:cmdoption"]
    ]

    assert "mapbox-emulator" in parsers()
    assert "airflow mapbox uploads upload" in parsers()
    assert missing == []


def test_the_reference_has_each_setting_of_the_emulator() -> None:
    text = (SITE / "reference/python/emulator.html").read_text()
    fields = [field.name for field in dataclasses.fields(EmulatorSettings)]

    assert [name for name in fields if f'<span class="pre">{name}</span></code></p></td>' not in text] == []


def test_the_reference_has_the_fields_of_the_connection_and_the_options_of_the_configuration() -> None:
    text = (SITE / "reference/configuration.html").read_text()
    (connection,) = get_provider_info()["connection-types"]
    labels = [*connection["ui-field-behaviour"]["relabeling"].values()]
    labels += [field["label"] for field in connection["conn-fields"].values()]
    options = [
        f"AIRFLOW__{section}__{name}".upper()
        for section, content in get_provider_info()["config"].items()
        for name in content["options"]
    ]

    assert [word for word in (*labels, *options) if word not in text] == []


def test_the_reference_has_each_rule() -> None:
    anchors = page(SITE / "reference/refusals.html").anchors

    assert {rule.name for rule in RULES} <= anchors


def test_the_texts_of_errors_are_headings() -> None:
    headings = re.findall(r"<h3>(.*?)<a", (SITE / "reference/messages.html").read_text(), re.DOTALL)
    titles = {html.unescape(re.sub(r"<[^>]+>", "", heading)).strip() for heading in headings}

    # Of different rooms, as a reader sees them in a log; … stands for what a message fills in.
    assert titles >= {
        "PROJ does not know crs=….",
        "The source … does not exist on this machine.",
        "The column name … cannot be written as UTF-8: rename it.",
        "The staging bucket has … bytes of …, but … were sent.",
        "Nothing was deleted: without a terminal, the command cannot ask.",
    }
    assert len(headings) > 200
