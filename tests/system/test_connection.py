"""Airflow's connection test, asked of a running API server as the UI asks it, and on the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.stack import Stack
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), scheduler=False) as up:
        yield up


def airflow_shell(stack: Stack, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a documented shell command, with `airflow` being this environment's."""
    environment = stack.environment() | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"} | more
    return subprocess.run(
        ["bash", "-c", command], env=environment, cwd=stack.folder, capture_output=True, text=True, timeout=120
    )


def ui_test(stack: Stack, connection_id: str) -> dict[str, Any]:
    """
    Test a stored connection as the icon in the UI's list does.

    The page takes the connection as the API shows it (the password as `***`), and sends what is empty as "" and 0.
    """
    shown = stack.api("GET", f"connections/{connection_id}")
    sent = {
        "conn_type": shown["conn_type"],
        "connection_id": connection_id,
        "description": shown["description"] or "",
        "extra": shown["extra"] or "{}",
        "host": shown["host"] or "",
        "login": shown["login"] or "",
        "password": shown["password"] or "",
        "port": shown["port"] or 0,
        "schema": shown["schema"] or "",
    }
    assert sent["password"] == "***"
    return dict(stack.api("POST", "connections/test", json=sent))


def documented_commands() -> list[str]:
    """Return the commands in the documentation that add a connection of type mapbox."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.M | re.S)]
    return [block for block in blocks if block.startswith("airflow connections add") and "--conn-type mapbox" in block]


def on_emulator(stack: Stack, command: str, connection_id: str) -> str:
    """Return a documented command with this emulator's addresses and another connection id."""
    for documented, real in [
        ("mapbox_default", connection_id),
        ("http://127.0.0.1:8787", stack.emulator.url),
        ("http://127.0.0.1:8788", stack.emulator.s3_url),
    ]:
        command = command.replace(documented, real)
    return command


def test_the_demos_connection_passes_the_test(stack: Stack) -> None:
    answer = ui_test(stack, "mapbox_default")

    assert answer["status"] is True, answer
    assert "uploads:write works" in answer["message"]


def test_the_commands_of_the_documentation_add_connections_that_can_be_tested(stack: Stack) -> None:
    (stack.folder / "mapbox").mkdir(exist_ok=True)
    (stack.folder / "mapbox" / "token").write_text(stack.emulator.token)
    commands = documented_commands()
    assert commands
    for number, command in enumerate(commands):
        connection_id = f"documented_{number}"
        done = airflow_shell(stack, on_emulator(stack, command, connection_id), MAPBOX_TOKEN=stack.emulator.token)
        assert done.returncode == 0, done.stdout + done.stderr
        if "--conn-host" not in command:
            # It leads to Mapbox itself: what remains is to give it the emulator's addresses, as the form does.
            extra = json.dumps({"s3_endpoint_url": stack.emulator.s3_url})
            stack.api("PATCH", f"connections/{connection_id}", params={"update_mask": ["host", "extra"]},
                      json={"connection_id": connection_id, "conn_type": "mapbox", "host": stack.emulator.url,
                            "extra": extra})  # fmt: skip

        answer = ui_test(stack, connection_id)

        assert answer["status"] is True, answer


def test_a_wrong_token_fails_the_test_and_the_message_says_what_to_do(stack: Stack) -> None:
    fields = stack.connection() | {"connection_id": "mapbox_wrong", "password": "sk.eyJ1IjoiZGVtbyJ9.wrong"}
    stack.api("POST", "connections", json=fields)

    answer = ui_test(stack, "mapbox_wrong")

    assert answer["status"] is False
    assert "put a valid secret token into the password" in answer["message"]


def test_a_connection_without_a_port_is_mended_as_the_documentation_says(stack: Stack) -> None:
    fields = stack.connection() | {"connection_id": "mapbox_without_port", "port": None}
    stack.api("POST", "connections", json=fields)

    stack.api(
        "PATCH",
        "connections/mapbox_without_port",
        params={"update_mask": ["port"]},
        json={"connection_id": "mapbox_without_port", "conn_type": "mapbox", "port": 0},
    )

    assert ui_test(stack, "mapbox_without_port")["status"] is True


@pytest.mark.parametrize("where", ["the database", "the environment"])
def test_airflows_command_tests_a_connection(stack: Stack, where: str) -> None:
    described = {"AIRFLOW_CONN_FROM_ENVIRONMENT": json.dumps(stack.connection())} if "env" in where else {}
    connection_id = "from_environment" if described else "mapbox_default"
    page = (ROOT / "docs/how-to/connect.md").read_text()
    (command,) = re.findall(r"^AIRFLOW__CORE__TEST_CONNECTION=Enabled airflow connections test .*$", page, re.M)

    done = airflow_shell(stack, command.replace("mapbox_default", connection_id), **described)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Connection success!" in done.stdout


def test_airflows_command_says_why_a_wrong_token_fails(stack: Stack) -> None:
    described = json.dumps(stack.connection() | {"password": "sk.eyJ1IjoiZGVtbyJ9.wrong"})
    command = "AIRFLOW__CORE__TEST_CONNECTION=Enabled airflow connections test wrong_token"

    done = airflow_shell(stack, command, AIRFLOW_CONN_WRONG_TOKEN=described)

    assert "put a valid secret token into the password" in " ".join((done.stdout + done.stderr).split())


def test_the_emulator_prints_a_connection_that_can_be_tested(stack: Stack) -> None:
    log = (stack.logs / "emulator.log").read_text()
    (line,) = [line for line in log.splitlines() if "AIRFLOW_CONN_MAPBOX_DEFAULT" in line]

    printed = airflow_shell(stack, f'{line.strip()}; printf %s "$AIRFLOW_CONN_MAPBOX_DEFAULT"').stdout

    described = json.loads(printed)
    stack.api("POST", "connections", json={
        "connection_id": "printed", **described, "extra": json.dumps(described["extra"])
    })  # fmt: skip
    assert ui_test(stack, "printed")["status"] is True
