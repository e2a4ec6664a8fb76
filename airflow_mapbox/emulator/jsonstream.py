"""JSON read from a file piece by piece, so that a large array never stands in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import NoReturn

WHITESPACE = " \t\n\r"
BLOCK = 1 << 20
# Literals, escapes: a fault further from the end than this is not one of the block's edge.
LONGEST_TOKEN = 16


class JsonError(ValueError):
    """The text is not JSON."""


def _refuse_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is not JSON")


class JsonReader:
    """A cursor over JSON text.

    :param stream: the text; read in blocks.
    """

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream = stream
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        self._text = ""
        self._at = 0
        self._end = False

    def peek(self) -> str:
        """Return the next character that is not whitespace, or nothing at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in WHITESPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more(BLOCK):
                return ""

    def expect(self, wanted: str) -> None:
        """Step over one character.

        :raises JsonError: where it is another.
        """
        if self.peek() != wanted:
            raise JsonError(f"expected {wanted!r}")
        self._at += 1

    def value(self) -> object:
        """Return the next value whole, of whatever kind.

        :raises JsonError: where there is none.
        """
        self.peek()
        size = BLOCK
        while True:
            try:
                found, at = self._decoder.raw_decode(self._text, self._at)
            except JsonError:
                raise
            except (ValueError, RecursionError) as error:
                # Asking for twice as much each time keeps a large value linear.
                if not self._cut_off(error) or not self._more(size):
                    raise JsonError(str(error)) from None
                size *= 2
                continue
            # A number at the very end of what was read may go on, be it from the letter of its exponent.
            if isinstance(found, int | float) and not self._text[at:].strip(".eE+-") and self._more(BLOCK):
                continue
            self._at = at
            return found

    def members(self) -> Iterator[str]:
        """Yield an object's member names; the caller takes each value before the next name."""
        self.expect("{")
        if self.peek() == "}":
            self.expect("}")
            return
        while True:
            name = self.value()
            if not isinstance(name, str):
                raise JsonError("a member's name must be a string")
            self.expect(":")
            yield name
            if self.peek() != ",":
                break
            self.expect(",")
        self.expect("}")

    def elements(self) -> Iterator[object]:
        """Yield an array's elements, each whole."""
        self.expect("[")
        if self.peek() == "]":
            self.expect("]")
            return
        while True:
            yield self.value()
            if self.peek() != ",":
                break
            self.expect(",")
        self.expect("]")

    def _cut_off(self, error: Exception) -> bool:
        """Return whether a value may have failed for want of the rest, and not for what was read of it."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - LONGEST_TOKEN

    def _more(self, size: int) -> bool:
        """Read on, dropping what was passed; return whether anything came."""
        if self._end:
            return False
        block = self._stream.read(size)
        self._text = self._text[self._at :] + block
        self._at = 0
        self._end = not block
        return bool(block)
