"""Verify that a request to S3 is signed with issued credentials (Signature Version 4, computed with botocore)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials as BotoCredentials

from airflow_mapbox.emulator.store import Credentials

REGION = "us-east-1"
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request"
    r",\s*SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})\Z"
)


class S3RefusedError(Exception):
    """A request that S3 refuses, with status, error code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def access_denied() -> S3RefusedError:
    """Return S3's error for a request that is not allowed."""
    return S3RefusedError(403, "AccessDenied", "Access Denied")


def expired_token() -> S3RefusedError:
    """Return S3's error for expired credentials."""
    return S3RefusedError(400, "ExpiredToken", "The provided token has expired.")


@dataclass(frozen=True)
class SignedRequest:
    """The parts of a request that a signature covers.

    :param path: the path as it arrived, still percent-encoded.
    :param query: the query string as it arrived.
    :param headers: names in lower case.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]


@dataclass(frozen=True)
class _Signature:
    """The signature of a request, from its ``Authorization`` header or its query.

    :param scope: the groups of ``AUTHORIZATION``.
    :param query: the query string without the signature.
    :param session: the session token.
    :param payload: the checksum of the body, or ``UNSIGNED-PAYLOAD``.
    :param timestamp: the time of signing.
    """

    scope: dict[str, str]
    query: str
    session: str
    payload: str
    timestamp: str


class _Verifier(S3SigV4Auth):  # type: ignore[misc]
    """botocore's signer, but with the list of signed headers from the client."""

    def __init__(self, credentials: BotoCredentials, signed: list[str]) -> None:
        super().__init__(credentials, "s3", REGION)
        self._signed = signed

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        headers = HTTPHeaders()
        for name in self._signed:
            headers[name] = request.headers.get(name, "")
        return headers


def verify(
    request: SignedRequest, *, find: Callable[[str], Credentials | None], clock: Callable[[], float]
) -> Credentials:
    """Return the credentials that a request is signed with.

    The signature can be in the ``Authorization`` header or in the query of a presigned URL. The time of signing is not
    compared with the emulator's clock, because tests set that clock to other days.

    :param find: returns issued credentials by access key id.
    :param clock: Unix time in seconds, for the expiry of credentials.
    :raises S3RefusedError: with S3's message if the signature is missing or wrong, or the credentials are not valid.
    """
    signature = _signature_of_header(request) if "authorization" in request.headers else _signature_of_query(request)
    _check_scope(signature)
    scope = signature.scope
    credentials = find(scope["key"])
    if credentials is None:
        raise S3RefusedError(
            403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
        )
    if "host" not in scope["headers"].split(";"):
        raise access_denied()
    if not hmac.compare_digest(_expected_signature(request, signature, credentials), scope["signature"]):
        raise S3RefusedError(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        )
    if not hmac.compare_digest(signature.session.encode(), credentials.session.encode()):
        raise S3RefusedError(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
    if clock() >= credentials.expires:
        raise expired_token()
    return credentials


def _check_scope(signature: _Signature) -> None:
    scope = signature.scope
    if scope["region"] != REGION or scope["service"] != "s3":
        raise S3RefusedError(
            400,
            "AuthorizationHeaderMalformed",
            f"The authorization header is malformed; the region '{scope['region']}' is wrong; expecting '{REGION}'",
        )
    if not re.fullmatch(r"\d{8}T\d{6}Z", signature.timestamp) or signature.timestamp[:8] != scope["date"]:
        raise S3RefusedError(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")


def _expected_signature(request: SignedRequest, signature: _Signature, credentials: Credentials) -> str:
    # The scheme is not signed; http only keeps botocore from guessing about the payload.
    url = f"http://{request.headers.get('host', '')}{request.path}" + (f"?{signature.query}" if signature.query else "")
    aws_request = AWSRequest(method=request.method, url=url, headers=dict(request.headers))
    aws_request.headers["X-Amz-Content-SHA256"] = signature.payload
    aws_request.context["timestamp"] = signature.timestamp
    boto_credentials = BotoCredentials(credentials.access_key, credentials.secret, credentials.session)
    verifier = _Verifier(boto_credentials, signature.scope["headers"].split(";"))
    string_to_sign = verifier.string_to_sign(aws_request, verifier.canonical_request(aws_request))
    return str(verifier.signature(string_to_sign, aws_request))


def _signature_of_header(request: SignedRequest) -> _Signature:
    match = AUTHORIZATION.match(request.headers["authorization"])
    if match is None:
        raise S3RefusedError(
            400, "AuthorizationHeaderMalformed", "The authorization header is malformed; AWS4-HMAC-SHA256 expected."
        )
    payload = request.headers.get("x-amz-content-sha256", "")
    if not payload:
        raise S3RefusedError(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    return _Signature(
        match.groupdict(),
        request.query,
        request.headers.get("x-amz-security-token", ""),
        payload,
        request.headers.get("x-amz-date", ""),
    )


def _signature_of_query(request: SignedRequest) -> _Signature:
    """Return the signature of a presigned URL."""
    values = dict(parse_qsl(urlsplit("?" + request.query).query, keep_blank_values=True))
    match = AUTHORIZATION.match(
        f"{values.get('X-Amz-Algorithm')} Credential={values.get('X-Amz-Credential')},"
        f"SignedHeaders={values.get('X-Amz-SignedHeaders')},Signature={values.get('X-Amz-Signature')}"
    )
    if match is None:
        raise access_denied()
    pairs = [pair for pair in parse_qsl(request.query, keep_blank_values=True) if pair[0] != "X-Amz-Signature"]
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    return _Signature(
        match.groupdict(),
        query,
        values.get("X-Amz-Security-Token", ""),
        "UNSIGNED-PAYLOAD",
        values.get("X-Amz-Date", ""),
    )
