"""Start and stop of the emulator: addresses, token, settings, command line and TLS."""

from __future__ import annotations

import json
import logging
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.__main__ import main
from airflow_mapbox.emulator.tokens import make_token
from tests.emulator.command import Command
from tests.emulator.conftest import TOWNS, Account


class TestHost:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.invalid", ""])
    def test_public_address_is_refused(self, tmp_path: Path, host: str) -> None:
        with pytest.raises(ValueError, match="--public"):
            Emulator(tmp_path, host=host)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
    def test_loopback_address_is_allowed(self, tmp_path: Path, host: str) -> None:
        Emulator(tmp_path, host=host)

    def test_public_address_can_be_allowed(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, host="0.0.0.0", settings=settings, allow_public=True) as emulator:
            port = emulator.url.rpartition(":")[2]
            assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 200

    def test_port_in_use_is_an_error_that_leaves_nothing_running(
        self, tmp_path: Path, emulator: Emulator, settings: EmulatorSettings
    ) -> None:
        port = int(emulator.url.rpartition(":")[2])

        with pytest.raises(OSError, match="in use"):
            Emulator(tmp_path / "second", port=port, settings=settings).start()
        with Emulator(tmp_path / "second", settings=settings):
            pass

    def test_stopped_emulator_accepts_no_connections(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            addresses = [emulator.url, emulator.s3_url]
        for address in addresses:
            host, port = address.removeprefix("http://").split(":")
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((host, int(port)), timeout=5)

    def test_emulator_can_be_stopped_twice_and_started_again(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        emulator = Emulator(tmp_path, settings=settings)
        for _ in range(2):
            emulator.start()
            assert Account(emulator).call("GET").status_code == 200
            emulator.stop()
            emulator.stop()


class TestToken:
    def test_token_is_created_once_and_only_its_owner_can_read_it(self, emulator: Emulator) -> None:
        file = emulator.token_file

        assert file is not None
        assert file.read_text().strip() == emulator.token
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE((emulator.folder / "emulator.sqlite3").stat().st_mode) == 0o600

    def test_token_from_the_settings_is_used_and_not_stored(self, tmp_path: Path) -> None:
        token = make_token("acme")
        with Emulator(tmp_path, settings=EmulatorSettings(account="acme", token=token, rate_limit=0)) as emulator:
            assert emulator.token == token
            assert emulator.token_file is None
            assert Account(emulator).call("GET").status_code == 200
        assert not (tmp_path / "token").exists()

    @pytest.mark.parametrize("token", ["nonsense", make_token("other")], ids=["malformed", "other account"])
    def test_malformed_token_and_token_of_another_account_are_refused(self, tmp_path: Path, token: str) -> None:
        emulator = Emulator(tmp_path, settings=EmulatorSettings(account="acme", token=token))
        with pytest.raises(ValueError, match="acme") as caught:
            emulator.start()
        assert token not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"account": "a/b"},
        {"account": ""},
        {"bucket": "../x"},
        {"rate_window": 0},
        {"workers": 0},
        {"processing_seconds": -1},
        {"processing_seconds": float("nan")},
        {"early_delete_status": 200},
        {"early_delete_status": None},
        {"active_delete_status": 204},
        {"update_refused_status": 500},
        {"tileset_delete_status": 202},
        {"tilesets_default_sort": "name"},
        {"missing_tileset_message": ""},
        {"cache_seconds": -1},
        {"tilesets_write_limit": float("nan")},
    ],
    ids=[
        "account with a slash",
        "empty account",
        "bucket with a path",
        "rate_window 0",
        "workers 0",
        "negative processing_seconds",
        "processing_seconds NaN",
        "early_delete_status 200",
        "early_delete_status None",
        "active_delete_status 204",
        "update_refused_status 500",
        "tileset_delete_status 202",
        "tilesets_default_sort name",
        "missing_tileset_message empty",
        "negative cache_seconds",
        "tilesets_write_limit NaN",
    ],
)
def test_invalid_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        EmulatorSettings(**options)


class TestCommandLine:
    @pytest.fixture
    def running(self, tmp_path: Path) -> Iterator[Command]:
        command = Command(tmp_path, "--processing-seconds", "600", "--rate-limit", "7", "--rate-window", "5")
        yield command
        if command.process.poll() is None:
            command.process.kill()
            command.process.communicate()

    @pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
    def test_command_prints_its_addresses_and_ends_on_a_signal(self, running: Command, name: signal.Signals) -> None:
        token = Path(running.ready["token_file"]).read_text().strip()
        response = requests.get(f"{running.ready['url']}/uploads/v1/acme", params={"access_token": token}, timeout=10)

        assert response.status_code == 200
        assert response.headers["X-Rate-Limit-Limit"] == "7"
        assert response.headers["X-Rate-Limit-Interval"] == "5"
        assert running.ready["pid"] == running.process.pid
        output = running.end(name)
        assert running.process.returncode == 0
        assert token not in output
        assert running.ready["url"] in output
        assert running.ready["s3_url"] in output
        assert "AIRFLOW_CONN_MAPBOX_DEFAULT" in output

    def test_printed_connection_is_valid(self, running: Command, tmp_path: Path) -> None:
        output = running.end()
        [line] = [line for line in output.splitlines() if "AIRFLOW_CONN" in line]

        printed = subprocess.run(
            ["sh", "-c", f'{line.strip()}; printf %s "$AIRFLOW_CONN_MAPBOX_DEFAULT"'],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

        assert json.loads(printed) == {
            "conn_type": "mapbox",
            "login": "acme",
            "password": (tmp_path / "folder" / "token").read_text().strip(),
            "host": running.ready["url"],
            "port": 0,
            "extra": {"s3_endpoint_url": running.ready["s3_url"]},
        }

    def test_kill_during_processing_loses_nothing(self, running: Command, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        acme, token = Account(running.remote), running.remote.token
        upload = acme.create(acme.stage(TOWNS)["url"]).json()["id"]
        waiting = acme.stage(TOWNS)
        running.process.kill()
        running.process.communicate()

        settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0)
        with Emulator(folder, settings=settings) as emulator:
            acme = Account(emulator)
            assert emulator.token == token
            assert acme.wait(upload)["complete"]
            assert acme.create(waiting["url"], "other").status_code == 201

    @pytest.mark.slow
    def test_cache_can_be_turned_off(self, tmp_path: Path) -> None:
        command = Command(tmp_path, "--cache-seconds", "0")
        try:
            url = command.ready["url"]
            assert requests.post(f"{url}/_emulator/tilesets", json={"id": "acme.x"}, timeout=10).status_code == 204
            response = requests.get(f"{url}/v4/acme.x.json", params={"access_token": command.remote.token}, timeout=10)
            assert response.headers["Cache-Control"] == "no-cache"
        finally:
            command.end()

    def test_token_from_the_environment_is_used(self, tmp_path: Path) -> None:
        token = make_token("acme")
        command = Command(tmp_path, token=token)
        try:
            response = requests.get(
                f"{command.ready['url']}/uploads/v1/acme", params={"access_token": token}, timeout=10
            )
            assert response.status_code == 200
            assert command.ready["token_file"] is None
        finally:
            assert token not in command.end()

    def test_failed_start_prints_the_reason(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for options in (["--host", "0.0.0.0"], ["--account", "a/b"]):
            assert main(["--folder", str(tmp_path), *options]) == 2
            assert "mapbox-emulator: " in capsys.readouterr().err


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0)
    with Emulator(tmp_path_factory.mktemp("secure"), settings=settings, tls=True) as emulator:
        account = Account(emulator)
        account.session.verify = str(emulator.ca_file)
        # Otherwise a CA bundle in the environment would take precedence.
        account.session.trust_env = False
        yield account


class TestTls:
    def test_both_servers_use_https_with_a_trusted_ca(self, secure: Account) -> None:
        assert secure.emulator.url.startswith("https://127.0.0.1:")
        assert secure.emulator.s3_url.startswith("https://127.0.0.1:")
        credentials = secure.credentials()
        s3 = secure.s3(credentials, verify=str(secure.emulator.ca_file))

        s3.put_object(Bucket=credentials["bucket"], Key=credentials["key"], Body=json.dumps(TOWNS).encode())

        upload = secure.create(credentials["url"]).json()["id"]
        assert secure.wait(upload)["complete"]
        assert secure.tileset().json()["tiles"][0].startswith(secure.emulator.url)

    def test_clients_without_the_ca_refuse_the_certificate(self, secure: Account) -> None:
        for url in (secure.emulator.url, secure.emulator.s3_url):
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(url, timeout=10)

    def test_certificate_is_valid_for_localhost(self, secure: Account) -> None:
        port = secure.emulator.url.rpartition(":")[2]
        response = requests.get(f"https://localhost:{port}/", verify=str(secure.emulator.ca_file), timeout=10)
        assert response.status_code == 200

    def test_certificate_is_valid_for_ipv6(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, host="::1", settings=settings, tls=True) as emulator:
            assert requests.get(f"{emulator.url}/", verify=str(emulator.ca_file), timeout=10).status_code == 200

    def test_only_the_owner_can_read_the_key_and_the_ca_key_is_not_stored(self, secure: Account) -> None:
        folder = secure.emulator.folder / "tls"

        assert sorted(file.name for file in folder.iterdir()) == ["ca.pem", "server-key.pem", "server.pem"]
        assert stat.S_IMODE((folder / "server-key.pem").stat().st_mode) == 0o600
        assert [file.name for file in folder.iterdir() if b"PRIVATE KEY" in file.read_bytes()] == ["server-key.pem"]

    def test_restart_keeps_the_certificate_and_replaces_a_broken_one(
        self, tmp_path: Path, settings: EmulatorSettings
    ) -> None:
        certificates = []
        for is_broken in (False, False, True):
            if is_broken:
                (tmp_path / "tls" / "server.pem").write_text("nonsense")
            with Emulator(tmp_path, settings=settings, tls=True) as emulator:
                assert emulator.ca_file is not None
                certificates.append(emulator.ca_file.read_bytes())
                assert requests.get(emulator.url, verify=str(emulator.ca_file), timeout=10).status_code == 200
        assert certificates[0] == certificates[1] != certificates[2]

    def test_silent_client_blocks_neither_other_clients_nor_stop(
        self, tmp_path: Path, settings: EmulatorSettings
    ) -> None:
        emulator = Emulator(tmp_path, settings=settings, tls=True).start()
        connections = []
        for url in (emulator.url, emulator.s3_url):
            host, port = url.removeprefix("https://").split(":")
            connections.append(socket.create_connection((host, int(port)), timeout=5))
        for url in (emulator.url, emulator.s3_url):
            assert requests.get(url, verify=str(emulator.ca_file), timeout=5).status_code in (200, 403)
        emulator.stop()  # a wait for the clients' handshakes would exceed pytest's timeout
        for connection in connections:
            connection.close()

    @pytest.mark.parametrize("where", ["api", "s3"])
    def test_connection_can_be_cut_under_tls(self, secure: Account, where: str) -> None:
        secure.emulator.faults.add("drop_before", where=where)
        url = f"{secure.emulator.url}/uploads/v1/acme" if where == "api" else secure.emulator.s3_url
        with pytest.raises(requests.ConnectionError):
            requests.get(url, verify=str(secure.emulator.ca_file), timeout=10)

    @pytest.mark.slow
    def test_command_prints_the_path_of_the_ca(self, tmp_path: Path) -> None:
        command = Command(tmp_path, "--tls")
        try:
            ca = command.ready["ca_file"]
            assert requests.get(command.ready["url"], verify=ca, timeout=10).status_code == 200
        finally:
            output = command.end()
        assert f"CA     {ca}" in output

    def test_emulator_without_tls_has_no_ca(self, emulator: Emulator) -> None:
        assert emulator.ca_file is None


def test_token_is_not_logged_even_if_the_program_enables_access_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = logging.getLogger("uvicorn.access")
    with Emulator(tmp_path, settings=EmulatorSettings(processing_seconds=0)) as emulator:
        # Airflow's logging configuration does this after the emulator's start.
        monkeypatch.setattr(access, "propagate", True)
        monkeypatch.setattr(access, "disabled", False)
        caplog.set_level(logging.DEBUG)
        caplog.set_level(logging.DEBUG, "uvicorn.access")

        Account(emulator).call("GET")

    assert emulator.requests
    lines = [record.getMessage() for record in caplog.records if record.name.startswith(("uvicorn", "airflow_mapbox"))]
    assert [line for line in lines if "access_token" in line] == []
