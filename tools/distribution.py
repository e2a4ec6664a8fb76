"""Build the wheel and the source archive, and check that they are whole and show well on an index page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

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
# The folders that tests read, so that they pass in the unpacked archive.
_NEEDED_FOLDERS = (".ci", PACKAGE, "benchmarks", "dags", "demo", "docker", "docs", "tests", "tools")


class DistributionError(Exception):
    """A built file lacks something, or has too much. The message names each file."""


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
    expected = {*_NEEDED_SOURCES, *(name for name in tracked if name.partition("/")[0] in _NEEDED_FOLDERS)}
    missing = [f"{sdist.name} lacks {name}." for name in sorted(expected - names)]
    return missing + [f"{sdist.name} must not have {name}." for name in sorted(names - tracked - {"PKG-INFO"})]


def tracked_files(root: Path) -> list[str]:
    """Return the files of a repository that git tracks and that exist."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (root / name).is_file()]


def build(root: Path) -> None:
    """
    Build both files into the folder ``dist`` and check them.

    :param root: the repository.
    :raises DistributionError: if a file is not as it should be.
    :raises subprocess.CalledProcessError: if a program that builds or checks fails.
    """
    folder, programs = root / "dist", Path(sys.executable).parent
    shutil.rmtree(folder, ignore_errors=True)
    # The time of the last commit, so that the same commit makes the same bytes.
    time = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=root, check=True, capture_output=True, text=True)
    environment = os.environ | {"SOURCE_DATE_EPOCH": time.stdout.strip()}
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", root], cwd=root, check=True, env=environment)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    subprocess.run([programs / "twine", "check", "--strict", wheel, sdist], check=True)
    subprocess.run([programs / "check-wheel-contents", wheel], cwd=root, check=True)
    tracked = tracked_files(root)
    package = [name for name in tracked if name.startswith(f"{PACKAGE}/")]
    if problems := wheel_problems(wheel, package) + sdist_problems(sdist, tracked):
        raise DistributionError("\n".join(problems))
    for file in (wheel, sdist):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    print("Both hold what they should, and nothing else.")


if __name__ == "__main__":
    try:
        build(Path(__file__).resolve().parent.parent)
    except (DistributionError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
