"""Create and parse access tokens of Mapbox's format."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

SCOPES = (
    "uploads:read",
    "uploads:write",
    "uploads:list",
    "tilesets:read",
    "tilesets:write",
    "tilesets:list",
    "datasets:read",
)
SHAPE = re.compile(r"(pk|sk|tk)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\Z")
BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class TokenState(StrEnum):
    """The codes of ``GET /tokens/v2``."""

    VALID = "TokenValid"
    MALFORMED = "TokenMalformed"
    INVALID = "TokenInvalid"
    EXPIRED = "TokenExpired"
    REVOKED = "TokenRevoked"


@dataclass(frozen=True)
class Token:
    """A token's record in the folder, without the secret itself."""

    account: str
    authorization: str
    usage: str
    scopes: frozenset[str]
    state: TokenState


def make_cuid() -> str:
    """Return a new id in the format of Mapbox's upload ids: ``c`` and 24 characters of base 36."""
    return "c" + "".join(secrets.choice(BASE36) for _ in range(24))


def make_token(account: str, *, usage: str = "sk") -> str:
    """Return a new token: prefix, payload (base64url without padding), signature.

    :param account: the token's account.
    :param usage: ``sk`` (secret), ``pk`` (public) or ``tk`` (temporary).
    """
    payload = json.dumps({"u": account, "a": make_cuid()}, separators=(",", ":")).encode()
    body = base64.urlsafe_b64encode(payload).decode().rstrip("=")
    return f"{usage}.{body}.{secrets.token_urlsafe(16)}"


def parse_token(token: str) -> dict[str, str] | None:
    """Return a token's usage, user and authorization, or None if the token is malformed."""
    match = SHAPE.match(token)
    if match is None:
        return None
    usage, body, _ = match.groups()
    try:
        payload = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, UnicodeDecodeError, ValueError, RecursionError):
        return None
    if not isinstance(payload, dict) or not isinstance(payload.get("u"), str):
        return None
    authorization = payload.get("a")
    return {
        "usage": usage,
        "user": payload["u"],
        "authorization": authorization if isinstance(authorization, str) else "",
    }
