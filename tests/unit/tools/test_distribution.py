"""The check of a wheel and a source archive finds what is missing and what is too much."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

from tools.distribution import sdist_problems, wheel_problems

PACKAGE = ["airflow_mapbox/__init__.py", "airflow_mapbox/py.typed"]
METADATA = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"]
TOP = ["LICENSE", "Makefile", "README.md", "constraints.txt", "hatch_build.py", "pyproject.toml"]
TRACKED = [*PACKAGE, *TOP, "tests/test_a.py", ".github/workflows/ci.yml"]


def make_wheel(folder: Path, names: list[str]) -> Path:
    wheel = folder / "airflow_provider_mapbox-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return wheel


def make_sdist(folder: Path, names: list[str]) -> Path:
    sdist = folder / "airflow_provider_mapbox-1.0.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"airflow_provider_mapbox-1.0/{name}"), io.BytesIO())
    return sdist


def whole_wheel() -> list[str]:
    return [*PACKAGE, *(f"airflow_provider_mapbox-1.0.dist-info/{name}" for name in METADATA)]


def test_a_whole_wheel_has_no_problem(tmp_path: Path) -> None:
    assert wheel_problems(make_wheel(tmp_path, whole_wheel()), PACKAGE) == []


def test_a_wheel_without_its_types_and_licence_is_refused(tmp_path: Path) -> None:
    names = [name for name in whole_wheel() if not name.endswith(("py.typed", "LICENSE"))]

    problems = wheel_problems(make_wheel(tmp_path, names), PACKAGE)

    assert [problem.split(" lacks ")[1] for problem in problems] == [
        "airflow_mapbox/py.typed.",
        "airflow_provider_mapbox-1.0.dist-info/licenses/LICENSE.",
    ]


def test_a_wheel_with_tests_is_refused(tmp_path: Path) -> None:
    (problem,) = wheel_problems(make_wheel(tmp_path, [*whole_wheel(), "tests/test_a.py"]), PACKAGE)

    assert problem.endswith("must not have tests/test_a.py.")


def test_a_whole_source_archive_has_no_problem(tmp_path: Path) -> None:
    sdist = make_sdist(tmp_path, [*PACKAGE, *TOP, "PKG-INFO", "tests/test_a.py"])

    assert sdist_problems(sdist, TRACKED) == []


def test_a_source_archive_without_tests_or_constraints_is_refused(tmp_path: Path) -> None:
    sdist = make_sdist(tmp_path, [*PACKAGE, *TOP, "PKG-INFO"])
    assert [problem.split(" lacks ")[1] for problem in sdist_problems(sdist, TRACKED)] == ["tests/test_a.py."]

    names = [name for name in [*PACKAGE, *TOP, "PKG-INFO", "tests/test_a.py"] if name != "constraints.txt"]
    (problem,) = sdist_problems(make_sdist(tmp_path, names), TRACKED)
    assert problem.endswith("lacks constraints.txt.")


def test_a_source_archive_with_a_file_that_git_does_not_track_is_refused(tmp_path: Path) -> None:
    sdist = make_sdist(tmp_path, [*PACKAGE, *TOP, "PKG-INFO", "tests/test_a.py", "docker/.env"])

    (problem,) = sdist_problems(sdist, TRACKED)

    assert problem.endswith("must not have docker/.env.")
