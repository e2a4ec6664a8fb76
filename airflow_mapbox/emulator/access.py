"""Check access tokens by Mapbox's rules."""

from __future__ import annotations

from airflow_mapbox.emulator.errors import ApiMessage, RefusedError
from airflow_mapbox.emulator.store import Store
from airflow_mapbox.emulator.tilesets import Tileset
from airflow_mapbox.emulator.tokens import Token, TokenState, parse_token

TILES_SCOPE = "tilesets:read"


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


def authenticate(store: Store, token: str | None) -> Token:
    """Return the record of a valid token of any account, by the rules of the tilesets endpoints.

    :param token: the ``access_token`` of the query.
    :raises RefusedError: 401 if the token is missing, malformed, unknown, expired or revoked.
    """
    if not token:
        raise RefusedError(401, ApiMessage.NO_TOKEN)
    record = store.find_token(token) if parse_token(token) is not None else None
    if record is None or record.state is not TokenState.VALID:
        raise RefusedError(401, ApiMessage.UNAUTHORIZED)
    return record


def authorize_scope(store: Store, token: str | None, *, scope: str) -> Token:
    """Return the record of a valid token of any account, if it has a scope.

    :raises RefusedError: as :func:`authenticate`; 403 for a token without the scope.
    """
    record = authenticate(store, token)
    if scope not in record.scopes:
        raise RefusedError(403, ApiMessage.NO_SCOPE.format(scope))
    return record


def check_tileset_access(record: Token, tileset: Tileset) -> None:
    """Check whether a token may read the TileJSON and the tiles of a tileset.

    :raises RefusedError: for a private tileset: 404 for a token of another account, 403 for a token without the scope
        ``tilesets:read``.
    """
    if not tileset.private:
        return
    if record.account != tileset.owner:
        raise RefusedError(404, ApiMessage.TILESET_MISSING)
    if TILES_SCOPE not in record.scopes:
        raise RefusedError(403, ApiMessage.NO_SCOPE.format(TILES_SCOPE))


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
