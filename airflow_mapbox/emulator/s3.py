"""The staging bucket: moto's S3 behind a gate. Issued credentials give access to their own object only.

The gate is needed because moto's IAM check ignores resources. moto keeps its state per process and AWS account. So each
emulator has its own account number, and emulators in the same process share no state.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import logging
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl, quote, unquote
from wsgiref.types import StartResponse, WSGIEnvironment
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.exceptions import EntityTooSmall, InvalidPart
from moto.s3.models import FakeBucket, FakeKey, FakeMultipart, S3Backend, s3_backends
from moto.settings import S3_UPLOAD_PART_MIN_SIZE
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

from airflow_mapbox.emulator.body import BLOCK_BYTES, receive
from airflow_mapbox.emulator.faults import Faults
from airflow_mapbox.emulator.sigv4 import (
    REGION,
    S3RefusedError,
    SignedRequest,
    access_denied,
    expired_token,
    verify,
)
from airflow_mapbox.emulator.store import Credentials, Store

log = logging.getLogger(__name__)

_accounts = itertools.count(secrets.randbelow(8 * 10**11) + 10**11)

# The most bytes of a refused body that are still read.
MAX_DRAIN_BYTES = 64 << 20

# The operations that issued credentials allow on their object: HTTP method and query parameters.
ALLOWED_OPERATIONS: dict[str, tuple[frozenset[str], ...]] = {
    "PUT": (frozenset(), frozenset({"partNumber", "uploadId"})),
    "POST": (frozenset({"uploads"}), frozenset({"uploadId"})),
    "DELETE": (frozenset({"uploadId"}),),
    "GET": (frozenset(), frozenset({"uploadId"})),
    "HEAD": (frozenset(),),
}
# Amazon's limit (docs/reference/limits.md, "Rates and times"), and more bytes than a list of this many parts needs.
MAX_PARTS = 10_000
PART_NUMBER = re.compile(r"[0-9]{1,5}")
COMPLETION_BYTES = 4 << 20
# Headers that are removed, because moto fails on some of them and they do not change a staged object (access,
# encryption, dates). KEPT_HEADERS lists the exceptions.
REMOVED_HEADERS = ("HTTP_X_AMZ_", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE")
KEPT_HEADERS = (
    "HTTP_X_AMZ_META_",
    "HTTP_X_AMZ_CHECKSUM_",
    "HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM",
    "HTTP_X_AMZ_STORAGE_CLASS",
)
RANGE = re.compile(r"bytes=(\d{1,18}-\d{0,18}|-\d{1,18})")
# Parameters that do not change the operation.
NEUTRAL_PARAMETERS = frozenset({"x-id", "max-parts", "part-number-marker"})


@dataclass
class _RequestBody:
    """A request's body. It is closed after the response, unless :meth:`take` transferred it."""

    file: IO[bytes]
    size: int
    is_taken: bool = False

    def take(self) -> IO[bytes]:
        self.is_taken = True
        return self.file

    def close(self) -> None:
        if not self.is_taken:
            self.file.close()


# moto would hold the body in memory. So it gets an empty body, and the backend takes the real body from here.
_body: ContextVar[_RequestBody] = ContextVar("body")


class StagingBackend(S3Backend):
    """moto's S3, but with bodies as files in the emulator's folder.

    :param store: stores the finished objects.
    """

    def __init__(self, account_id: str, *, store: Store, bucket: str) -> None:
        super().__init__("aws", account_id)
        self._store = store
        # moto itself makes its buckets like this. The abstract property is only for CloudFormation.
        self._bucket: FakeBucket = FakeBucket(  # type: ignore[abstract]
            bucket, account_id=account_id, region_name=REGION
        )
        self.buckets[bucket] = self._bucket
        for key, file in store.staged_objects():
            self._restore_object(key, file)

    def put_object(self, bucket_name: str, key_name: str, value: bytes, *args: Any, **kwargs: Any) -> FakeKey:
        """Store an object as a file, before the response confirms it."""
        s3_object = super().put_object(bucket_name, key_name, value, *args, **kwargs)
        body = _body.get().file
        self._write_object(s3_object, iter(lambda: body.read(BLOCK_BYTES), b""))
        return s3_object

    def upload_part(self, bucket_name: str, multipart_id: str, part_id: int, value: bytes) -> FakeKey:
        """Store a part by keeping the file of its body."""
        part = super().upload_part(bucket_name, multipart_id, part_id, value)
        request_body = _body.get()
        part._value_buffer.close()
        part._value_buffer = request_body.take()  # type: ignore[assignment]
        part.contentsize = request_body.size
        return part

    def complete_multipart_upload(
        self, bucket_name: str, multipart_id: str, body: Iterator[tuple[int, str]]
    ) -> FakeKey | None:
        """Join the parts on disk. moto would hold three copies in memory."""
        multipart: FakeMultipart = self._bucket.multiparts[multipart_id]
        parts = list(self._check_parts(multipart, body))
        s3_object = FakeKey(
            name=multipart.key_name,
            bucket_name=bucket_name,
            value=b"",
            account_id=self.account_id,
            region_name=self.region_name,
            storage=multipart.storage,
            etag=_multipart_etag(parts),
            version_id="null",
        )
        s3_object.set_metadata(multipart.metadata)
        self._write_object(s3_object, itertools.chain.from_iterable(_blocks(part) for part in parts))
        self._bucket.keys.setlist(s3_object.name, [s3_object])
        del self._bucket.multiparts[multipart_id]
        multipart.dispose()
        return s3_object

    def abort_multipart_upload(self, bucket_name: str, multipart_id: str) -> None:
        """Delete the parts and their files."""
        multipart = self._bucket.multiparts.get(multipart_id)
        super().abort_multipart_upload(bucket_name, multipart_id)
        if multipart is not None:
            multipart.dispose()

    def has_multipart(self, multipart_id: str) -> bool:
        """Return whether a multipart upload exists."""
        return multipart_id in self._bucket.multiparts

    def remove_object(self, key_name: str) -> None:
        """Remove an object from the bucket, but not its file, which belongs to an upload now."""
        for s3_object in self._bucket.keys.getlist(key_name, []):
            # moto holds this lock while it reads.
            with s3_object.lock:
                s3_object.dispose()
        if key_name in self._bucket.keys:
            self._bucket.keys.pop(key_name)

    def close(self) -> None:
        """Close the files of all objects and parts."""
        for name in list(self._bucket.keys):
            self.remove_object(name)
        for multipart in list(self._bucket.multiparts.values()):
            multipart.dispose()
        self._bucket.multiparts.clear()

    def _check_parts(self, multipart: FakeMultipart, body: Iterator[tuple[int, str]]) -> Iterator[FakeKey]:
        last: FakeKey | None = None
        for number, etag in body:
            part = multipart.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise InvalidPart
            if last is not None and last.contentsize < S3_UPLOAD_PART_MIN_SIZE:
                raise EntityTooSmall
            last = part
            yield part

    def _write_object(self, s3_object: FakeKey, blocks: Iterable[bytes]) -> None:
        file = self._store.staged_file(s3_object.name)
        with tempfile.NamedTemporaryFile(dir=self._store.work, delete=False) as target:
            for block in blocks:
                target.write(block)
        Path(target.name).replace(file)
        self._attach_file(s3_object, file)

    def _restore_object(self, key: str, file: Path) -> None:
        s3_object = FakeKey(
            name=key, bucket_name=self._bucket.name, value=b"", account_id=self.account_id, region_name=REGION
        )
        self._attach_file(s3_object, file)
        self._bucket.keys.setlist(key, [s3_object])

    @staticmethod
    def _attach_file(s3_object: FakeKey, file: Path) -> None:
        s3_object._value_buffer.close()
        s3_object._value_buffer = file.open("rb")  # type: ignore[assignment]
        s3_object.contentsize = file.stat().st_size


def _blocks(part: FakeKey) -> Iterator[bytes]:
    part._value_buffer.seek(0)
    while block := part._value_buffer.read(BLOCK_BYTES):
        yield block


def _multipart_etag(parts: list[FakeKey]) -> str:
    digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


class StagingGate:
    """The WSGI application of the S3 port.

    :param store: stores the issued credentials and the objects.
    :param bucket: the staging bucket's name.
    :param clock: Unix time in seconds.
    :param faults: the pending faults; the gate applies those that expire credentials.
    """

    def __init__(self, store: Store, *, bucket: str, clock: Callable[[], float], faults: Faults) -> None:
        self._store = store
        self._faults = faults
        self._bucket = bucket
        self._clock = clock
        self._account = str(next(_accounts))
        self.backend = StagingBackend(self._account, store=store, bucket=bucket)
        s3_backends[self._account]["aws"] = self.backend
        self._moto = create_backend_app("s3")

    def close(self) -> None:
        """Remove this emulator's account from moto's process-wide state."""
        s3_backends.pop(self._account, None)
        self.backend.close()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Respond to a request."""
        head = environ["REQUEST_METHOD"] == "HEAD"
        # The server's own stream has no end. This one ends after the length in the headers.
        source = get_input_stream(environ)
        try:
            return self._respond(environ, source, start_response)
        except ClientDisconnected:
            incomplete = S3RefusedError(400, "IncompleteBody", "The request body terminated unexpectedly")
            return _error(incomplete, start_response, head=head)
        except S3RefusedError as refusal:
            _drain(source)
            return _error(refusal, start_response, head=head)
        except Exception:
            log.exception("S3 %s failed", environ["REQUEST_METHOD"])
            internal_error = S3RefusedError(500, "InternalError", "We encountered an internal error. Please try again.")
            return _error(internal_error, start_response, head=head)

    def _respond(self, environ: WSGIEnvironment, source: IO[bytes], start_response: StartResponse) -> Iterable[bytes]:
        request = _signed_request(environ)
        credentials = verify(request, find=self._store.find_credentials, clock=self._clock)
        key = self._allowed_key(request, credentials)
        self._apply_expiry(request, credentials)
        body, size, trailer = receive(source, request.headers, folder=self._store.work)
        request_body = _RequestBody(body, size)
        previous = _body.set(request_body)
        try:
            self._check_multipart(request, body)
            self._rewrite_for_moto(environ, request_body, trailer, key)
            return _ClosingResponse(self._call_moto(request, environ, start_response), request_body)
        except BaseException:
            request_body.close()
            raise
        finally:
            _body.reset(previous)

    def _call_moto(
        self, request: SignedRequest, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Return moto's response. If the upload was aborted while moto stored its part, refuse with NoSuchUpload."""
        try:
            return self._moto(environ, start_response)
        except Exception:
            self._check_exists(request)
            raise

    def _rewrite_for_moto(
        self, environ: WSGIEnvironment, request_body: _RequestBody, trailer: dict[str, str], key: str
    ) -> None:
        """Change the request to a form that moto understands."""
        # moto reads only the list of parts. All other bodies stay in files.
        is_part_list = environ["REQUEST_METHOD"] == "POST" and "uploadId" in environ.get("QUERY_STRING", "")
        environ["wsgi.input"] = request_body.file if is_part_list else io.BytesIO()
        environ["CONTENT_LENGTH"] = str(request_body.size) if is_part_list else "0"
        _path_style(environ, self._bucket, key)
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self._account
        for name, value in trailer.items():
            if name.startswith("x-amz-checksum-"):
                environ["HTTP_" + name.upper().replace("-", "_")] = value
        for name in [
            name for name in environ if name.startswith(REMOVED_HEADERS) and not name.startswith(KEPT_HEADERS)
        ]:
            del environ[name]
        if not RANGE.fullmatch(environ.get("HTTP_RANGE", "")):
            # S3 ignores a range that it does not understand.
            environ.pop("HTTP_RANGE", None)
        if not any(name.startswith("HTTP_X_AMZ_CHECKSUM_") for name in environ):
            # Otherwise moto would add a checksum of the empty body.
            environ.pop("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", None)

    def _apply_expiry(self, request: SignedRequest, credentials: Credentials) -> None:
        """Expire the credentials and refuse the request if a fault requires it."""
        length = request.headers.get("x-amz-decoded-content-length") or request.headers.get("content-length", "")
        path = request.path + (f"?{request.query}" if request.query else "")
        size = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0
        if self._faults.expires(request.method, path, key=credentials.key, size=size):
            self._store.expire_credentials(credentials.access_key)
            raise expired_token()

    def _check_multipart(self, request: SignedRequest, body: IO[bytes]) -> None:
        """Refuse invalid multipart requests that moto would fail on."""
        self._check_exists(request)
        query = _query(request)
        number = query.get("partNumber")
        if number is not None and not (PART_NUMBER.fullmatch(number) and 1 <= int(number) <= MAX_PARTS):
            raise S3RefusedError(400, "InvalidArgument", f"Part number must be an integer between 1 and {MAX_PARTS}.")
        if request.method == "POST" and "uploadId" in query:
            _check_completion(body.read(COMPLETION_BYTES))
            body.seek(0)

    def _check_exists(self, request: SignedRequest) -> None:
        upload = _query(request).get("uploadId")
        if upload is not None and not self.backend.has_multipart(upload):
            raise S3RefusedError(
                404,
                "NoSuchUpload",
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
                "aborted or completed.",
            )

    def _allowed_key(self, request: SignedRequest, credentials: Credentials) -> str:
        """Return the object's key, or refuse the request if the credentials do not allow it."""
        bucket, key = _bucket_and_key(request, self._bucket)
        if (bucket, key) != (credentials.bucket, credentials.key):
            raise access_denied()
        names = {name for name, _ in parse_qsl(request.query, keep_blank_values=True)}
        operation = {name for name in names - NEUTRAL_PARAMETERS if not name.lower().startswith("x-amz-")}
        # A copy reads another object, which issued credentials never allow.
        if operation not in ALLOWED_OPERATIONS.get(request.method, ()) or "x-amz-copy-source" in request.headers:
            raise access_denied()
        return key


def _check_completion(body: bytes) -> None:
    """Raise S3RefusedError if a body is not a valid list of parts."""
    try:
        # expat limits the expansion of entities.
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError:
        root = ElementTree.Element("nothing")
    parts = [{_local_name(field): field.text or "" for field in part} for part in root if _local_name(part) == "Part"]
    is_part_list = _local_name(root) == "CompleteMultipartUpload" and parts
    if not is_part_list or not all(
        PART_NUMBER.fullmatch(part.get("PartNumber", "")) and part.get("ETag") for part in parts
    ):
        raise S3RefusedError(
            400,
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published schema",
        )


def _local_name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


class _ClosingResponse:
    """A response that closes the request's body after it."""

    def __init__(self, response: Iterable[bytes], body: _RequestBody) -> None:
        self._response = response
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._body.close)
            if hasattr(self._response, "close"):
                stack.callback(self._response.close)


def _drain(source: IO[bytes]) -> None:
    """Read the rest of a refused body: a client reads the response only after it has sent the body."""
    remaining = MAX_DRAIN_BYTES
    with contextlib.suppress(ClientDisconnected):
        while remaining > 0 and (block := source.read(BLOCK_BYTES)):
            remaining -= len(block)


def _signed_request(environ: WSGIEnvironment) -> SignedRequest:
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    raw_uri = environ.get("RAW_URI") or quote(environ["PATH_INFO"])
    path = raw_uri.split("?", 1)[0]
    if "://" in path:
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    return SignedRequest(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), headers)


def _query(request: SignedRequest) -> dict[str, str]:
    return dict(parse_qsl(request.query, keep_blank_values=True))


def _bucket_and_key(request: SignedRequest, bucket: str) -> tuple[str, str]:
    """Return bucket and key of an address: ``{bucket}.host/key`` or ``host/bucket/key``."""
    path = unquote(request.path).removeprefix("/")
    if request.headers.get("host", "").startswith(f"{bucket}."):
        return bucket, path
    name, _, key = path.partition("/")
    return name, key


def _path_style(environ: WSGIEnvironment, bucket: str, key: str) -> None:
    """Change the address to ``s3.amazonaws.com/bucket/key``, and remove the headers of the decoded body."""
    path = f"/{bucket}/{key}"
    query = environ.get("QUERY_STRING", "")
    environ["HTTP_HOST"] = "s3.amazonaws.com"
    environ["PATH_INFO"] = path
    environ["RAW_URI"] = environ["REQUEST_URI"] = quote(path) + (f"?{query}" if query else "")
    for name in ("HTTP_X_AMZ_CONTENT_SHA256", "HTTP_X_AMZ_DECODED_CONTENT_LENGTH", "HTTP_X_AMZ_TRAILER"):
        environ.pop(name, None)
    for name in ("HTTP_TRANSFER_ENCODING", "wsgi.input_terminated"):
        environ.pop(name, None)
    encodings = [part.strip() for part in environ.get("HTTP_CONTENT_ENCODING", "").split(",")]
    other_encodings = ",".join(part for part in encodings if part not in ("", "aws-chunked"))
    environ.pop("HTTP_CONTENT_ENCODING", None)
    if other_encodings:
        environ["HTTP_CONTENT_ENCODING"] = other_encodings


def _error(refusal: S3RefusedError, start_response: StartResponse, *, head: bool) -> list[bytes]:
    request_id = secrets.token_hex(8).upper()
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
        f"<RequestId>{request_id}</RequestId></Error>"
    ).encode()
    # The connection is closed, because the rest of the body may be unread.
    headers = [
        ("Content-Type", "application/xml"),
        ("Content-Length", str(len(body))),
        ("x-amz-request-id", request_id),
        ("Connection", "close"),
    ]
    start_response(f"{refusal.status} {refusal.code}", headers)
    return [] if head else [body]
