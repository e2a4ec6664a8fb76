"""Names that Mapbox accepts or refuses: tileset ids, display names, accounts."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass

from airflow_mapbox.errors import ConfigurationError, InvalidTilesetError
from airflow_mapbox.limits import DISPLAY_NAME_CHARACTERS, TILESET_PART
from airflow_mapbox.security.redaction import redact


@dataclass(frozen=True)
class TilesetId:
    """
    A tileset id, ``owner.name``.

    :param owner: the account, 1 to 32 of ``A-Z a-z 0-9 _ -``.
    :param name: the tileset's own part, 1 to 32 of the same characters.
    :raises InvalidTilesetError: if Mapbox would refuse one of the parts.
    """

    owner: str
    name: str

    def __post_init__(self) -> None:
        check_tileset_part(self.owner, "account")
        check_tileset_part(self.name, "name")

    @classmethod
    def parse(cls, string: str, account: str) -> TilesetId:
        """
        Read ``name`` or ``owner.name`` as a tileset of an account.

        :param string: the id.
        :param account: the account that uploads. It completes a name without an account.
        :raises InvalidTilesetError: if Mapbox would refuse the id, or it belongs to another account.
        """
        owner, dot, name = string.rpartition(".")
        tileset = cls(owner if dot else account, name)
        if tileset.owner != account:
            raise InvalidTilesetError(
                f"Tileset {string!r} belongs to account {tileset.owner!r}, the connection to {account!r}: an upload "
                f"can only make tilesets of its own account.\nThe part before a dot is the account. Use {name!r} "
                "alone, or another connection."
            )
        return tileset

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


def is_tileset_id(string: str) -> bool:
    """
    Return whether a string is a whole tileset id, ``account.name``. A template is not.

    :param string: the string.
    """
    account, dot, name = string.rpartition(".")
    return bool(dot) and all(map(TILESET_PART.fullmatch, (account, name)))


def check_tileset_part(part: str, meaning: str) -> None:
    """
    Refuse one part of a tileset id.

    :param part: the account or the name.
    :param meaning: "account" or "name", for the message.
    :raises InvalidTilesetError: if it is not 1 to 32 of ``A-Z a-z 0-9 _ -``. The message says what is wrong.
    """
    if TILESET_PART.fullmatch(part):
        return
    forbidden = sorted(set(re.sub(r"[A-Za-z0-9_-]", "", part)))
    problem = f"contains {', '.join(map(repr, forbidden))}" if forbidden else f"is {len(part)} characters long"
    raise InvalidTilesetError(
        f"{part!r} cannot be a tileset's {meaning}: it {problem}. Mapbox accepts 1 to 32 of A-Z, a-z, 0-9, - and _.\n"
        "Change the `tileset` parameter."
    )


def check_tileset(tileset: str) -> None:
    """
    Refuse a tileset that Mapbox would refuse.

    :param tileset: ``name`` or ``account.name``.
    :raises InvalidTilesetError: if a part is not 1 to 32 of ``A-Z a-z 0-9 _ -``. The message says what is wrong.
    """
    account, dot, name = tileset.rpartition(".")
    check_tileset_part(name, "name")
    if dot:
        check_tileset_part(account, "account")


def check_display_name(name: str | None) -> None:
    """
    Refuse a display name that Mapbox would refuse.

    :param name: the ``name`` of an upload, or None.
    :raises InvalidTilesetError: if it is empty or longer than 64 characters (Uploads API, "Create an upload").
    """
    if name is not None and not 1 <= len(name) <= DISPLAY_NAME_CHARACTERS:
        raise InvalidTilesetError(
            f"The display name {name!r} has {len(name)} characters: Mapbox accepts 1 to {DISPLAY_NAME_CHARACTERS}.\n"
            "Change the `name` parameter, or leave it out."
        )


def account_of_token(token: str) -> str:
    """
    Return the account of a token. The token's second part is base64 JSON with the account as ``u``.

    :param token: a Mapbox access token.
    :raises ConfigurationError: if the token names no account. The message does not show the token.
    """
    try:
        payload = token.split(".")[1]
        account = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["u"]
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        account = None
    if not isinstance(account, str) or not TILESET_PART.fullmatch(account):
        raise ConfigurationError(
            "The access token names no account.\nCheck that the whole token is in the connection's password, or put "
            "the account name into the connection's login."
        )
    return account


def check_account(username: str) -> str:
    """
    Refuse an invalid account name. It is part of every path and tileset id.

    :param username: the connection's login.
    :return: the same name.
    :raises ConfigurationError: if it is not 1 to 32 of ``A-Z a-z 0-9 _ -``.
    """
    if not TILESET_PART.fullmatch(username):
        raise ConfigurationError(
            f"{redact(username)[:80]!r} is not a Mapbox account: it must be 1 to 32 of A-Z, a-z, 0-9, - and _.\n"
            "Correct the connection's login, or leave it out: the token names its account."
        )
    return username
