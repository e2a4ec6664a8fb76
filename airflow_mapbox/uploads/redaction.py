"""Keeps tokens and temporary credentials out of every text that leaves this process."""

from __future__ import annotations

import logging
import re
import threading

_REPLACEMENT = "***"

# Query parameters that sign a URL or carry a key, at AWS, Azure, Google and elsewhere.
SECRET_PARAMETER = re.compile(
    r"[?&#](?:x-amz-(?:signature|credential|security-token)|signature|sig|x-goog-(?:signature|credential)"
    r"|(?:access|auth|api|id|refresh)?[_-]?token|auth|authorization|(?:[a-z]+[_-])?(?:api[_-]?)?key|apikey"
    r"|pwd|passwd|password|(?:[a-z]+[_-])?secret)=",
    re.IGNORECASE,
)
_VALUE = r"[^&\s\"'<>)]+"

# The query parameter wherever it stands in a text, and a Mapbox token by its shape: the kind, a base64 payload, a
# signature. The shape catches tokens that nobody registered, such as one that a server sends back in a message.
_PATTERNS = (
    (re.compile(rf"(access_token(?:=|%3D)){_VALUE}", re.IGNORECASE), rf"\1{_REPLACEMENT}"),
    (re.compile(rf"({SECRET_PARAMETER.pattern}){_VALUE}", re.IGNORECASE), rf"\1{_REPLACEMENT}"),
    (re.compile(r"\b[spt]k\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"), _REPLACEMENT),
)

# httpx writes each request's URL at INFO and urllib3 at DEBUG, httpcore the headers of answers, and botocore headers
# and canonical requests, session token included.
_LOGGERS_THAT_TELL = ("httpx", "httpcore", "urllib3", "botocore", "boto3", "s3transfer", "requests")

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
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


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
