"""Check access tokens by Mapbox's rules."""

from __future__ import annotations

from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.store import Store
from airflow_mapbox.emulator.tokens import Token, TokenState, parse_token


def authorize(store: Store, token: str | None, *, account: str, scope: str | None) -> Token:
    """Return the record of a token if it may act on an account.

    :param token: the ``access_token`` of the query.
    :param account: the owner of the requested data.
    :param scope: the scope that the token needs; None if any valid token of the account is enough.
    :raises RefusedError: 401 if the token is missing or malformed; 404 for every other fault, by Mapbox's design.
    """
    if not token or parse_token(token) is None:
        raise RefusedError(401, ApiMessage.UNAUTHORIZED)
    record = store.find_token(token)
    if record is None or record.state is not TokenState.VALID or record.account != account:
        raise RefusedError(404, ApiMessage.NOT_FOUND)
    if scope is not None and scope not in record.scopes:
        raise RefusedError(404, ApiMessage.NOT_FOUND)
    return record


def describe_token(store: Store, token: str) -> dict[str, object]:
    """Return the body of ``GET /tokens/v2`` for a token."""
    if parse_token(token) is None:
        return {"code": TokenState.MALFORMED}
    record = store.find_token(token)
    if record is None:
        return {"code": TokenState.INVALID}
    if record.state is not TokenState.VALID:
        return {"code": record.state}
    return {
        "code": record.state,
        "token": {"usage": record.usage, "user": record.account, "authorization": record.authorization},
    }
