"""Whether a request to S3 is signed with credentials that were issued: Signature Version 4, checked with botocore."""

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
    """An error of S3: a status, a code and a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def access_denied() -> S3RefusedError:
    """Return what S3 says where a request is not allowed."""
    return S3RefusedError(403, "AccessDenied", "Access Denied")


def expired_token() -> S3RefusedError:
    """Return what S3 says to credentials past their end."""
    return S3RefusedError(400, "ExpiredToken", "The provided token has expired.")


@dataclass(frozen=True)
class SignedRequest:
    """What a signature covers.

    :param path: the path as it arrived, still percent-encoded.
    :param query: the query string as it arrived.
    :param headers: names in lower case.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]


class _Verifier(S3SigV4Auth):  # type: ignore[misc]
    """botocore's signer, told by the client which headers are signed."""

    def __init__(self, credentials: BotoCredentials, signed: list[str]) -> None:
        super().__init__(credentials, "s3", REGION)
        self._signed = signed

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        chosen = HTTPHeaders()
        for name in self._signed:
            chosen[name] = request.headers.get(name, "")
        return chosen


def verify(
    request: SignedRequest, *, find: Callable[[str], Credentials | None], clock: Callable[[], float]
) -> Credentials:
    """Return the credentials a request is signed with.

    Both the ``Authorization`` header and a presigned query are understood. The time of signing is not compared with
    the emulator's clock, which can be set to another day than the client's.

    :param find: issued credentials by key id.
    :param clock: Unix time in seconds, for the credentials' end.
    :raises S3RefusedError: in S3's words where the request is not signed, or not with credentials that are good.
    """
    if "authorization" in request.headers:
        matched = AUTHORIZATION.match(request.headers["authorization"])
        if matched is None:
            raise S3RefusedError(
                400, "AuthorizationHeaderMalformed", "The authorization header is malformed; AWS4-HMAC-SHA256 expected."
            )
        scope = matched.groupdict()
        query = request.query
        session = request.headers.get("x-amz-security-token", "")
        payload = request.headers.get("x-amz-content-sha256", "")
        moment = request.headers.get("x-amz-date", "")
        if not payload:
            raise S3RefusedError(
                400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
            )
    else:
        scope, query, session, moment = _presigned(request)
        payload = "UNSIGNED-PAYLOAD"
    if scope["region"] != REGION or scope["service"] != "s3":
        raise S3RefusedError(
            400,
            "AuthorizationHeaderMalformed",
            f"The authorization header is malformed; the region '{scope['region']}' is wrong; expecting '{REGION}'",
        )
    if not re.fullmatch(r"\d{8}T\d{6}Z", moment) or moment[:8] != scope["date"]:
        raise S3RefusedError(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    credentials = find(scope["key"])
    if credentials is None:
        raise S3RefusedError(
            403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
        )
    signed = scope["headers"].split(";")
    if "host" not in signed:
        raise access_denied()
    boto = BotoCredentials(credentials.access_key, credentials.secret, credentials.session)
    # The scheme is not signed; http only keeps botocore from guessing about the payload.
    url = f"http://{request.headers.get('host', '')}{request.path}" + (f"?{query}" if query else "")
    aws = AWSRequest(method=request.method, url=url, headers=dict(request.headers))
    aws.headers["X-Amz-Content-SHA256"] = payload
    aws.context["timestamp"] = moment
    verifier = _Verifier(boto, signed)
    expected = verifier.signature(verifier.string_to_sign(aws, verifier.canonical_request(aws)), aws)
    if not hmac.compare_digest(expected, scope["signature"]):
        raise S3RefusedError(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        )
    if not hmac.compare_digest(session.encode(), credentials.session.encode()):
        raise S3RefusedError(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
    if clock() >= credentials.expires:
        raise expired_token()
    return credentials


def _presigned(request: SignedRequest) -> tuple[dict[str, str], str, str, str]:
    """Return scope, query without the signature, session token and time of a presigned URL."""
    values = dict(parse_qsl(urlsplit("?" + request.query).query, keep_blank_values=True))
    matched = AUTHORIZATION.match(
        f"{values.get('X-Amz-Algorithm')} Credential={values.get('X-Amz-Credential')},"
        f"SignedHeaders={values.get('X-Amz-SignedHeaders')},Signature={values.get('X-Amz-Signature')}"
    )
    if matched is None:
        raise access_denied()
    pairs = [pair for pair in parse_qsl(request.query, keep_blank_values=True) if pair[0] != "X-Amz-Signature"]
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    return matched.groupdict(), query, values.get("X-Amz-Security-Token", ""), values.get("X-Amz-Date", "")
