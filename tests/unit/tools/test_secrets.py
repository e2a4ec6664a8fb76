"""The scan for secrets finds what it must, in a repository of its own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Put together here, so that the scan of this repository does not find them.
USER = base64.urlsafe_b64encode(json.dumps({"u": "demo", "a": "c0ffee"}).encode()).decode().rstrip("=")
MAPBOX_TOKEN = f"sk.{USER}.{'aB3' * 8}"
AWS_KEY = "AKIA" + "Q3EXHM7ZPLDW5TVK"
# The scanner can ask this service whether the key works.
STRIPE_KEY = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"


def scan(folder: Path, files: dict[str, str], **changed: str) -> subprocess.CompletedProcess[str]:
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/secrets", folder / ".ci")
    for name, text in ({"README.md": "Nothing.\n", "tests/test_a.py": "# Nothing.\n"} | files).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    command = [folder / ".ci/secrets", Path(sys.executable).parent / "detect-secrets-hook"]
    return subprocess.run(command, cwd=folder, env=os.environ | changed, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["a.py", "tests/test_b.py"])
@pytest.mark.parametrize("secret", [MAPBOX_TOKEN, AWS_KEY], ids=["a token of Mapbox", "a key of AWS"])
def test_a_secret_is_found_in_any_file(name: str, secret: str, tmp_path: Path) -> None:
    done = scan(tmp_path, {name: f"value = '{secret}'\n"})

    assert done.returncode != 0
    assert name in done.stdout


def test_a_secret_is_found_without_asking_its_service(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        done = scan(
            tmp_path, {"a.py": f"value = '{STRIPE_KEY}'\n"}, HTTPS_PROXY=f"http://127.0.0.1:{proxy.getsockname()[1]}"
        )
        with pytest.raises(BlockingIOError):
            proxy.accept()

    assert done.returncode != 0
    assert "a.py" in done.stdout


def test_a_password_is_found_in_the_package_and_allowed_in_a_test(tmp_path: Path) -> None:
    line = "password = 'correct-horse-battery'\n"
    (tmp_path / "package").mkdir()
    (tmp_path / "test").mkdir()

    assert scan(tmp_path / "package", {"a.py": line}).returncode != 0
    assert scan(tmp_path / "test", {"tests/test_b.py": line}).returncode == 0


def test_a_marked_line_and_an_ellipsis_are_allowed(tmp_path: Path) -> None:
    marked = f"key = '{AWS_KEY}'  # pragma: allowlist secret\npassword = 'sk.…'\n"

    assert scan(tmp_path, {"a.py": marked}).returncode == 0
