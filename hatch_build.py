"""What the index page of a release shows: the README with links that work there, and the project's URLs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# What only a reader of the clone needs, and what only a reader of the index page needs.
_OF_CLONE = re.compile(r"<!-- clone -->\n.*?<!-- /clone -->\n", re.DOTALL)
_OF_INDEX = re.compile(r"<!-- index\n(.*?)-->\n", re.DOTALL)
_CODE_BLOCK = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
# A Markdown link or image whose target is a file of this repository. A link's text may be an image.
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:!\[[^\[\]]*\]\([^)]*\)|[^\[\]])*)\]\((?!\w+:|#)(?P<target>[^)\s]+)\)")

# A relative target in any form of Markdown or HTML.
_RELATIVE = re.compile(
    r"\]\((?!\w+:|#)[^)]*\)|^\[[^\]]+\]:\s+(?!\w+:|#)\S+|(?:src|href)=[\"'](?!\w+:|#)[^\"']+", re.MULTILINE
)


class IndexPage(MetadataHookInterface):
    """
    Fill the fields ``readme`` and ``urls``, which depend on where the repository is.

    ``repository`` in ``[tool.hatch.metadata.hooks.custom]`` is the only place with its URL. If it is empty, a link to a
    file becomes its text: no link is better than one that leads nowhere.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the two fields."""
        version = re.search(
            r'^__version__ = "(.+)"$', (Path(self.root) / "airflow_mapbox/__init__.py").read_text(), re.M
        )
        if version is None:
            raise ValueError('airflow_mapbox/__init__.py has no line __version__ = "…".')
        repository, tag = str(self.config["repository"]).rstrip("/"), f"v{version[1]}"
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": index_page(readme, repository=repository, tag=tag),
        }
        metadata["urls"] = project_urls(repository, tag=tag, documentation=str(self.config["documentation"]))


def index_page(readme: str, *, repository: str, tag: str) -> str:
    """
    Return a README as the index shows it: with the installation from the index, and with links that work there.

    :param readme: Markdown. ``<!-- clone -->`` to ``<!-- /clone -->`` is left out, and ``<!-- index … -->`` is shown.
    :param repository: as :func:`rewrite_links` takes it.
    :param tag: likewise.
    :raises ValueError: if a link is left that works in the repository only.
    """
    page = rewrite_links(_OF_INDEX.sub(r"\1", _OF_CLONE.sub("", readme)), repository=repository, tag=tag)
    if left := _RELATIVE.search(_CODE_BLOCK.sub("", page)):
        raise ValueError(f"README.md has a link of a form that is not rewritten for the index page: {left[0]}")
    return page


def rewrite_links(readme: str, *, repository: str, tag: str) -> str:
    """
    Return a README whose links work on any page.

    :param readme: Markdown with links relative to the repository's root.
    :param repository: the URL of the repository, or an empty string.
    :param tag: the tag of the release, so that the links keep leading to the files of this version.
    """

    def rewrite(link: re.Match[str]) -> str:
        text = _LINK.sub(rewrite, link["text"])
        if not repository:
            return "" if link["image"] else text
        view = "raw" if link["image"] else "blob"
        return f"{link['image']}[{text}]({repository}/{view}/{tag}/{link['target']})"

    # Code blocks keep their brackets: the split puts it at the odd places.
    parts = _CODE_BLOCK.split(readme)
    parts[::2] = [_LINK.sub(rewrite, part) for part in parts[::2]]
    return "".join(parts)


def project_urls(repository: str, *, tag: str, documentation: str = "") -> dict[str, str]:
    """
    Return the URLs of the project. Airflow's list of providers links to Documentation.

    :param repository: the URL of the repository, or an empty string.
    :param tag: the tag of the release.
    :param documentation: the URL of the built site; if it is empty, the repository's folder of pages.
    """
    urls = {"Documentation": documentation} if documentation else {}
    if not repository:
        return urls
    return {
        "Source": repository,
        "Documentation": f"{repository}/tree/{tag}/docs",
        "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
        **urls,
    }
