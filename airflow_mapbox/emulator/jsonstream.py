"""Read JSON from a stream value by value, so that a large array is never in memory as a whole."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import NoReturn

WHITESPACE = " \t\n\r"
BLOCK = 1 << 20
# Longer than any literal or escape. An error further from the block's end than this is not due to the missing rest.
LONGEST_TOKEN = 16


class JsonError(ValueError):
    """The stream is not valid JSON."""


def _refuse_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is not JSON")


class JsonReader:
    """A cursor over a stream of JSON.

    :param stream: the JSON, read in blocks.
    """

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream = stream
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        self._buffer = ""
        self._position = 0
        self._end = False

    def peek(self) -> str:
        """Return the next character that is not whitespace, or an empty string at the end."""
        while True:
            while self._position < len(self._buffer):
                if self._buffer[self._position] not in WHITESPACE:
                    return self._buffer[self._position]
                self._position += 1
            if not self._read_more(BLOCK):
                return ""

    def expect(self, character: str) -> None:
        """Step over a character.

        :raises JsonError: if the next character is a different one.
        """
        if self.peek() != character:
            raise JsonError(f"expected {character!r}")
        self._position += 1

    def value(self) -> object:
        """Return the next complete value, of any type.

        :raises JsonError: if there is no valid value.
        """
        self.peek()
        size = BLOCK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except JsonError:
                raise
            except (ValueError, RecursionError) as error:
                # Each read is twice as large as the last, so that parsing a large value again takes linear time.
                if not self._is_cut_off(error) or not self._read_more(size):
                    raise JsonError(str(error)) from None
                size *= 2
                continue
            # A number at the end of the buffer may continue in the next block, also after ".", "e" or a sign.
            if isinstance(value, int | float) and not self._buffer[end:].strip(".eE+-") and self._read_more(BLOCK):
                continue
            self._position = end
            return value

    def members(self) -> Iterator[str]:
        """Yield an object's member names. The caller must read each value before the next name."""
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
        """Yield an array's elements as complete values."""
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

    def _is_cut_off(self, error: Exception) -> bool:
        """Return whether the error may be due to the missing rest of the value."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - LONGEST_TOKEN

    def _read_more(self, size: int) -> bool:
        """Read the next block and drop the text before the cursor; return whether there was a block."""
        if self._end:
            return False
        block = self._stream.read(size)
        self._buffer = self._buffer[self._position :] + block
        self._position = 0
        self._end = not block
        return bool(block)
