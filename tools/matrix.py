"""Install the built wheel in empty environments, one for each supported combination, and try it in each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent
_UV = Path(sys.executable).parent / "uv"
# Airflow's constraints also pin these. They do not know the geospatial packages.
_SHARED = ("fsspec", "msgspec", "numpy", "orjson", "pandas", "pyarrow", "requests", "s3fs", "urllib3")
PYTHONS = ("3.11", "3.12", "3.13")
# Airflow publishes constraint files: the newest versions on the day of a release that its tests pass with. Their host
# is not a package index, so it is asked only with MATRIX_REQUIRED. Else the same day is given to the resolver instead.
CONSTRAINTS = "https://raw.githubusercontent.com/apache/airflow/constraints-{airflow}/constraints-{python}.txt"
AIRFLOW_RELEASES = {"3.3.0": "2026-07-08", "3.3.1": "2026-08-12", "3.3.2": "2026-09-17"}


@dataclass(frozen=True)
class Leg:
    """
    One environment.

    :param name: what it stands for.
    :param python: the interpreter.
    :param options: returns the options and requirements of the installation; may ask the index for them.
    :param is_substitute: whether it stands for Airflow's own constraints, which could not be read.
    """

    name: str
    python: Path
    options: Callable[[], tuple[str, ...]]
    is_substitute: bool = False


def find_pythons() -> dict[str, Path]:
    """Return the interpreter of each supported version on this machine: on the PATH, or one of pyenv's."""
    # Of pyenv, which may be in another home than that of this process: then this interpreter is one of its versions.
    folders = {Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions", Path(sys.base_prefix).parent}
    found = {}
    for version in PYTHONS:
        of_pyenv = [python for folder in folders for python in folder.glob(f"{version}.*/bin/python")]
        candidates = sorted(of_pyenv, key=_version_of, reverse=True)
        if path := shutil.which(f"python{version}"):
            candidates.append(Path(path))
        for candidate in candidates:
            # A shim of pyenv exists also for a version that is not chosen, and then fails.
            shown = subprocess.run([candidate, "-c", "import sys; print(sys.version)"], capture_output=True, text=True)
            if shown.returncode == 0 and shown.stdout.startswith(f"{version}."):
                found[version] = candidate
                break
    return found


def _version_of(python: Path) -> list[int]:
    """Return the version of an interpreter of pyenv, for comparison."""
    return [int(number) for number in re.findall(r"\d+", python.parts[-3])]


def lowest_versions(python: Path, folder: Path) -> Path:
    """
    Write the lowest version of each direct dependency, and the newest of all others that go with them.

    :param python: the interpreter.
    :param folder: the folder for the file that is returned.
    """
    file = folder / "lowest.txt"
    command = [_UV, "pip", "compile", "--quiet", "--system-certs", "--python", python, "--resolution", "lowest-direct"]
    subprocess.run([*command, "--extra", "emulator", "--output-file", file, ROOT / "pyproject.toml"], check=True)
    return file


def constraints_of_a_release(airflow: str, version: str, folder: Path) -> Path | None:
    """
    Download Airflow's own constraints; return None, and say so, if their host cannot be reached.

    :param airflow: Airflow's version.
    :param version: Python's version, such as ``3.11``.
    :param folder: the folder for the file that is returned.
    """
    address, file = CONSTRAINTS.format(airflow=airflow, python=version), folder / f"constraints-{airflow}-{version}.txt"
    try:
        reply = requests.get(address, timeout=30)
        reply.raise_for_status()
    except requests.RequestException as error:
        print(f"{address} cannot be read ({type(error).__name__}).", flush=True)
        return None
    file.write_bytes(reply.content)
    return file


def versions_of_a_release(airflow: str, day: str, python: Path, folder: Path) -> Path:
    """
    Write the newest versions of Airflow and of what it shares with this package, on one day.

    :param airflow: Airflow's version.
    :param day: the day, as an ISO date.
    :param python: the interpreter.
    :param folder: the folder for the file that is returned.
    """
    file, wanted = folder / f"airflow-{airflow}.txt", folder / f"airflow-{airflow}.in"
    wanted.write_text("\n".join([f"apache-airflow[amazon,celery,openlineage,postgres]=={airflow}", *_SHARED]))
    command = [_UV, "pip", "compile", "--quiet", "--system-certs", "--python", python, "--exclude-newer", day]
    subprocess.run([*command, "--no-annotate", "--output-file", file, wanted], check=True)
    return file


def legs(pythons: dict[str, Path], folder: Path) -> Iterator[Leg]:
    """
    Yield the environments to try.

    :param pythons: interpreters by version.
    :param folder: a folder for files that they need.
    """
    for version, python in pythons.items():
        yield Leg(f"Python {version}, constraints.txt", python, lambda: ("-c", str(ROOT / "constraints.txt")))
    oldest = pythons[min(pythons)]
    yield Leg(
        "the lowest versions that pyproject.toml allows", oldest, lambda: ("-c", str(lowest_versions(oldest, folder)))
    )
    for airflow, day in AIRFLOW_RELEASES.items():
        version = max(pythons) if airflow == max(AIRFLOW_RELEASES) else min(pythons)
        own = constraints_of_a_release(airflow, version, folder) if _is_required() else None
        yield Leg(
            f"Airflow {airflow} and {'its own constraints' if own else 'what was new on the day of its release'}",
            pythons[version],
            partial(_of_a_release, airflow, own, day, pythons[version], folder),
            is_substitute=own is None,
        )


def _is_required() -> bool:
    return bool(os.environ.get("MATRIX_REQUIRED"))


def _of_a_release(airflow: str, own: Path | None, day: str, python: Path, folder: Path) -> tuple[str, ...]:
    constraints = own or versions_of_a_release(airflow, day, python, folder)
    return f"apache-airflow=={airflow}", "-c", str(constraints)


def attempt(leg: Leg, wheel: Path) -> str:
    """
    Install the wheel, check its requirements, and try it; return what was tried.

    :param leg: the environment.
    :param wheel: the wheel.
    :raises subprocess.CalledProcessError: if a step fails.
    """
    options = leg.options()
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        home = Path(folder)
        python = home / "venv/bin/python"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
        environment |= {"AIRFLOW_HOME": str(home / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}

        def run(*command: str | Path) -> str:
            # In a folder of its own, so that only the installed package can be imported.
            done = subprocess.run(
                [*map(str, command)], cwd=home, env=environment, check=True, capture_output=True, text=True
            )
            return done.stdout

        run(_UV, "venv", "--quiet", "--python", leg.python, home / "venv")
        wanted = f"airflow-provider-mapbox[emulator] @ {wheel.as_uri()}"
        run(_UV, "pip", "install", "--quiet", "--system-certs", "--python", python, wanted, *options)
        run(_UV, "pip", "check", "--quiet", "--python", python)
        smoke = shutil.copy(ROOT / "tools/smoke.py", home / "smoke.py")
        return run(python, smoke).splitlines()[-1]


def main(folder: Path) -> int:
    """
    Try the one wheel of a folder in each environment; return the exit status.

    With ``MATRIX_REQUIRED`` set, each supported Python must be on this machine, and Airflow's constraints be readable.
    """
    (wheel,) = folder.resolve().glob("*.whl")
    pythons = find_pythons()
    missing = sorted(set(PYTHONS) - set(pythons))
    for version in missing:
        print(f"Python {version}: NOT TRIED, it is not on this machine.", flush=True)
    if not pythons:
        sys.exit("No supported Python was found.")
    with tempfile.TemporaryDirectory(prefix="matrix-") as scratch:
        made = list(legs(pythons, Path(scratch)))
        tried = [passes(leg, wheel) for leg in made]
    print(f"{tried.count(True)} passed, {tried.count(False)} failed, {len(missing)} of {len(PYTHONS)} Pythons missing")
    is_partial = bool(missing) or any(leg.is_substitute for leg in made)
    return int(not all(tried) or (is_partial and _is_required()))


def passes(leg: Leg, wheel: Path) -> bool:
    """Try a wheel in an environment and print the outcome; return whether it works."""
    start = time.monotonic()
    try:
        print(f"{leg.name}: {attempt(leg, wheel)} ({time.monotonic() - start:.0f} s)", flush=True)
    except subprocess.CalledProcessError as error:
        output = (error.stdout or "") + (error.stderr or "")
        print(f"{leg.name}: FAILED: {' '.join(map(str, error.cmd))}\n{output}", flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
