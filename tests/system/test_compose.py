"""The compose file, read by docker compose itself; there is no engine here to start it with."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from demo.stack import Stack
from tests.conftest import ROOT
from tests.system.test_connection import airflow_shell, ui_test

COMPOSE = ROOT / "docker" / "docker-compose.yaml"


@functools.cache
def compose_command() -> list[str]:
    """Give a Compose 2 or newer; the first does not know the specification that the file is written in."""
    for command in (shlex.split(os.environ.get("COMPOSE", "")), ["docker", "compose"], ["docker-compose"]):
        if command and shutil.which(command[0]):
            version = subprocess.run([*command, "version", "--short"], capture_output=True, text=True).stdout
            if version.strip().lstrip("v").startswith(("2.", "3.", "4.", "5.")):
                return command
    pytest.fail("there is no Docker Compose 2 or newer here: .ci/compose gets one, and COMPOSE=PATH names it")


def config(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MAPBOX"))}
    command = [*compose_command(), "--env-file", os.devnull, "--file", str(COMPOSE), "config", "--format", "json"]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    names = ("AIRFLOW_FERNET_KEY", "AIRFLOW_JWT_SECRET", "POSTGRES_PASSWORD", "MAPBOX_EMULATOR_TOKEN")
    done = config(**{name: f"value-of-{name}" for name in names})
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["services"])


def test_every_part_of_a_celery_deployment_is_there(services: dict[str, Any]) -> None:
    assert set(services) == {
        "postgres", "redis", "emulator", "init", "api-server", "scheduler", "dag-processor", "triggerer",
        "worker-1", "worker-2",
    }  # fmt: skip


def test_every_service_that_stays_up_says_whether_it_is_healthy(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "healthcheck" not in service] == ["init"]


def test_nothing_is_published_beyond_this_machine(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


def test_no_secret_is_in_the_file_and_a_missing_one_is_named() -> None:
    done = config()
    assert done.returncode != 0
    assert "make -C docker .env" in done.stderr


def test_what_talks_to_the_emulator_does_so_over_the_loopback(services: dict[str, Any]) -> None:
    # Plain http is refused for any other host, so they share the emulator's network.
    for name in ("worker-1", "worker-2", "triggerer", "api-server"):
        assert services[name]["network_mode"] == "service:emulator"
    assert "--conn-host http://127.0.0.1:8787 " in services["init"]["command"][0]


def test_two_workers_in_one_network_have_names_of_their_own_and_one_log_server(services: dict[str, Any]) -> None:
    """Celery confuses workers of one name, and two log servers cannot listen on one port."""
    workers = {name: service for name, service in services.items() if name.startswith("worker-")}
    names = {name: re.findall(r"--celery-hostname (\S+)@%h", " ".join(at["command"])) for name, at in workers.items()}
    assert names == {"worker-1": ["worker-1"], "worker-2": ["worker-2"]}
    for name, service in workers.items():
        assert f'-d "{name}@$$(hostname)"' in service["healthcheck"]["test"][1]
        assert {volume["source"] for volume in service["volumes"]} == {"logs", "exports"}
    assert [name for name, service in workers.items() if "--skip-serve-logs" not in service["command"]] == ["worker-1"]


def test_the_api_server_is_found_by_its_name_in_the_emulators_network(services: dict[str, Any]) -> None:
    address = services["scheduler"]["environment"]["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    assert address == "http://api-server:8080/execution/"
    assert services["emulator"]["networks"]["default"]["aliases"] == ["api-server"]
    assert {port["published"] for port in services["emulator"]["ports"]} == {"8080", "8787"}


def test_the_connection_can_be_tested_in_the_ui(services: dict[str, Any], tmp_path: Path) -> None:
    """The command of the service `init` stores it; a running API server is asked what the UI sends."""
    assert services["api-server"]["environment"]["AIRFLOW__CORE__TEST_CONNECTION"] == "Enabled"
    (script,) = services["init"]["command"]
    script = re.sub(r"^chown .*$", "", script.replace("$$", "$").replace("/entrypoint ", ""), flags=re.MULTILINE)
    with Stack(tmp_path / "stack", scheduler=False) as stack:
        stack.api("DELETE", "connections/mapbox_default")
        script = script.replace("http://127.0.0.1:8787", stack.emulator.url)
        script = script.replace("http://127.0.0.1:8788", stack.emulator.s3_url)
        for _start in ("first", "second"):
            done = airflow_shell(stack, script, MAPBOX_EMULATOR_TOKEN=stack.emulator.token)
            assert done.returncode == 0, done.stdout + done.stderr

            assert ui_test(stack, "mapbox_default")["status"] is True
