"""Tokens of Mapbox's shape: made, taken apart, and judged."""

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
    """A token as the folder knows it; the secret itself is not part of it."""

    account: str
    authorization: str
    usage: str
    scopes: frozenset[str]
    state: TokenState


def make_cuid() -> str:
    """Return an id of the shape Mapbox gives uploads: ``c`` and 24 characters of base 36."""
    return "c" + "".join(secrets.choice(BASE36) for _ in range(24))


def make_token(account: str, *, usage: str = "sk") -> str:
    """Return a new token of an account: prefix, payload in base64url without padding, signature.

    :param account: whose token it is.
    :param usage: ``sk`` secret, ``pk`` public, ``tk`` temporary.
    """
    payload = json.dumps({"u": account, "a": make_cuid()}, separators=(",", ":")).encode()
    body = base64.urlsafe_b64encode(payload).decode().rstrip("=")
    return f"{usage}.{body}.{secrets.token_urlsafe(16)}"


def parse_token(token: str) -> dict[str, str] | None:
    """Return the usage, account and authorization a token carries, or None where it has not a token's shape."""
    matched = SHAPE.match(token)
    if matched is None:
        return None
    usage, body, _ = matched.groups()
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
