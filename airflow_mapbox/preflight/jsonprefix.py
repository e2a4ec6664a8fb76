"""JSON of which only a part is there: read value by value until the part ends."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_SPACE = re.compile(r"[ \t\r\n]*")
# A number, word or escape that the end has cut is an error this close to it.
_NEAR = 16


class EndOfPart(Exception):  # noqa: N818 - not an error: there is just no more to read
    """The part ends inside a value."""


class BrokenJSONError(Exception):
    """What is there is not JSON, however it would go on."""


def _no_constant(name: str) -> NoReturn:
    raise BrokenJSONError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


class JSONPart:
    """
    A part of a document, and a place in it.

    :param text: the part.
    :param at: where to begin.
    """

    def __init__(self, text: str, at: int = 0) -> None:
        self._text = text
        self.at = at

    def peek(self) -> str:
        """
        Return the next character that is no space.

        :raises EndOfPart: where there is none.
        """
        matched = _SPACE.match(self._text, self.at)
        self.at = matched.end() if matched else self.at
        if self.at == len(self._text):
            raise EndOfPart
        return self._text[self.at]

    def take(self, characters: str) -> str:
        """
        Return the next character and go past it.

        :param characters: those that it may be.
        :raises BrokenJSONError: where it is another.
        """
        character = self.peek()
        if character not in characters:
            raise BrokenJSONError(f"{character!r} at character {self.at:,} in place of {' or '.join(characters)}")
        self.at += 1
        return character

    def value(self) -> Any:
        """
        Return the next value and go past it.

        :raises EndOfPart: where it is cut.
        :raises BrokenJSONError: where it is none.
        """
        self.peek()
        try:
            value, self.at = _DECODER.raw_decode(self._text, self.at)
        except json.JSONDecodeError as error:
            if error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _NEAR:
                raise EndOfPart from None
            raise BrokenJSONError(f"{error.msg} at character {error.pos:,}") from None
        except RecursionError:
            raise BrokenJSONError("values are nested too deeply") from None
        return value

    def key(self) -> str:
        """
        Return the next member's name, and go past its colon.

        :raises BrokenJSONError: where there is none.
        """
        if self.peek() != '"':
            raise BrokenJSONError(f"no member's name at character {self.at:,}")
        name = self.value()
        self.take(":")
        return str(name)

    @property
    def is_at_end(self) -> bool:
        """Whether nothing but spaces is left."""
        try:
            self.peek()
        except EndOfPart:
            return True
        return False
