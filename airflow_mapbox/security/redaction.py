"""Keeps tokens and temporary credentials out of every text that leaves this process."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import unquote

_REPLACEMENT = "***"

_START = r"(?<![A-Za-z0-9_.-])"
# The parts of a parameter in the query or fragment of a URL, or in a connection string, where spaces may
# surround the sign and quotes around the value (libpq, "Connection Strings").
_NAME = re.compile(_START + r"([A-Za-z0-9_.-]{1,64})\s{0,8}(?:=|%3D)\s{0,8}", re.IGNORECASE)
_VALUE = re.compile(
    r"(?:(?:Bearer|Basic|Digest|Token)\s+)?"
    r"(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^&;,\s\"'<>)]+|['\"][^&;,\s]*)",
    re.IGNORECASE,
)
# How the names of secrets end or read, without their separators: of URLs that are signed or carry a key (AWS, Azure,
# Google and others), and of the databases that GDAL reads.
_SECRET_ENDINGS = (
    *("token", "secret", "password", "passwd", "passphrase", "pwd", "apikey", "accesskey", "accesskeyid", "accountkey"),
    *("authkey", "privatekey", "secretkey", "sharedkey", "signingkey", "subscriptionkey", "signature", "credential"),
    *("credentials", "jwt", "authorization", "hmac", "consumerkey", "licensekey", "licencekey"),
)
_SECRET_NAMES = frozenset({"sig", "auth", "pass", "sas", "bearer", "pw", "qak", "tok"})
# These say where a page of a list begins.
_NO_SECRET_ENDINGS = ("pagetoken", "nexttoken", "continuationtoken", "synctoken", "resumptiontoken")
# Names whose values may be secrets: `?code=DE` is a country, `?code=` with a key behind it is one.
_DOUBTFUL_ENDINGS = ("code", "key", "session", "sessionid", "sid", "ticket", "appid", "license", "licence")
_DOUBTFUL_VALUE = re.compile(r"[A-Za-z0-9_.~+/=%-]{1,2000}")
# Names of files, dates and versions have separators; a key has long runs without one.
_RUN = re.compile(r"[A-Za-z0-9+=]{16,}")
# A user and a password before a host. A password may contain a slash, as AWS keys do; digits before the first slash
# are a port. A `Path` of a URL has lost one of its two slashes. In a web address a user alone is a secret too, as
# GitHub's tokens are. The lengths are bounded, so that the time stays linear.
_LOGIN = re.compile(
    rf"{_START}(https?:/{{1,9}})([^/?#@\s]{{1,500}})@"
    rf"|{_START}([A-Za-z][A-Za-z0-9+.-]{{0,60}}:/{{1,9}}[^/?#@:\s]{{0,200}}:)(?!/|\d{{1,5}}[/?#])([^@\s]{{0,500}})@"
    r"|(?<![A-Za-z0-9:/])(//[^/?#@:\s]{1,200}:)([^/@\s]{1,500})@",
    re.IGNORECASE,
)
# What GDAL reads as a database with a login: OCI:user/password@host and the like.
_ORACLE = re.compile(rf"{_START}((?:OCI|GEOR|ODBC):[^/@\s,:]{{1,200}}/)([^@\s:,]{{1,500}})", re.IGNORECASE)

# A Mapbox token by its shape: the kind, a base64 payload, a signature. The shape finds tokens that were not registered,
# such as one that a server sends back in a message.
_TOKEN = re.compile(r"\b[spt]k\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?")


# What each of the patterns above contains. Most texts do not, and the fields of every answer are looked through.
_NEEDS_A_LOOK = re.compile(r"[=@]|%3D|k\.|(?:OCI|GEOR|ODBC):", re.IGNORECASE)


def has_secret(text: str) -> bool:
    """
    Tell whether a URL or a connection string contains a password, a key or a signature.

    :param text: as a user gave it. The time is linear in its length.
    """
    decoded = unquote(text)
    return any(
        next(_secret_values(form), None) is not None
        or any(pattern.search(form) for pattern in (_LOGIN, _ORACLE, _TOKEN))
        for form in dict.fromkeys((text, decoded))
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
    if name.endswith(_NO_SECRET_ENDINGS):
        return False
    if name.endswith(_SECRET_ENDINGS) or name in _SECRET_NAMES:
        return True
    return name.endswith(_DOUBTFUL_ENDINGS) and before in tuple("?&#;") and _is_random(text, end)


def _is_random(text: str, start: int) -> bool:
    """Tell whether a value is not a word, a number, a date or a name, but random characters."""
    value = _DOUBTFUL_VALUE.match(text, start)
    return value is not None and any(
        sum(one.isdigit() != other.isdigit() for one, other in pairwise(run)) >= 3 for run in _RUN.findall(value[0])
    )


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
    text = _LOGIN.sub(lambda match: f"{match[1] or match[3] or match[5]}{_REPLACEMENT}@", text)
    text = _ORACLE.sub(rf"\1{_REPLACEMENT}", text)
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
