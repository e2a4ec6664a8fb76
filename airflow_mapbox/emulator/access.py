"""Who may ask for what: tokens judged as Mapbox judges them."""

from __future__ import annotations

from airflow_mapbox.emulator.errors import RefusedError, Said
from airflow_mapbox.emulator.store import Store
from airflow_mapbox.emulator.tokens import Token, TokenState, parse_token


def authorize(store: Store, token: str | None, *, account: str, scope: str | None) -> Token:
    """Return the token that may act on an account.

    :param token: the ``access_token`` of the query.
    :param account: whose data is asked for.
    :param scope: what the token must allow; None where any valid token of the account will do.
    :raises RefusedError: 401 for no token or one of another shape; 404 for every other fault, by Mapbox's design.
    """
    if not token or parse_token(token) is None:
        raise RefusedError(401, Said.UNAUTHORIZED)
    known = store.find_token(token)
    if known is None or known.state is not TokenState.VALID or known.account != account:
        raise RefusedError(404, Said.NOT_FOUND)
    if scope is not None and scope not in known.scopes:
        raise RefusedError(404, Said.NOT_FOUND)
    return known


def describe_token(store: Store, token: str) -> dict[str, object]:
    """Return what ``GET /tokens/v2`` says of a token."""
    parsed = parse_token(token)
    if parsed is None:
        return {"code": TokenState.MALFORMED}
    known = store.find_token(token)
    if known is None:
        return {"code": TokenState.INVALID}
    if known.state is not TokenState.VALID:
        return {"code": known.state}
    return {
        "code": known.state,
        "token": {"usage": known.usage, "user": known.account, "authorization": known.authorization},
    }
