"""Readable test ids, so that the line of a failed test names the case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

_MAX_CHARACTERS = 60


def readable(value: Any, name: str) -> str | None:
    """
    Return the name of a parameter's value in a test id, or None if pytest's name is readable.

    :param value: the parameter's value.
    :param name: the parameter's name.
    """
    name = name.replace("_", " ")
    if value is None:
        return f"no {name}"
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if isinstance(value, str | bytes | Mapping | list | tuple | set | frozenset) and not value:
        return f"empty {name}" if isinstance(value, str | bytes) else f"no {name}"
    if isinstance(value, int | float | complex | type | Enum):
        return None
    return _shorten(_text(value)) or None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)[1:-1]
    if isinstance(value, bytes | bytearray):
        # Only the printable beginning: archives contain the time at which they were made, and ids must not change.
        printable = re.match(rb"[\n -~]*", value)
        beginning = repr(printable.group())[2:-1] if printable else ""
        return beginning if len(beginning) >= len(value) else f"{beginning} {len(value)} bytes".strip()
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(key)}={_text(item)}" for key, item in value.items())
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(_text, value)))
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value[:_MAX_CHARACTERS]))
    if isinstance(value, BaseException):
        return f"{type(value).__name__} {value}".strip()
    if hasattr(value, "__name__"):
        return str(value.__name__)
    if isinstance(value, int | float | complex | type(None)):
        return str(value)
    if isinstance(getattr(value, "name", None), str):
        return str(value.name)
    if hasattr(value, "geom_type"):
        return str(value)
    text = repr(value)
    # Addresses differ between the workers of one run, which must agree on the ids.
    return text if len(text) <= 2 * _MAX_CHARACTERS and " at 0x" not in text and "\n" not in text else ""


def _shorten(text: str) -> str:
    # Keep both ends: two long values may differ at either.
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:40]}...{text[-17:]}"
