"""What a package index shows of a release: no link of the README may be relative there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from hatch_build import index_page, project_urls, rewrite_links
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
# A host that cannot be registered (RFC 2606).
REPOSITORY = "https://git.example/owner/airflow-provider-mapbox"
RELEASED, RELEASED_PICTURES = f"{REPOSITORY}/blob/v1.2.3/", f"{REPOSITORY}/raw/v1.2.3/"


def tokens(markdown: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        yield token
        yield from token.children or ()


def targets(markdown: str) -> list[str]:
    """Return the targets of links and images, also of those in HTML."""
    plain = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in tokens(markdown)]
    html = [token.content for token in tokens(markdown) if token.type.startswith("html")]
    return [target for target in plain if target] + re.findall(r"""(?:src|href)=["']([^"']+)""", "\n".join(html))


def code(markdown: str) -> list[str]:
    return [token.content for token in tokens(markdown) if token.type == "fence"]


@pytest.mark.parametrize("repository", ["", REPOSITORY], ids=["no repository", "a repository"])
def test_the_readme_of_an_index_page_has_no_relative_link_and_the_same_code(repository: str) -> None:
    page = index_page(README, repository=repository, tag="v1.2.3")

    assert [target for target in targets(README) if "://" not in target]
    assert [target for target in targets(page) if not target.startswith(("https://", "#"))] == []
    of_clone = [block for block in code(README) if "pip install" in block]
    assert [block for block in code(page) if "pip install" not in block] == [
        block for block in code(README) if block not in of_clone
    ]


def test_the_index_page_installs_from_the_index_and_the_readme_from_the_clone() -> None:
    page = index_page(README, repository=REPOSITORY, tag="v1.2.3")

    assert "pip install airflow-provider-mapbox\n" in page
    assert "not on PyPI" not in page
    assert "<!--" not in page
    assert "pip install -c constraints.txt .  " in README


@pytest.mark.parametrize(
    "link",
    ['[a](README.md "title")', "See [a].\n\n[a]: README.md", '<img src="a.png">', "[`x[0]`](README.md)"],
)
def test_a_link_that_is_not_rewritten_ends_the_build(link: str) -> None:
    with pytest.raises(ValueError, match="of a form that is not rewritten"):
        index_page(f"{link}\n", repository=REPOSITORY, tag="v1.2.3")


def test_a_link_leads_to_the_file_of_the_release() -> None:
    page = rewrite_links("See [the\nguide](CONTRIBUTING.md#part).", repository=REPOSITORY, tag="v1.2.3")

    assert page == f"See [the\nguide]({RELEASED}CONTRIBUTING.md#part)."


def test_a_picture_is_linked_as_a_file_and_not_as_a_page() -> None:
    page = rewrite_links("[![A map](docs/map.png)](README.md)", repository=REPOSITORY, tag="v1.2.3")

    assert page == f"[![A map]({RELEASED_PICTURES}docs/map.png)]({RELEASED}README.md)"


def test_without_a_repository_a_link_becomes_its_text_and_a_picture_disappears() -> None:
    page = rewrite_links(
        "![A map](docs/map.png) See [the guide](CONTRIBUTING.md), [more](#more).", repository="", tag="v1"
    )

    assert page == " See the guide, [more](#more)."


@pytest.mark.parametrize("markdown", ["[x](https://docs.mapbox.com)", "[x](#part)", "```\na[x](y)\n```\n"])
def test_other_targets_and_code_are_left_alone(markdown: str) -> None:
    assert rewrite_links(markdown, repository=REPOSITORY, tag="v1.2.3") == markdown


def test_the_project_has_the_url_that_airflow_links_to() -> None:
    urls = project_urls(REPOSITORY, tag="v1.2.3")

    # Airflow reads this name for the page "Providers".
    assert urls["Documentation"] == f"{REPOSITORY}/tree/v1.2.3/docs"
    assert all(url.startswith(REPOSITORY) for url in urls.values())


def test_a_built_site_takes_the_place_of_the_folder_of_pages() -> None:
    site = "https://docs.example/airflow-provider-mapbox/"

    assert project_urls(REPOSITORY, tag="v1.2.3", documentation=site)["Documentation"] == site
    assert project_urls("", tag="v1.2.3", documentation=site) == {"Documentation": site}
    assert project_urls("", tag="v1.2.3") == {}
