"""The staging bucket: moto's S3 behind a gate that lets issued credentials reach their own object and nothing else.

moto's own IAM check knows actions and not resources, so the gate decides. moto keeps its state per process and per AWS
account: each emulator has an account number of its own, and so has nothing in common with another in the same process.
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

from airflow_mapbox.emulator.body import BLOCK, receive
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

# Bytes of a refused body that are still read.
DRAINED = 64 << 20

# What the issued credentials may do with their object: method to the query parameters that make an operation of it.
ALLOWED: dict[str, tuple[frozenset[str], ...]] = {
    "PUT": (frozenset(), frozenset({"partNumber", "uploadId"})),
    "POST": (frozenset({"uploads"}), frozenset({"uploadId"})),
    "DELETE": (frozenset({"uploadId"}),),
    "GET": (frozenset(), frozenset({"uploadId"})),
    "HEAD": (frozenset(),),
}
# The most there may be, and more bytes than the list of so many takes.
PARTS = 10_000
PART_NUMBER = re.compile(r"[0-9]{1,5}")
COMPLETION_BYTES = 4 << 20
# Headers that moto stumbles over and that change nothing about a staged object: access, encryption, dates; and those of
# them that do.
UNREAD = ("HTTP_X_AMZ_", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE")
READ = ("HTTP_X_AMZ_META_", "HTTP_X_AMZ_CHECKSUM_", "HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", "HTTP_X_AMZ_STORAGE_CLASS")
RANGE = re.compile(r"bytes=(\d{1,18}-\d{0,18}|-\d{1,18})")
# Parameters that select no other operation.
INNOCENT = frozenset({"x-id", "max-parts", "part-number-marker"})


@dataclass
class _Received:
    """A request's body, which is closed behind the answer unless somebody has taken it."""

    file: IO[bytes]
    size: int
    is_taken: bool = False

    def take(self) -> IO[bytes]:
        self.is_taken = True
        return self.file

    def close(self) -> None:
        if not self.is_taken:
            self.file.close()


# moto hands a body on as bytes in memory; it is given none, and the backend takes the real one from here.
_body: ContextVar[_Received] = ContextVar("body")


class StagingBackend(S3Backend):
    """moto's S3 with bodies in the emulator's folder.

    :param store: where finished objects are kept.
    """

    def __init__(self, account_id: str, *, store: Store, bucket: str) -> None:
        super().__init__("aws", account_id)
        self._store = store
        # moto makes its buckets so, too; the abstract property is CloudFormation's.
        self._bucket: FakeBucket = FakeBucket(  # type: ignore[abstract]
            bucket, account_id=account_id, region_name=REGION
        )
        self.buckets[bucket] = self._bucket
        for key, file in store.staged_objects():
            self._adopt(key, file)

    def put_object(self, bucket_name: str, key_name: str, value: bytes, *args: Any, **kwargs: Any) -> FakeKey:
        """Store an object and keep it as a file before the answer says that it is stored."""
        stored = super().put_object(bucket_name, key_name, value, *args, **kwargs)
        body = _body.get().file
        self._keep(stored, iter(lambda: body.read(BLOCK), b""))
        return stored

    def upload_part(self, bucket_name: str, multipart_id: str, part_id: int, value: bytes) -> FakeKey:
        """Store a part in the file that it was received to."""
        part = super().upload_part(bucket_name, multipart_id, part_id, value)
        received = _body.get()
        part._value_buffer.close()
        part._value_buffer = received.take()  # type: ignore[assignment]
        part.contentsize = received.size
        return part

    def complete_multipart_upload(
        self, bucket_name: str, multipart_id: str, body: Iterator[tuple[int, str]]
    ) -> FakeKey | None:
        """Join the parts on disk; moto would do it in memory, three times over."""
        multipart: FakeMultipart = self._bucket.multiparts[multipart_id]
        parts = list(self._chosen_parts(multipart, body))
        stored = FakeKey(
            name=multipart.key_name,
            bucket_name=bucket_name,
            value=b"",
            account_id=self.account_id,
            region_name=self.region_name,
            storage=multipart.storage,
            etag=_multipart_etag(parts),
            version_id="null",
        )
        stored.set_metadata(multipart.metadata)
        self._keep(stored, itertools.chain.from_iterable(_blocks(part) for part in parts))
        self._bucket.keys.setlist(stored.name, [stored])
        del self._bucket.multiparts[multipart_id]
        multipart.dispose()
        return stored

    def abort_multipart_upload(self, bucket_name: str, multipart_id: str) -> None:
        """Drop the parts and their files."""
        multipart = self._bucket.multiparts.get(multipart_id)
        super().abort_multipart_upload(bucket_name, multipart_id)
        if multipart is not None:
            multipart.dispose()

    def has_multipart(self, multipart_id: str) -> bool:
        """Return whether a multipart upload is under way."""
        return multipart_id in self._bucket.multiparts

    def forget(self, key_name: str) -> None:
        """Take an object out of the bucket; its file is somebody else's by now."""
        for stored in self._bucket.keys.getlist(key_name, []):
            # moto reads under this lock.
            with stored.lock:
                stored.dispose()
        if key_name in self._bucket.keys:
            self._bucket.keys.pop(key_name)

    def close(self) -> None:
        """Let go of all bodies."""
        for name in list(self._bucket.keys):
            self.forget(name)
        for multipart in list(self._bucket.multiparts.values()):
            multipart.dispose()
        self._bucket.multiparts.clear()

    def _chosen_parts(self, multipart: FakeMultipart, body: Iterator[tuple[int, str]]) -> Iterator[FakeKey]:
        last: FakeKey | None = None
        for number, etag in body:
            part = multipart.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise InvalidPart
            if last is not None and last.contentsize < S3_UPLOAD_PART_MIN_SIZE:
                raise EntityTooSmall
            last = part
            yield part

    def _keep(self, stored: FakeKey, blocks: Iterable[bytes]) -> None:
        file = self._store.staged_file(stored.name)
        with tempfile.NamedTemporaryFile(dir=self._store.work, delete=False) as target:
            for block in blocks:
                target.write(block)
        Path(target.name).replace(file)
        self._use(stored, file)

    def _adopt(self, key: str, file: Path) -> None:
        stored = FakeKey(
            name=key, bucket_name=self._bucket.name, value=b"", account_id=self.account_id, region_name=REGION
        )
        self._use(stored, file)
        self._bucket.keys.setlist(key, [stored])

    @staticmethod
    def _use(stored: FakeKey, file: Path) -> None:
        stored._value_buffer.close()
        stored._value_buffer = file.open("rb")  # type: ignore[assignment]
        stored.contentsize = file.stat().st_size


def _blocks(part: FakeKey) -> Iterator[bytes]:
    part._value_buffer.seek(0)
    while block := part._value_buffer.read(BLOCK):
        yield block


def _multipart_etag(parts: list[FakeKey]) -> str:
    digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


class StagingGate:
    """The WSGI application of the S3 port.

    :param store: issued credentials, and where objects are kept.
    :param bucket: the one bucket.
    :param clock: Unix time in seconds.
    :param faults: those that end credentials after some bytes.
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
        """Take this emulator's account out of moto's process-wide state."""
        s3_backends.pop(self._account, None)
        self.backend.close()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        head = environ["REQUEST_METHOD"] == "HEAD"
        # The server's own input has no end: what bounds it is the length in the headers.
        source = get_input_stream(environ)
        try:
            return self._answer(environ, source, start_response)
        except ClientDisconnected:
            cut = S3RefusedError(400, "IncompleteBody", "The request body terminated unexpectedly")
            return _error(cut, start_response, head=head)
        except S3RefusedError as refusal:
            _drain(source)
            return _error(refusal, start_response, head=head)
        except Exception:
            log.exception("S3 %s failed", environ["REQUEST_METHOD"])
            broken = S3RefusedError(500, "InternalError", "We encountered an internal error. Please try again.")
            return _error(broken, start_response, head=head)

    def _answer(self, environ: WSGIEnvironment, source: IO[bytes], start_response: StartResponse) -> Iterable[bytes]:
        request = _signed_request(environ)
        credentials = verify(request, find=self._store.find_credentials, clock=self._clock)
        key = self._allowed_key(request, credentials)
        self._expire_in_time(request, credentials)
        body, size, trailer = receive(source, request.headers, folder=self._store.work)
        received = _Received(body, size)
        before = _body.set(received)
        try:
            self._check_multipart(request, body)
            self._readdress(environ, received, trailer, key)
            return _Closing(self._answered_by_moto(request, environ, start_response), received)
        except BaseException:
            received.close()
            raise
        finally:
            _body.reset(before)

    def _answered_by_moto(
        self, request: SignedRequest, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Have moto answer; an upload that was aborted while its part came in is gone, and no fault of the server."""
        try:
            return self._moto(environ, start_response)
        except Exception:
            self._check_exists(request)
            raise

    def _readdress(self, environ: WSGIEnvironment, received: _Received, trailer: dict[str, str], key: str) -> None:
        """Make the request one that moto understands."""
        # Only the list of parts is for moto to read.
        is_list = environ["REQUEST_METHOD"] == "POST" and "uploadId" in environ.get("QUERY_STRING", "")
        environ["wsgi.input"] = received.file if is_list else io.BytesIO()
        environ["CONTENT_LENGTH"] = str(received.size) if is_list else "0"
        _path_style(environ, self._bucket, key)
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self._account
        for name, value in trailer.items():
            if name.startswith("x-amz-checksum-"):
                environ["HTTP_" + name.upper().replace("-", "_")] = value
        for name in [name for name in environ if name.startswith(UNREAD) and not name.startswith(READ)]:
            del environ[name]
        if not RANGE.fullmatch(environ.get("HTTP_RANGE", "")):
            # S3 passes over one that it does not understand.
            environ.pop("HTTP_RANGE", None)
        if not any(name.startswith("HTTP_X_AMZ_CHECKSUM_") for name in environ):
            # moto would make up the checksum that is missing, of no body.
            environ.pop("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", None)

    def _expire_in_time(self, request: SignedRequest, credentials: Credentials) -> None:
        """End the credentials where a fault wants it, and refuse."""
        length = request.headers.get("x-amz-decoded-content-length") or request.headers.get("content-length", "")
        path = request.path + (f"?{request.query}" if request.query else "")
        size = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0
        if self._faults.expires(request.method, path, key=credentials.key, size=size):
            self._store.expire_credentials(credentials.access_key)
            raise expired_token()

    def _check_multipart(self, request: SignedRequest, body: IO[bytes]) -> None:
        """Refuse what moto would stumble over."""
        self._check_exists(request)
        query = _query(request)
        number = query.get("partNumber")
        if number is not None and not (PART_NUMBER.fullmatch(number) and 1 <= int(number) <= PARTS):
            raise S3RefusedError(400, "InvalidArgument", f"Part number must be an integer between 1 and {PARTS}.")
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
        """Return the object's key where the request is for it, or refuse."""
        bucket, key = _bucket_and_key(request, self._bucket)
        if (bucket, key) != (credentials.bucket, credentials.key):
            raise access_denied()
        names = {name for name, _ in parse_qsl(request.query, keep_blank_values=True)}
        operation = {name for name in names - INNOCENT if not name.lower().startswith("x-amz-")}
        # A copy reads another object, which nobody was given the right to.
        if operation not in ALLOWED.get(request.method, ()) or "x-amz-copy-source" in request.headers:
            raise access_denied()
        return key


def _check_completion(body: bytes) -> None:
    """Refuse a list of parts that is none."""
    try:
        # expat bounds what entities may grow to.
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError:
        root = ElementTree.Element("nothing")
    parts = [{_local_name(field): field.text or "" for field in part} for part in root if _local_name(part) == "Part"]
    is_list = _local_name(root) == "CompleteMultipartUpload" and parts
    if not is_list or not all(PART_NUMBER.fullmatch(part.get("PartNumber", "")) and part.get("ETag") for part in parts):
        raise S3RefusedError(
            400,
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published schema",
        )


def _local_name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


class _Closing:
    """An answer that closes the request's body behind it."""

    def __init__(self, answer: Iterable[bytes], body: _Received) -> None:
        self._answer = answer
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._answer)

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._body.close)
            if hasattr(self._answer, "close"):
                stack.callback(self._answer.close)


def _drain(source: IO[bytes]) -> None:
    """Read what is left of a refused body: a client that is still sending would not see the answer."""
    left = DRAINED
    with contextlib.suppress(ClientDisconnected):
        while left > 0 and (block := source.read(BLOCK)):
            left -= len(block)


def _signed_request(environ: WSGIEnvironment) -> SignedRequest:
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    raw = environ.get("RAW_URI") or quote(environ["PATH_INFO"])
    path = raw.split("?", 1)[0]
    if "://" in path:
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    return SignedRequest(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), headers)


def _query(request: SignedRequest) -> dict[str, str]:
    return dict(parse_qsl(request.query, keep_blank_values=True))


def _bucket_and_key(request: SignedRequest, bucket: str) -> tuple[str, str]:
    """Take an address apart: ``{bucket}.host/key`` or ``host/bucket/key``."""
    path = unquote(request.path).removeprefix("/")
    if request.headers.get("host", "").startswith(f"{bucket}."):
        return bucket, path
    name, _, key = path.partition("/")
    return name, key


def _path_style(environ: WSGIEnvironment, bucket: str, key: str) -> None:
    """Address moto as ``s3.amazonaws.com/bucket/key``, whatever the client's way, with the body plain."""
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
    kept = ",".join(part for part in encodings if part not in ("", "aws-chunked"))
    environ.pop("HTTP_CONTENT_ENCODING", None)
    if kept:
        environ["HTTP_CONTENT_ENCODING"] = kept


def _error(refusal: S3RefusedError, start_response: StartResponse, *, head: bool) -> list[bytes]:
    request_id = secrets.token_hex(8).upper()
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
        f"<RequestId>{request_id}</RequestId></Error>"
    ).encode()
    # The body was perhaps not read to its end, so the connection can't carry another request.
    headers = [
        ("Content-Type", "application/xml"),
        ("Content-Length", str(len(body))),
        ("x-amz-request-id", request_id),
        ("Connection", "close"),
    ]
    start_response(f"{refusal.status} {refusal.code}", headers)
    return [] if head else [body]
