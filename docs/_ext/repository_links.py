"""Links from a page to a file of the repository that the site has under another name, such as ``CHANGELOG.md``."""

from __future__ import annotations

import posixpath
import re
from functools import partial
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

# Files outside of the documentation's folder, and the pages that have their content.
PAGES = {
    "README.md": "docs/index.md",
    "CHANGELOG.md": "docs/project/changelog.md",
    "CONTRIBUTING.md": "docs/project/contributing.md",
}
_LINK = re.compile(r"\]\((?P<target>(?:\.\./)+[\w./-]+\.md)(?P<anchor>#[\w-]+)?\)")

log = logging.getLogger(__name__)


def relink(app: Sphinx, name: str, content: list[str]) -> None:  # noqa: ARG001 - Sphinx's event
    """Point the links of a page at the site's own pages."""
    content[0] = _LINK.sub(partial(_relinked, name), content[0])


def _relinked(name: str, link: re.Match[str]) -> str:
    folder = posixpath.join("docs", posixpath.dirname(name))
    path = posixpath.normpath(posixpath.join(folder, link["target"]))
    if path.startswith("docs/"):
        return link[0]
    if path not in PAGES:
        log.warning("%s is outside of the documentation, and no page has its content", path, location=name)
        return link[0]
    # The first page has other headings than README.md.
    anchor = "" if path == "README.md" else link["anchor"] or ""
    return f"]({posixpath.relpath(PAGES[path], folder)}{anchor})"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the event."""
    app.connect("source-read", relink)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
