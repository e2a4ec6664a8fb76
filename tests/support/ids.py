"""Names of parameters in a test's id, so that a failing line says which case failed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

_LONGEST = 60


def readable(value: Any, name: str) -> str | None:
    """
    Return what stands for a parameter in a test's id; None if pytest's own choice reads as well.

    :param value: of the parameter.
    :param name: of the parameter.
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
    return _shortened(_text(value)) or None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)[1:-1]
    if isinstance(value, bytes | bytearray):
        # Only the beginning, unless all of it is text: archives hold the time at which they were made.
        printable = re.match(rb"[\n -~]*", value)
        beginning = repr(printable.group())[2:-1] if printable else ""
        return beginning if len(beginning) >= len(value) else f"{beginning} {len(value)} bytes".strip()
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(key)}={_text(item)}" for key, item in value.items())
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(_text, value)))
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value[:_LONGEST]))
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
    # An address differs between the workers of one run.
    return text if len(text) <= 2 * _LONGEST and " at 0x" not in text and "\n" not in text else ""


def _shortened(text: str) -> str:
    # Of two long ones the ends may differ as well as the beginnings.
    return text if len(text) <= _LONGEST else f"{text[:40]}...{text[-17:]}"
