"""Starting and stopping: what is listened on, what the command line says, how it ends."""

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


class TestWhatIsListenedOn:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.invalid", ""])
    def test_an_address_others_can_reach_is_refused(self, tmp_path: Path, host: str) -> None:
        with pytest.raises(ValueError, match="--public"):
            Emulator(tmp_path, host=host)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
    def test_the_loopback_is_not(self, tmp_path: Path, host: str) -> None:
        Emulator(tmp_path, host=host)

    def test_a_public_address_is_allowed_on_request(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, host="0.0.0.0", settings=settings, allow_public=True) as emulator:
            port = emulator.url.rpartition(":")[2]
            assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 200

    def test_a_port_in_use_is_an_error_that_leaves_nothing_running(
        self, tmp_path: Path, emulator: Emulator, settings: EmulatorSettings
    ) -> None:
        port = int(emulator.url.rpartition(":")[2])

        with pytest.raises(OSError, match="in use"):
            Emulator(tmp_path / "second", port=port, settings=settings).start()
        with Emulator(tmp_path / "second", settings=settings):
            pass

    def test_after_stop_nothing_answers(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, settings=settings) as emulator:
            addresses = [emulator.url, emulator.s3_url]
        for address in addresses:
            host, port = address.removeprefix("http://").split(":")
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((host, int(port)), timeout=5)

    def test_stop_twice_and_start_again(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        emulator = Emulator(tmp_path, settings=settings)
        for _ in range(2):
            emulator.start()
            assert Account(emulator).call("GET").status_code == 200
            emulator.stop()
            emulator.stop()


class TestTheToken:
    def test_the_token_is_made_once_and_kept_for_the_owner_only(self, emulator: Emulator) -> None:
        file = emulator.token_file

        assert file is not None
        assert file.read_text().strip() == emulator.token
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE((emulator.folder / "emulator.sqlite3").stat().st_mode) == 0o600

    def test_the_token_can_be_given_and_is_then_not_written(self, tmp_path: Path) -> None:
        token = make_token("acme")
        with Emulator(tmp_path, settings=EmulatorSettings(account="acme", token=token, rate_limit=0)) as emulator:
            assert emulator.token == token
            assert emulator.token_file is None
            assert Account(emulator).call("GET").status_code == 200
        assert not (tmp_path / "token").exists()

    @pytest.mark.parametrize("token", ["nonsense", make_token("other")], ids=["nonsense", "another account's"])
    def test_a_token_of_another_account_is_refused(self, tmp_path: Path, token: str) -> None:
        emulator = Emulator(tmp_path, settings=EmulatorSettings(account="acme", token=token))
        with pytest.raises(ValueError, match="acme") as caught:
            emulator.start()
        assert token not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"account": "a/b"},
        {"account": ""},
        {"bucket": "../x"},
        {"rate_window": 0},
        {"workers": 0},
        {"processing_seconds": -1},
        {"processing_seconds": float("nan")},
        {"early_delete_status": 200},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EmulatorSettings(**wrong)


class TestCommandLine:
    @pytest.fixture
    def running(self, tmp_path: Path) -> Iterator[Command]:
        command = Command(tmp_path, "--processing-seconds", "600", "--rate-limit", "7", "--rate-window", "5")
        yield command
        if command.process.poll() is None:
            command.process.kill()
            command.process.communicate()

    @pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
    def test_the_command_prints_its_address_and_ends_on_a_signal(self, running: Command, name: signal.Signals) -> None:
        token = Path(running.ready["token_file"]).read_text().strip()
        answer = requests.get(f"{running.ready['url']}/uploads/v1/acme", params={"access_token": token}, timeout=10)

        assert answer.status_code == 200
        assert answer.headers["X-Rate-Limit-Limit"] == "7"
        assert answer.headers["X-Rate-Limit-Interval"] == "5"
        assert running.ready["pid"] == running.process.pid
        output = running.end(name)
        assert running.process.returncode == 0
        assert token not in output
        assert running.ready["url"] in output
        assert running.ready["s3_url"] in output
        assert "AIRFLOW_CONN_MAPBOX_DEFAULT" in output

    def test_the_printed_connection_works(self, running: Command, tmp_path: Path) -> None:
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

    def test_a_kill_in_the_middle_of_processing_loses_nothing(self, running: Command, tmp_path: Path) -> None:
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

    def test_a_token_from_the_environment_is_used(self, tmp_path: Path) -> None:
        token = make_token("acme")
        command = Command(tmp_path, token=token)
        try:
            answer = requests.get(f"{command.ready['url']}/uploads/v1/acme", params={"access_token": token}, timeout=10)
            assert answer.status_code == 200
            assert command.ready["token_file"] is None
        finally:
            assert token not in command.end()

    def test_a_failed_start_says_why(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for wrong in (["--host", "0.0.0.0"], ["--account", "a/b"]):
            assert main(["--folder", str(tmp_path), *wrong]) == 2
            assert "mapbox-emulator: " in capsys.readouterr().err


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    settings = EmulatorSettings(account="acme", processing_seconds=0, rate_limit=0)
    with Emulator(tmp_path_factory.mktemp("secure"), settings=settings, tls=True) as emulator:
        account = Account(emulator)
        account.session.verify = str(emulator.ca_file)
        # A CA bundle in the environment would go before it.
        account.session.trust_env = False
        yield account


class TestTls:
    def test_both_servers_speak_https_to_clients_that_trust_the_ca(self, secure: Account) -> None:
        assert secure.emulator.url.startswith("https://127.0.0.1:")
        assert secure.emulator.s3_url.startswith("https://127.0.0.1:")
        issued = secure.credentials()
        s3 = secure.s3(issued, verify=str(secure.emulator.ca_file))

        s3.put_object(Bucket=issued["bucket"], Key=issued["key"], Body=json.dumps(TOWNS).encode())

        upload = secure.create(issued["url"]).json()["id"]
        assert secure.wait(upload)["complete"]
        assert secure.tileset().json()["tiles"][0].startswith(secure.emulator.url)

    def test_other_clients_do_not_trust_the_certificate(self, secure: Account) -> None:
        for url in (secure.emulator.url, secure.emulator.s3_url):
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(url, timeout=10)

    def test_the_certificate_covers_every_name_of_the_loopback(self, secure: Account) -> None:
        port = secure.emulator.url.rpartition(":")[2]
        answer = requests.get(f"https://localhost:{port}/", verify=str(secure.emulator.ca_file), timeout=10)
        assert answer.status_code == 200

    def test_tls_works_over_ipv6_too(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        with Emulator(tmp_path, host="::1", settings=settings, tls=True) as emulator:
            assert requests.get(f"{emulator.url}/", verify=str(emulator.ca_file), timeout=10).status_code == 200

    def test_keys_are_the_owners_and_the_authority_can_sign_nothing_more(self, secure: Account) -> None:
        folder = secure.emulator.folder / "tls"

        assert sorted(file.name for file in folder.iterdir()) == ["ca.pem", "server-key.pem", "server.pem"]
        assert stat.S_IMODE((folder / "server-key.pem").stat().st_mode) == 0o600
        assert [file.name for file in folder.iterdir() if b"PRIVATE KEY" in file.read_bytes()] == ["server-key.pem"]

    def test_a_restart_keeps_the_certificate_and_a_broken_one_is_made_anew(
        self, tmp_path: Path, settings: EmulatorSettings
    ) -> None:
        seen = []
        for spoil in (False, False, True):
            if spoil:
                (tmp_path / "tls" / "server.pem").write_text("nonsense")
            with Emulator(tmp_path, settings=settings, tls=True) as emulator:
                assert emulator.ca_file is not None
                seen.append(emulator.ca_file.read_bytes())
                assert requests.get(emulator.url, verify=str(emulator.ca_file), timeout=10).status_code == 200
        assert seen[0] == seen[1] != seen[2]

    def test_a_silent_client_stops_no_other_and_not_the_end(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        emulator = Emulator(tmp_path, settings=settings, tls=True).start()
        silent = []
        for url in (emulator.url, emulator.s3_url):
            host, port = url.removeprefix("https://").split(":")
            silent.append(socket.create_connection((host, int(port)), timeout=5))
        for url in (emulator.url, emulator.s3_url):
            assert requests.get(url, verify=str(emulator.ca_file), timeout=5).status_code in (200, 403)
        emulator.stop()  # a wait for the clients' handshakes would outlast pytest's timeout
        for connection in silent:
            connection.close()

    @pytest.mark.parametrize("where", ["api", "s3"])
    def test_a_connection_is_cut_under_tls_too(self, secure: Account, where: str) -> None:
        secure.emulator.faults.add("drop_before", where=where)
        url = f"{secure.emulator.url}/uploads/v1/acme" if where == "api" else secure.emulator.s3_url
        with pytest.raises(requests.ConnectionError):
            requests.get(url, verify=str(secure.emulator.ca_file), timeout=10)

    def test_the_command_line_says_where_the_ca_is(self, tmp_path: Path) -> None:
        command = Command(tmp_path, "--tls")
        try:
            ca = command.ready["ca_file"]
            assert requests.get(command.ready["url"], verify=ca, timeout=10).status_code == 200
        finally:
            output = command.end()
        assert f"CA     {ca}" in output

    def test_an_emulator_without_tls_has_no_certificate(self, emulator: Emulator) -> None:
        assert emulator.ca_file is None


def test_no_request_line_with_the_token_is_logged_even_if_the_program_logs_requests(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = logging.getLogger("uvicorn.access")
    with Emulator(tmp_path, settings=EmulatorSettings(processing_seconds=0)) as emulator:
        # As Airflow's logging configuration does after the emulator's own.
        monkeypatch.setattr(access, "propagate", True)
        monkeypatch.setattr(access, "disabled", False)
        caplog.set_level(logging.DEBUG)
        caplog.set_level(logging.DEBUG, "uvicorn.access")

        Account(emulator).call("GET")

    assert emulator.requests
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("uvicorn", "airflow_mapbox"))]
    assert [line for line in ours if "access_token" in line] == []
