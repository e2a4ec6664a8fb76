"""Keep tokens and temporary credentials out of every string that leaves this process."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import unquote

_REPLACEMENT = "***"

_START = r"(?<![A-Za-z0-9_.-])"
# The name and the value of a parameter, in the query or fragment of a URL or in a connection string. There, spaces may
# surround the equals sign, and the value may be quoted (libpq, "Connection Strings").
_NAME = re.compile(_START + r"([A-Za-z0-9_.-]{1,64})\s{0,8}(?:=|%3D)\s{0,8}", re.IGNORECASE)
_VALUE = re.compile(
    r"(?:(?:Bearer|Basic|Digest|Token)\s+)?"
    r"(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^&;,\s\"'<>)]+|['\"][^&;,\s]*)",
    re.IGNORECASE,
)
# Ends of the names of secrets, and whole names, without separators. They occur in signed URLs, in URLs with a key (AWS,
# Azure, Google and others), and in the connection strings of databases that GDAL reads.
_SECRET_ENDINGS = (
    *("token", "secret", "password", "passwd", "passphrase", "pwd", "apikey", "accesskey", "accesskeyid", "accountkey"),
    *("authkey", "privatekey", "secretkey", "sharedkey", "signingkey", "subscriptionkey", "signature", "credential"),
    *("credentials", "jwt", "authorization", "hmac", "consumerkey", "licensekey", "licencekey"),
)
_SECRET_NAMES = frozenset({"sig", "auth", "pass", "sas", "bearer", "pw", "qak", "tok"})
# Positions in a list of pages.
_NO_SECRET_ENDINGS = ("pagetoken", "nexttoken", "continuationtoken", "synctoken", "resumptiontoken")
# Names whose values may be secrets: in `?code=DE` it is a country, but it can also be a key.
_DOUBTFUL_ENDINGS = ("code", "key", "session", "sessionid", "sid", "ticket", "appid", "license", "licence")
_DOUBTFUL_VALUE = re.compile(r"[A-Za-z0-9_.~+/=%-]{1,2000}")
# File names, dates and versions have separators. A key has long runs of characters without one.
_RUN = re.compile(r"[A-Za-z0-9+=]{16,}")
# A user and a password before a host. A password may contain a slash, for example an AWS key; digits before the first
# slash are a port. A `Path` made from a URL has only one of its two slashes. In a web address, a user without a
# password can be a secret too, for example a GitHub token. The lengths are bounded, so that the time stays linear.
_LOGIN = re.compile(
    rf"{_START}(https?:/{{1,9}})([^/?#@\s]{{1,500}})@"
    rf"|{_START}([A-Za-z][A-Za-z0-9+.-]{{0,60}}:/{{1,9}}[^/?#@:\s]{{0,200}}:)(?!/|\d{{1,5}}[/?#])([^@\s]{{0,500}})@"
    r"|(?<![A-Za-z0-9:/])(//[^/?#@:\s]{1,200}:)([^/@\s]{1,500})@",
    re.IGNORECASE,
)
# GDAL's names of databases with a login, such as OCI:user/password@host.
_ORACLE = re.compile(rf"{_START}((?:OCI|GEOR|ODBC):[^/@\s,:]{{1,200}}/)([^@\s:,]{{1,500}})", re.IGNORECASE)

# The form of a Mapbox token: the kind, a base64 payload, a signature. It also matches tokens that were not registered,
# for example one that a server returns in a message.
_TOKEN = re.compile(r"\b[spt]k\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?")


# Each match of the patterns above contains one of these. Most strings have none, and every field of a reply is checked.
_MAY_MATCH = re.compile(r"[=@]|%3D|k\.|(?:OCI|GEOR|ODBC):", re.IGNORECASE)


def has_secret(text: str) -> bool:
    """
    Return whether a URL or a connection string contains a password, a key or a signature.

    :param text: the string. The time is linear in its length.
    """
    decoded = unquote(text)
    return any(
        next(_secret_values(form), None) is not None
        or any(pattern.search(form) for pattern in (_LOGIN, _ORACLE, _TOKEN))
        for form in dict.fromkeys((text, decoded))
    )


def _secret_values(text: str) -> Iterator[re.Match[str]]:
    """Yield the values of parameters that are secrets."""
    position = 0
    while name := _NAME.search(text, position):
        position = name.end()  # the value of another parameter may contain parameters too
        if _is_secret(name) and (value := _VALUE.match(text, position)):
            position = value.end()
            yield value


def _is_secret(parameter: re.Match[str]) -> bool:
    text, start, end = parameter.string, parameter.start(), parameter.end()
    before = text[start - 1 : start]
    if before == "/":
        return False  # a folder of a partitioned dataset
    name = re.sub(r"[_.-]", "", parameter[1]).lower()
    if name.endswith(_NO_SECRET_ENDINGS):
        return False
    if name.endswith(_SECRET_ENDINGS) or name in _SECRET_NAMES:
        return True
    return name.endswith(_DOUBTFUL_ENDINGS) and before in tuple("?&#;") and _is_random(text, end)


def _is_random(text: str, start: int) -> bool:
    """Return whether a value consists of random characters, unlike a word, a number, a date or a name."""
    value = _DOUBTFUL_VALUE.match(text, start)
    return value is not None and any(
        sum(one.isdigit() != other.isdigit() for one, other in pairwise(run)) >= 3 for run in _RUN.findall(value[0])
    )


# At DEBUG, urllib3 logs the URL of each request, and botocore logs headers with the session token.
_LOGGERS_TO_GUARD = ("urllib3", "botocore", "boto3", "s3transfer", "requests")

_secrets: set[str] = set()
_lock = threading.Lock()


def register_secret(*secrets: str) -> None:
    """
    Register values that this process must never show.

    :param secrets: the values. Empty ones are ignored.
    """
    with _lock:
        _secrets.update(secret for secret in secrets if secret)


def redact(text: str) -> str:
    """
    Replace every registered secret, secret parameter and token in a string.

    :param text: a string for a log, an exception or a page.
    :return: the string with ``***`` instead of secrets.
    """
    with _lock:
        # Longest first: a secret may contain another one.
        secrets = sorted(_secrets, key=len, reverse=True)
    for secret in secrets:
        text = text.replace(secret, _REPLACEMENT)
    if not _MAY_MATCH.search(text):
        return text
    parts, position = [], 0
    for value in _secret_values(text):
        parts += [text[position : value.start()], _REPLACEMENT]
        position = value.end()
    text = "".join((*parts, text[position:]))
    text = _LOGIN.sub(lambda match: f"{match[1] or match[3] or match[5]}{_REPLACEMENT}@", text)
    text = _ORACLE.sub(rf"\1{_REPLACEMENT}", text)
    return _TOKEN.sub(_REPLACEMENT, text)


class _RedactingFilter(logging.Filter):
    """Redacts a record before any handler gets it, also those handlers that Airflow's masker does not cover."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:
            return True  # the arguments do not fit the message: logging reports that itself
        redacted = redact(message)
        if redacted != message:
            record.msg, record.args = redacted, None
        if record.exc_info:
            # The exception may quote a server. A formatter uses this string if it is set.
            record.exc_text = redact(_format_exception(record.exc_info))
            record.exc_info = None
        return True


_format_exception = logging.Formatter().formatException
_filter = _RedactingFilter()


def guard_loggers() -> None:
    """
    Add the redaction to the loggers of the HTTP and S3 libraries.

    A filter does not apply to the children of its logger, so call this again after a library has made its loggers. A
    second call for the same logger changes nothing.
    """
    existing = [name for name in list(logging.root.manager.loggerDict) if name.partition(".")[0] in _LOGGERS_TO_GUARD]
    for name in (*_LOGGERS_TO_GUARD, *existing):
        logging.getLogger(name).addFilter(_filter)
