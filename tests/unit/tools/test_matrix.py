"""Which environments the matrix tries, and with which versions."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools import matrix

PYTHONS = {"3.11": Path("/python3.11"), "3.13": Path("/python3.13")}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server in the place of Airflow's, with the constraints of one release."""
    folder = tmp_path / "constraints-3.3.1"
    folder.mkdir()
    (folder / "constraints-3.11.txt").write_text("pandas==3.0.5\n")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/constraints-{{airflow}}/constraints-{{python}}.txt"
        running.shutdown()


def test_airflows_own_constraints_are_used_where_they_can_be_read(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(matrix, "CONSTRAINTS", server)
    monkeypatch.setenv("MATRIX_REQUIRED", "1")

    made = {leg.name: leg for leg in matrix.legs(PYTHONS, tmp_path)}

    own = made["Airflow 3.3.1 and its own constraints"]
    airflow, _, constraints = own.options()
    assert airflow == "apache-airflow==3.3.1"
    assert Path(constraints).read_text() == "pandas==3.0.5\n"
    assert not own.is_substitute
    assert made["Airflow 3.3.2 and what was new on the day of its release"].is_substitute
    assert "/constraints-3.3.2/constraints-3.13.txt cannot be read (HTTPError)." in capsys.readouterr().out


@pytest.mark.parametrize(("required", "status"), [("", 0), ("1", 1)])
def test_a_missing_python_fails_where_all_are_required(
    required: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a-1.0-py3-none-any.whl").touch()
    monkeypatch.setenv("MATRIX_REQUIRED", required)
    monkeypatch.setattr(matrix, "find_pythons", lambda: {"3.11": Path(sys.executable)})
    monkeypatch.setattr(matrix, "legs", lambda pythons, folder: iter([matrix.Leg("one", pythons["3.11"], tuple)]))
    monkeypatch.setattr(matrix, "attempt", lambda leg, wheel: "tried")

    assert matrix.main(tmp_path) == status
    assert "Python 3.12: NOT TRIED" in capsys.readouterr().out


def test_airflows_server_is_not_asked_unless_all_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MATRIX_REQUIRED", raising=False)
    monkeypatch.setattr(matrix, "CONSTRAINTS", "not asked")

    substitutes = [leg.name for leg in matrix.legs(PYTHONS, tmp_path) if leg.is_substitute]

    assert len(substitutes) == len(matrix.AIRFLOW_RELEASES)


def test_an_environment_that_cannot_be_resolved_does_not_end_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> tuple[str, ...]:
        raise matrix.subprocess.CalledProcessError(1, ["uv"], None, None)

    assert not matrix.passes(matrix.Leg("one", Path(sys.executable), fail), tmp_path / "a.whl")
    assert "one: FAILED: uv" in capsys.readouterr().out
