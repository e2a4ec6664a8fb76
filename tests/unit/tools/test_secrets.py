"""The scan for secrets finds what it must, in a repository of its own."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Put together here, so that the scan of this repository does not find them.
USER = base64.urlsafe_b64encode(json.dumps({"u": "demo", "a": "c0ffee"}).encode()).decode().rstrip("=")
MAPBOX_TOKEN = f"sk.{USER}.{'aB3' * 8}"
AWS_KEY = "AKIA" + "Q3EXHM7ZPLDW5TVK"


def scan(folder: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/secrets", folder / ".ci")
    for name, text in ({"README.md": "Nothing.\n", "tests/test_a.py": "# Nothing.\n"} | files).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    command = [folder / ".ci/secrets", Path(sys.executable).parent / "detect-secrets-hook"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["a.py", "tests/test_b.py"])
@pytest.mark.parametrize("secret", [MAPBOX_TOKEN, AWS_KEY], ids=["a token of Mapbox", "a key of AWS"])
def test_a_secret_is_found_in_any_file(name: str, secret: str, tmp_path: Path) -> None:
    done = scan(tmp_path, {name: f"value = '{secret}'\n"})

    assert done.returncode != 0
    assert name in done.stdout


def test_a_password_is_found_in_the_package_and_allowed_in_a_test(tmp_path: Path) -> None:
    line = "password = 'correct-horse-battery'\n"
    (tmp_path / "package").mkdir()
    (tmp_path / "test").mkdir()

    assert scan(tmp_path / "package", {"a.py": line}).returncode != 0
    assert scan(tmp_path / "test", {"tests/test_b.py": line}).returncode == 0


def test_a_marked_line_and_an_ellipsis_are_allowed(tmp_path: Path) -> None:
    marked = f"key = '{AWS_KEY}'  # pragma: allowlist secret\npassword = 'sk.…'\n"

    assert scan(tmp_path, {"a.py": marked}).returncode == 0
