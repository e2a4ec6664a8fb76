"""Who gets in: the tokens endpoint, and what a bad token is told elsewhere."""

from __future__ import annotations

import base64
import json

import pytest
import requests

from airflow_mapbox.emulator import Emulator
from tests.emulator.conftest import Account

ENDPOINTS = [
    ("POST", "/credentials", "uploads:write"),
    ("POST", "", "uploads:write"),
    ("GET", "", "uploads:list"),
    ("GET", "/cabc", "uploads:read"),
    ("DELETE", "/cabc", "uploads:write"),
]


def check(emulator: Emulator, token: str | None) -> requests.Response:
    params = {} if token is None else {"access_token": token}
    return requests.get(f"{emulator.url}/tokens/v2", params=params, timeout=10)


def test_a_valid_token_is_described(emulator: Emulator) -> None:
    answer = check(emulator, emulator.token)

    assert answer.status_code == 200
    body = answer.json()
    assert body["code"] == "TokenValid"
    assert body["token"]["usage"] == "sk"
    assert body["token"]["user"] == "acme"
    assert body["token"]["authorization"]


def test_a_token_carries_its_account_as_mapbox_tokens_do(emulator: Emulator) -> None:
    prefix, payload, signature = emulator.token.split(".")

    assert prefix == "sk"
    assert signature
    assert "=" not in payload
    assert json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["u"] == "acme"


@pytest.mark.parametrize("state", ["TokenExpired", "TokenRevoked", "TokenInvalid"])
def test_a_token_in_another_state_answers_200_with_its_code(emulator: Emulator, state: str) -> None:
    answer = check(emulator, emulator.create_token(state=state))

    assert (answer.status_code, answer.json()) == (200, {"code": state})


def test_a_forged_signature_is_invalid_and_nonsense_is_malformed(emulator: Emulator) -> None:
    assert check(emulator, emulator.token + "x").json() == {"code": "TokenInvalid"}
    assert check(emulator, "nonsense").json() == {"code": "TokenMalformed"}
    assert check(emulator, "sk.????.x").json() == {"code": "TokenMalformed"}
    assert check(emulator, "sk.bm90IGpzb24.x").json() == {"code": "TokenMalformed"}


def test_no_token_at_all_is_unauthorized(emulator: Emulator) -> None:
    assert check(emulator, None).status_code == 401


@pytest.mark.parametrize(("method", "path", "scope"), ENDPOINTS)
class TestEveryEndpoint:
    @pytest.mark.parametrize("token", [None, "nonsense"])
    def test_every_endpoint_answers_401_without_a_token_of_a_tokens_shape(
        self, shared: Account, method: str, path: str, scope: str, token: str | None
    ) -> None:
        answer = shared.call(method, path, token=token)

        assert (answer.status_code, answer.json()) == (401, {"message": "Not Authorized - Invalid Token"})

    def test_every_endpoint_answers_404_to_an_unknown_token(
        self, shared: Account, method: str, path: str, scope: str
    ) -> None:
        answer = shared.call(method, path, token=shared.emulator.token + "x")

        assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})

    @pytest.mark.parametrize("state", ["TokenExpired", "TokenRevoked"])
    def test_every_endpoint_answers_404_to_a_token_that_is_no_longer_good(
        self, shared: Account, method: str, path: str, scope: str, state: str
    ) -> None:
        assert shared.call(method, path, token=shared.emulator.create_token(state=state)).status_code == 404

    def test_every_endpoint_answers_404_to_a_token_without_the_scope(
        self, shared: Account, method: str, path: str, scope: str
    ) -> None:
        others = {"uploads:read", "uploads:write", "uploads:list"} - {scope}

        answer = shared.call(method, path, token=shared.emulator.create_token(scopes=others))

        assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})

    def test_every_endpoint_answers_404_to_another_accounts_token(
        self, shared: Account, method: str, path: str, scope: str
    ) -> None:
        assert shared.call(method, path, token=shared.emulator.create_token(account="other")).status_code == 404


def test_a_token_of_this_account_opens_no_other_accounts_path(emulator: Emulator) -> None:
    answer = requests.post(
        f"{emulator.url}/uploads/v1/other/credentials", params={"access_token": emulator.token}, timeout=10
    )

    assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


def test_the_token_is_not_in_the_database(emulator: Emulator) -> None:
    for file in emulator.folder.glob("emulator.sqlite3*"):
        assert emulator.token.encode() not in file.read_bytes()
