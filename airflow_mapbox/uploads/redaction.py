"""Keeps tokens and temporary credentials out of every text that leaves this process."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from itertools import pairwise

_REPLACEMENT = "***"

_START = r"(?<![A-Za-z0-9_.-])"
# The parts of a parameter in the query or fragment of a URL, or in a connection string: `name=value`, also quoted.
_NAME = re.compile(_START + r"([A-Za-z0-9_.-]{1,64})(?:=|%3D)", re.IGNORECASE)
_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|[^&;,\s\"'<>)]+")
# How the names of secrets end or read, without their separators: of URLs that are signed or carry a key (AWS, Azure,
# Google and others), and of the databases that GDAL reads.
_SECRET_ENDINGS = (
    *("token", "secret", "password", "passwd", "passphrase", "pwd", "apikey", "accesskey", "accesskeyid", "accountkey"),
    *("authkey", "privatekey", "secretkey", "sharedkey", "signingkey", "subscriptionkey", "signature", "credential"),
    *("credentials", "jwt", "authorization", "hmac"),
)
_SECRET_NAMES = frozenset({"sig", "auth", "pass", "sas", "bearer", "pw", "qak"})
# Names whose values may be secrets: `?code=DE` is a country, `?code=` with a key behind it is one.
_DOUBTFUL_ENDINGS = ("code", "key", "session", "sessionid", "sid", "ticket", "state", "hash", "policy")
_DOUBTFUL_NAMES = frozenset({"k", "t", "s", "id", "user", "username"})
_RANDOM = re.compile(r"[A-Za-z0-9_.~+/=%-]{16,2000}(?![A-Za-z0-9_.~+/=%-])")
_DATE = re.compile(r"\d{4}-?\d\d-?\d\d")
# A user and a password before a host. A password may contain a slash, as AWS keys do; digits before the first slash
# are a port. A `Path` of a URL has lost one of its two slashes. In a web address a user alone is a secret too, as
# GitHub's tokens are.
_LOGIN = re.compile(
    rf"{_START}(https?:/+)([^/?#@\s]+)@|{_START}([A-Za-z][A-Za-z0-9+.-]*:/+[^/?#@:\s]*:)(?!/|\d{{1,5}}[/?#])([^@\s]*)@",
    re.IGNORECASE,
)
# What GDAL reads as a database with a login: OCI:user/password@host and the like.
_ORACLE = re.compile(rf"{_START}((?:OCI|GEOR|ODBC|MSSQL):[^/@\s,]+/)([^@\s]+)@", re.IGNORECASE)

# A Mapbox token by its shape: the kind, a base64 payload, a signature. The shape finds tokens that were not registered,
# such as one that a server sends back in a message.
_TOKEN = re.compile(r"\b[spt]k\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?")


# What each of the patterns above contains. Most texts do not, and the fields of every answer are looked through.
_NEEDS_A_LOOK = re.compile(r"[=@]|%3D|k\.", re.IGNORECASE)


def has_secret(text: str) -> bool:
    """
    Tell whether a URL or a connection string contains a password, a key or a signature.

    :param text: as a user gave it. The time is linear in its length.
    """
    return next(_secret_values(text), None) is not None or any(
        pattern.search(text) for pattern in (_LOGIN, _ORACLE, _TOKEN)
    )


def _secret_values(text: str) -> Iterator[re.Match[str]]:
    """Find the values of parameters that are secrets."""
    position = 0
    while name := _NAME.search(text, position):
        position = name.end()  # the value of another parameter may contain parameters itself
        if _is_secret(name) and (value := _VALUE.match(text, position)):
            position = value.end()
            yield value


def _is_secret(parameter: re.Match[str]) -> bool:
    text, start, end = parameter.string, parameter.start(), parameter.end()
    before = text[start - 1 : start]
    if before == "/":
        return False  # a folder of a partitioned data set
    name = re.sub(r"[_.-]", "", parameter[1]).lower()
    if name.endswith(_SECRET_ENDINGS) or name in _SECRET_NAMES:
        return True
    doubtful = name.endswith(_DOUBTFUL_ENDINGS) or name in _DOUBTFUL_NAMES
    return doubtful and before in tuple("?&#;") and _is_random(text, end)


def _is_random(text: str, start: int) -> bool:
    """Tell whether a value is not a word, a number, a date or a name, but random characters."""
    value = _RANDOM.match(text, start)
    if value is None:
        return False
    rest = _DATE.sub("", value[0])
    changes = sum(one.isdigit() != other.isdigit() for one, other in pairwise(rest))
    return changes >= 4 and any(character.isalpha() for character in rest)


# urllib3 writes the URL of each request at DEBUG, botocore headers and canonical requests, session token included.
_LOGGERS_THAT_TELL = ("urllib3", "botocore", "boto3", "s3transfer", "requests")

_secrets: set[str] = set()
_lock = threading.Lock()


def register_secret(*secrets: str) -> None:
    """
    Remember values that must never be shown by this process.

    :param secrets: the values; an empty one is passed over.
    """
    with _lock:
        _secrets.update(secret for secret in secrets if secret)


def redact(text: str) -> str:
    """
    Replace every registered secret, secret query parameter and token-shaped word in a text.

    :param text: anything on its way to a log, an exception or a page.
    :return: the same text with ``***`` in the place of secrets.
    """
    with _lock:
        # The longest first, so that a secret that contains another is replaced whole.
        known = sorted(_secrets, key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, _REPLACEMENT)
    if not _NEEDS_A_LOOK.search(text):
        return text
    pieces, position = [], 0
    for value in _secret_values(text):
        pieces += [text[position : value.start()], _REPLACEMENT]
        position = value.end()
    text = "".join((*pieces, text[position:]))
    text = _LOGIN.sub(lambda match: f"{match[1] or match[3]}{_REPLACEMENT}@", text)
    text = _ORACLE.sub(rf"\1{_REPLACEMENT}@", text)
    return _TOKEN.sub(_REPLACEMENT, text)


class _RedactingFilter(logging.Filter):
    """Rewrites a record before any handler sees it, also the handlers that Airflow's own masker does not cover."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:
            return True  # a record whose arguments don't fit: logging says so itself
        redacted = redact(message)
        if redacted != message:
            record.msg, record.args = redacted, None
        if record.exc_info:
            # A server's own words may be in the exception. Formatters take the text where there is one.
            record.exc_text = redact(_format_exception(record.exc_info))
            record.exc_info = None
        return True


_format_exception = logging.Formatter().formatException
_filter = _RedactingFilter()


def guard_loggers() -> None:
    """
    Put the redaction on the loggers of the HTTP and S3 libraries.

    A filter holds for the very logger it is put on and not for its children, so this is called again once a library
    has made its loggers; a second call on the same logger changes nothing.
    """
    made = [name for name in list(logging.root.manager.loggerDict) if name.partition(".")[0] in _LOGGERS_THAT_TELL]
    for name in (*_LOGGERS_THAT_TELL, *made):
        logging.getLogger(name).addFilter(_filter)
