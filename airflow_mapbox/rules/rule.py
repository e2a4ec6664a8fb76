"""One rule: what is refused, what Mapbox then says, what to do, and the evidence for the rule."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PLACEHOLDER = re.compile(r"\\\{\w*\\\}")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """
    A reason for Mapbox to refuse a file, or for a warning.

    :param name: unique name in lower case, which begins with the format: ``"mbtiles-empty"``.
    :param format: the format as people write it, or ``"any"``.
    :param meaning: what is wrong with such a file, in a whole sentence.
    :param remedy: what to do, in whole sentences.
    :param evidence: the evidence for the rule: documented, seen, or the source that has it.
    :param message: what Mapbox says, with ``{placeholders}``; None if that is unknown, or if Mapbox says nothing.
    :param refused: whether the file is refused; if not, the rule is a warning. Mapbox is known to refuse it, or the
        rule is the preflight's own: for safety, or because no program can read the file correctly.
    :param checked: whether the preflight finds such files. If not, only Mapbox's processing does.
    :param retry_helps: whether the same data may succeed in another upload.
    """

    name: str
    format: str
    meaning: str
    remedy: str
    evidence: str
    message: str | None = None
    refused: bool = True
    checked: bool = True
    retry_helps: bool = False

    def matches(self, message: str) -> bool:
        """
        Return whether a message of Mapbox belongs to this rule.

        :param message: the ``error`` field of an upload.
        """
        if self.message is None:
            return False
        # Mapbox words the advice in later sentences differently from time to time.
        first_sentence = self.message.partition(". ")[0].rstrip(".")
        pattern = _PLACEHOLDER.sub(".*?", re.escape(first_sentence))
        return re.search(pattern, message, re.IGNORECASE | re.DOTALL) is not None

    def message_with(self, **values: object) -> str | None:
        """
        Return what Mapbox says about one file.

        :param values: the values of the placeholders. A missing value becomes ``…``.
        """
        if self.message is None:
            return None
        return re.sub(r"\{(\w+)\}", lambda name: str(values.get(name[1], "…")), self.message)
