"""Make a release: check the repository, set version and URL, build and check the files, tag; stop before the upload."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from tools.distribution import DistributionError, build

_VERSION_FILE = "airflow_mapbox/__init__.py"
_VERSION_LINE = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
# hatch_build.py reads it. The links of the index page begin with this URL, and cannot be changed after the upload.
_URL_LINE = re.compile(r'^repository = "(.*)"$', re.MULTILINE)


class ReleaseError(Exception):
    """The release cannot be made. Nothing has changed."""


def git(root: Path, *arguments: str) -> str:
    """Run git in a repository; return what it prints."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def check_repository(root: Path, version: str, url: str) -> None:
    """
    Check that a release can be made.

    :param root: the repository.
    :param version: the new version, such as ``1.2.3``.
    :param url: the https URL of the repository's public home.
    :raises ReleaseError: if the version, the URL, the branch or the changelog is not as it should be.
    """
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        raise ReleaseError(f"The version must be three numbers such as 1.2.3, got {version!r}.")
    if not url:
        raise ReleaseError(
            "pyproject.toml has no URL of the repository, so the index page would have no links and no picture. "
            f"Give it once: make release VERSION={version} REPOSITORY=https://…"
        )
    if not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", url):
        raise ReleaseError(f"The repository must be an https URL without a slash at its end, got {url!r}.")
    if (branch := git(root, "branch", "--show-current")) != "main":
        raise ReleaseError(f"A release is made from main, not from {branch or 'a detached commit'}.")
    if changed := git(root, "status", "--porcelain"):
        raise ReleaseError(f"main has changes that are not committed:\n{changed}")
    if git(root, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"The tag v{version} exists already. A published version never changes: take the next one.")
    current = _VERSION_LINE.findall((root / _VERSION_FILE).read_text())[0]
    if as_numbers(version) < as_numbers(current):
        raise ReleaseError(f"The version {version} is older than the current one, {current}.")
    if not section(root, version).strip():
        raise ReleaseError(f"CHANGELOG.md has no section ## [{version}] with text. Write what users will notice.")


def as_numbers(version: str) -> tuple[int, ...]:
    """Return a version's numbers, for comparison."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def section(root: Path, version: str) -> str:
    """Return the text below a version's heading in the changelog, or an empty string."""
    after = re.split(rf"^## \[{re.escape(version)}\].*$", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    return re.split(r"^## ", after[1], flags=re.MULTILINE)[0] if len(after) > 1 else ""


def current_url(root: Path) -> str:
    """Return the URL of the repository in pyproject.toml, or an empty string."""
    return _URL_LINE.findall((root / "pyproject.toml").read_text())[0]


def set_release(root: Path, version: str, url: str, day: date) -> None:
    """Write the version into the package, the URL into pyproject.toml, and the day into the changelog's heading."""
    file, project, changelog = root / _VERSION_FILE, root / "pyproject.toml", root / "CHANGELOG.md"
    project.write_text(_URL_LINE.sub(f'repository = "{url}"', project.read_text()))
    file.write_text(_VERSION_LINE.sub(f'__version__ = "{version}"', file.read_text()))
    heading = rf"^## \[{re.escape(version)}\].*$"
    changelog.write_text(
        re.sub(heading, f"## [{version}] - {day.isoformat()}", changelog.read_text(), flags=re.MULTILINE)
    )


def release(root: Path, version: str, url: str = "", *, day: date, build: Callable[[Path], None] = build) -> str:
    """
    Make a release, and return what remains to be done by hand.

    :param root: the repository.
    :param version: the new version.
    :param url: the URL of the repository. If it is empty, that of the last release stays.
    :param day: the day of the release.
    :param build: builds and checks the files of the folder ``dist``.
    :raises ReleaseError: if it cannot be made. The repository is then as before.
    """
    url = url or current_url(root)
    check_repository(root, version, url)
    before = git(root, "rev-parse", "HEAD")
    try:
        set_release(root, version, url, day)
        git(root, "commit", "--quiet", "--all", "--allow-empty", "--message", f"Release {version}")
        build(root)
        git(root, "tag", "--annotate", f"v{version}", "--message", f"Version {version}")
    except BaseException as error:
        # It was clean before, so this loses nothing.
        git(root, "reset", "--quiet", "--hard", before)
        if isinstance(error, (DistributionError, subprocess.CalledProcessError, OSError)):
            raise ReleaseError(f"{error}\n{getattr(error, 'stderr', None) or ''}".strip()) from None
        raise
    files = " ".join(f"dist/{file.name}" for file in sorted((root / "dist").iterdir()))
    steps = [f"Version {version} is committed and tagged. It is not published yet:", "  git push origin main"]
    steps += [f"  git push origin v{version}", f"  .venv/bin/twine upload {files}"]
    return "\n".join(steps)


def main() -> int:
    """Read the arguments and make the release; return the exit status."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("version", help="such as 1.2.3")
    parser.add_argument("--repository", default="", help="its https URL; needed once")
    parser.add_argument("--dry-run", action="store_true", help="do it in a temporary clone")
    arguments = parser.parse_args()
    root, day = Path(__file__).resolve().parent.parent, datetime.now(UTC).date()
    try:
        if not arguments.dry_run:
            print(release(root, arguments.version, arguments.repository, day=day))
            return 0
        with tempfile.TemporaryDirectory() as folder:
            clone = Path(folder) / "clone"
            git(root, "clone", "--quiet", "--branch", "main", str(root), str(clone))
            release(clone, arguments.version, arguments.repository, day=day)
            files = ", ".join(f"{file.name} ({file.stat().st_size:,} bytes)" for file in (clone / "dist").iterdir())
            print(f"The release {arguments.version} can be made: {files}.")
            print("This was a dry run in a temporary clone of main: nothing has changed here.")
    except ReleaseError as error:
        print(f"No release was made. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
