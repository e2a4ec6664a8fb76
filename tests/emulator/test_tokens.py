"""Access tokens: the tokens endpoint, and the refusals of the other endpoints."""

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


def test_valid_token_is_described(emulator: Emulator) -> None:
    response = check(emulator, emulator.token)

    assert response.status_code == 200
    body = response.json()
    assert body["code"] == "TokenValid"
    assert body["token"]["usage"] == "sk"
    assert body["token"]["user"] == "acme"
    assert body["token"]["authorization"]


def test_token_contains_its_account_as_mapbox_tokens_do(emulator: Emulator) -> None:
    prefix, payload, signature = emulator.token.split(".")

    assert prefix == "sk"
    assert signature
    assert "=" not in payload
    assert json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["u"] == "acme"


@pytest.mark.parametrize("state", ["TokenExpired", "TokenRevoked", "TokenInvalid"])
def test_token_in_another_state_returns_200_with_its_code(emulator: Emulator, state: str) -> None:
    response = check(emulator, emulator.create_token(state=state))

    assert (response.status_code, response.json()) == (200, {"code": state})


def test_token_with_a_wrong_signature_is_invalid_and_a_malformed_token_is_malformed(emulator: Emulator) -> None:
    assert check(emulator, emulator.token + "x").json() == {"code": "TokenInvalid"}
    assert check(emulator, "nonsense").json() == {"code": "TokenMalformed"}
    assert check(emulator, "sk.????.x").json() == {"code": "TokenMalformed"}
    assert check(emulator, "sk.bm90IGpzb24.x").json() == {"code": "TokenMalformed"}


def test_missing_token_is_unauthorized(emulator: Emulator) -> None:
    assert check(emulator, None).status_code == 401


@pytest.mark.parametrize(("method", "path", "scope"), ENDPOINTS)
class TestEveryEndpoint:
    @pytest.mark.parametrize("token", [None, "nonsense"])
    def test_endpoint_returns_401_for_a_missing_or_malformed_token(
        self, shared: Account, method: str, path: str, scope: str, token: str | None
    ) -> None:
        response = shared.call(method, path, token=token)

        assert (response.status_code, response.json()) == (401, {"message": "Not Authorized - Invalid Token"})

    def test_endpoint_returns_404_for_an_unknown_token(
        self, shared: Account, method: str, path: str, scope: str
    ) -> None:
        response = shared.call(method, path, token=shared.emulator.token + "x")

        assert (response.status_code, response.json()) == (404, {"message": "Not Found"})

    @pytest.mark.parametrize("state", ["TokenExpired", "TokenRevoked"])
    def test_endpoint_returns_404_for_an_expired_or_revoked_token(
        self, shared: Account, method: str, path: str, scope: str, state: str
    ) -> None:
        assert shared.call(method, path, token=shared.emulator.create_token(state=state)).status_code == 404

    def test_endpoint_returns_404_for_a_token_without_the_scope(
        self, shared: Account, method: str, path: str, scope: str
    ) -> None:
        others = {"uploads:read", "uploads:write", "uploads:list"} - {scope}

        response = shared.call(method, path, token=shared.emulator.create_token(scopes=others))

        assert (response.status_code, response.json()) == (404, {"message": "Not Found"})

    def test_endpoint_returns_404_for_a_token_of_another_account(
        self, shared: Account, method: str, path: str, scope: str
    ) -> None:
        assert shared.call(method, path, token=shared.emulator.create_token(account="other")).status_code == 404


def test_token_gives_no_access_to_another_account(emulator: Emulator) -> None:
    response = requests.post(
        f"{emulator.url}/uploads/v1/other/credentials", params={"access_token": emulator.token}, timeout=10
    )

    assert (response.status_code, response.json()) == (404, {"message": "Not Found"})


def test_token_is_not_in_the_database(emulator: Emulator) -> None:
    for file in emulator.folder.glob("emulator.sqlite3*"):
        assert emulator.token.encode() not in file.read_bytes()
