"""Read a part of a JSON document value by value, until the part ends."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

_SPACE = re.compile(r"[ \t\r\n]*")
# An error at most this far from the end of the part may be a cut number, word or escape.
_CUT_TOKEN_CHARACTERS = 16
_MAX_DIGITS = 4000


class EndOfPart(Exception):  # noqa: N818 - not an error: the rest of the document was not read
    """The part ends before the document does."""


class BrokenJSONError(Exception):
    """The part cannot be the beginning of valid JSON."""


def _refuse_constant(name: str) -> NoReturn:
    raise BrokenJSONError(f"{name} is not JSON")


def _integer(digits: str) -> float:
    # int() refuses more than 4,300 digits. JSON has no leading zeros, so the number overflows anyway.
    if len(digits) > _MAX_DIGITS:
        return -math.inf if digits.startswith("-") else math.inf
    return int(digits)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)


def loads(text: str) -> Any:
    """
    Return the value of a whole document, with infinity for integers that overflow.

    :param text: the document.
    :raises BrokenJSONError: for NaN and Infinity.
    :raises ValueError: if it is not JSON.
    """
    return _DECODER.decode(text)


class JSONPart:
    """
    A part of a document, and a position in it.

    :param text: the part.
    :param at: the index of the first character to read.
    """

    def __init__(self, text: str, at: int = 0) -> None:
        self._text = text
        self.at = at

    def peek(self) -> str:
        """
        Return the next character that is not white space.

        :raises EndOfPart: if the part has no such character.
        """
        match = _SPACE.match(self._text, self.at)
        self.at = match.end() if match else self.at
        if self.at == len(self._text):
            raise EndOfPart
        return self._text[self.at]

    def take(self, characters: str) -> str:
        """
        Return the next character that is not white space, and move behind it.

        :param characters: the valid characters.
        :raises EndOfPart: if the part has no such character.
        :raises BrokenJSONError: if the character is not valid here.
        """
        character = self.peek()
        if character not in characters:
            raise BrokenJSONError(f"{character!r} at character {self.at:,} instead of {' or '.join(characters)}")
        self.at += 1
        return character

    def value(self) -> Any:
        """
        Return the next value, and move behind it.

        :raises EndOfPart: if the part ends inside the value.
        :raises BrokenJSONError: if it is not a JSON value.
        """
        self.peek()
        try:
            value, self.at = _DECODER.raw_decode(self._text, self.at)
        except json.JSONDecodeError as error:
            if error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _CUT_TOKEN_CHARACTERS:
                raise EndOfPart from None
            raise BrokenJSONError(f"{error.msg} at character {error.pos:,}") from None
        except RecursionError:
            raise BrokenJSONError("values are nested too deeply") from None
        return value

    def key(self) -> str:
        """
        Return the name of the next member, and move behind its colon.

        :raises EndOfPart: if the part ends inside the name.
        :raises BrokenJSONError: if there is no name.
        """
        if self.peek() != '"':
            raise BrokenJSONError(f"a member without a name at character {self.at:,}")
        name = self.value()
        self.take(":")
        return str(name)

    @property
    def is_at_end(self) -> bool:
        """Whether the rest of the part is white space."""
        try:
            self.peek()
        except EndOfPart:
            return True
        return False
