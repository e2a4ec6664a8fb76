"""A release is made as a whole or not at all, in a repository of the test's own."""

from __future__ import annotations

import re
import shutil
import zipfile
from datetime import date
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.distribution import DistributionError
from tools.release import ReleaseError, git, release

DAY = date(2026, 5, 4)
# A host that cannot be registered (RFC 2606).
URL = "https://git.example/owner/name"
CHANGELOG = "# Changelog\n\n## [1.3.0] - Unreleased\n\n### Added\n\n- A thing.\n\n## [1.2.0] - 2026-01-01\n\n- Old.\n"


def build_two_files(root: Path) -> None:
    (root / "dist").mkdir()
    for name in ("a-1.3.0-py3-none-any.whl", "a-1.3.0.tar.gz"):
        (root / "dist" / name).touch()


def commit_all(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Everything")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.org")
    root = tmp_path / "repository"
    (root / "airflow_mapbox").mkdir(parents=True)
    (root / "airflow_mapbox/__init__.py").write_text('"""Doc."""\n\n__version__ = "1.2.0"\n')
    (root / "CHANGELOG.md").write_text(CHANGELOG)
    (root / "pyproject.toml").write_text(f'[tool.hatch.metadata.hooks.custom]\nrepository = "{URL}"\n')
    (root / ".gitignore").write_text("dist/\n")
    git(root, "init", "--quiet", "--initial-branch", "main")
    commit_all(root)
    return root


def test_a_release_sets_version_and_day_and_tags_the_commit(repository: Path) -> None:
    told = release(repository, "1.3.0", day=DAY, build=build_two_files)

    assert '__version__ = "1.3.0"' in (repository / "airflow_mapbox/__init__.py").read_text()
    assert "## [1.3.0] - 2026-05-04\n" in (repository / "CHANGELOG.md").read_text()
    assert git(repository, "rev-parse", "v1.3.0^{commit}") == git(repository, "rev-parse", "HEAD")
    assert git(repository, "status", "--porcelain") == ""
    assert "twine upload dist/a-1.3.0-py3-none-any.whl dist/a-1.3.0.tar.gz" in told


def test_the_first_release_needs_the_url_of_the_repository_and_keeps_it(repository: Path) -> None:
    project = repository / "pyproject.toml"
    project.write_text(project.read_text().replace(URL, ""))
    commit_all(repository)

    with pytest.raises(ReleaseError, match=r"no links and no picture.*make release VERSION=1\.3\.0 REPOSITORY="):
        release(repository, "1.3.0", day=DAY, build=build_two_files)
    assert git(repository, "status", "--porcelain") == ""

    release(repository, "1.3.0", URL, day=DAY, build=build_two_files)
    assert f'repository = "{URL}"\n' in git(repository, "show", "v1.3.0:pyproject.toml") + "\n"


@pytest.mark.parametrize(
    "url", ["http://git.example/a/b", "git@git.example:a/b", f"{URL}/", f'{URL}"x', "https://git.example"]
)
def test_a_url_that_cannot_begin_a_link_is_refused(url: str, repository: Path) -> None:
    with pytest.raises(ReleaseError, match="must be an https URL"):
        release(repository, "1.3.0", url, day=DAY, build=build_two_files)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("1.3", "three numbers"),
        ("v1.3.0", "three numbers"),
        ("1.1.0", "older than the current one, 1.2.0"),
        ("1.4.0", r"CHANGELOG.md has no section ## \[1.4.0\]"),
    ],
)
def test_a_version_that_cannot_be_released_is_refused(version: str, reason: str, repository: Path) -> None:
    with pytest.raises(ReleaseError, match=reason):
        release(repository, version, day=DAY, build=build_two_files)


def test_a_section_without_text_is_refused(repository: Path) -> None:
    (repository / "CHANGELOG.md").write_text("# Changelog\n\n## [1.3.0] - Unreleased\n\n## [1.2.0]\n\n- Old.\n")
    commit_all(repository)

    with pytest.raises(ReleaseError, match="no section"):
        release(repository, "1.3.0", day=DAY, build=build_two_files)


def test_changes_that_are_not_committed_are_named(repository: Path) -> None:
    (repository / "new.txt").touch()

    with pytest.raises(ReleaseError, match=r"(?s)not committed.*new\.txt"):
        release(repository, "1.3.0", day=DAY, build=build_two_files)


def test_another_branch_is_refused(repository: Path) -> None:
    git(repository, "switch", "--quiet", "--create", "feature")

    with pytest.raises(ReleaseError, match="not from feature"):
        release(repository, "1.3.0", day=DAY, build=build_two_files)


def test_a_version_is_released_once(repository: Path) -> None:
    release(repository, "1.3.0", day=DAY, build=build_two_files)

    with pytest.raises(ReleaseError, match=r"v1\.3\.0 exists already"):
        release(repository, "1.3.0", day=DAY, build=build_two_files)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (DistributionError("The wheel lacks py.typed."), ReleaseError),
        (FileNotFoundError(2, "No such file", "twine"), ReleaseError),
        (ValueError("too many values to unpack"), ValueError),
        (KeyboardInterrupt("Ctrl-C"), KeyboardInterrupt),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_after_a_failure_the_repository_is_as_before(
    error: BaseException, shown: type[BaseException], repository: Path
) -> None:
    before = git(repository, "rev-parse", "HEAD")

    def fail(root: Path) -> None:
        raise error

    with pytest.raises(shown, match=re.escape(str(error))):
        release(repository, "1.3.0", day=DAY, build=fail)

    assert git(repository, "rev-parse", "HEAD") == before
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "tag", "--list") == ""


@pytest.mark.slow
def test_this_repository_can_be_released(repository: Path, tmp_path: Path) -> None:
    """With the real build and its checks, in a copy."""
    root = tmp_path / "copy"
    left_out = shutil.ignore_patterns(".git", ".venv", ".demo", "dist", "build", "__pycache__", ".*_cache", "PKG-INFO")
    shutil.copytree(ROOT, root, ignore=left_out)
    changelog = (
        (root / "CHANGELOG.md").read_text().replace("\n## ", "\n## [99.0.0] - Unreleased\n\n- A test.\n\n## ", 1)
    )
    (root / "CHANGELOG.md").write_text(changelog)
    git(root, "init", "--quiet", "--initial-branch", "main")
    commit_all(root)

    told = release(root, "99.0.0", URL, day=DAY)

    names = [file.name for file in sorted((root / "dist").iterdir())]
    assert names == ["airflow_provider_mapbox-99.0.0-py3-none-any.whl", "airflow_provider_mapbox-99.0.0.tar.gz"]
    assert all(name in told for name in names)
    with zipfile.ZipFile(root / "dist" / names[0]) as wheel:
        (metadata,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/METADATA"))
    links = re.findall(rf"{URL}/(blob|raw)/v99\.0\.0/([^)\s#]+)", metadata.partition("\n\n")[2])
    assert ("raw", "docs/images/map-of-a-tileset.png") in links
    assert len(links) >= 10
    for _, file in links:
        git(root, "cat-file", "-e", f"v99.0.0:{file}")
    assert f"Project-URL: Documentation, {URL}/tree/v99.0.0/docs" in metadata
