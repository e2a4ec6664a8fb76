"""Compare the wheel and the source archive with the folder that they were built from."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "airflow_mapbox"
# What a user of the package needs beside its modules.
_NEEDED_METADATA = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
# A reader of the archive can build the package and run its tests with these.
_NEEDED_SOURCES = (
    "LICENSE",
    "Makefile",
    "PKG-INFO",
    "README.md",
    "constraints.txt",
    "hatch_build.py",
    "pyproject.toml",
)


def wheel_problems(wheel: Path, package: Iterable[str]) -> list[str]:
    """
    Return what is missing in a wheel, and what is too much.

    :param wheel: the file.
    :param package: the files of the package in the repository, from its root.
    """
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    expected = {*package, *(f"{metadata}/{name}" for name in _NEEDED_METADATA)}
    missing = [f"{wheel.name} lacks {name}." for name in sorted(expected - names)]
    return missing + [f"{wheel.name} must not have {name}." for name in sorted(names - expected)]


def sdist_problems(sdist: Path, tracked: Iterable[str]) -> list[str]:
    """
    Return what is missing in a source archive, and what is too much.

    :param sdist: the file.
    :param tracked: all files of the repository, from its root.
    """
    with tarfile.open(sdist) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    tracked = set(tracked)
    # A folder is whole or absent.
    folders = {name.partition("/")[0] for name in names if "/" in name}
    expected = {*_NEEDED_SOURCES, *(name for name in tracked if "/" in name and name.partition("/")[0] in folders)}
    expected |= {name for folder in (PACKAGE, "tests") for name in tracked if name.startswith(f"{folder}/")}
    missing = [f"{sdist.name} lacks {name}." for name in sorted(expected - names)]
    return missing + [f"{sdist.name} must not have {name}." for name in sorted(names - tracked - {"PKG-INFO"})]


def tracked_files() -> list[str]:
    """Return the repository's files that git tracks and that exist."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def main(folder: Path) -> int:
    """Check the one wheel and the one source archive of a folder; return the exit status."""
    tracked = tracked_files()
    try:
        (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    except ValueError:
        sys.exit(f"{folder} must have one wheel and one source archive, and nothing of another build.")
    package = [name for name in tracked if name.startswith(f"{PACKAGE}/")]
    problems = wheel_problems(wheel, package) + sdist_problems(sdist, tracked)
    for file in (wheel, sdist):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    print("\n".join(problems) or "Both hold what they should, and nothing else.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
