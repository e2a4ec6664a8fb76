"""The staging bucket: one object for one set of credentials, and real S3 for that object."""

from __future__ import annotations

import dataclasses
import http.client
import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.emulator.s3 import StagingBackend
from tests.emulator.conftest import TOWNS, Account, Clock

MIB = 1 << 20


def refused(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call()
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def where(issued: dict[str, str]) -> dict[str, str]:
    return {"Bucket": issued["bucket"], "Key": issued["key"]}


def test_credentials_look_like_mapboxs(shared: Account) -> None:
    issued = shared.credentials()

    assert sorted(issued) == ["accessKeyId", "bucket", "key", "secretAccessKey", "sessionToken", "url"]
    folder, pending, upload_id, user = issued["key"].split("/")
    assert (len(folder), pending, user) == (2, "_pending", "acme")
    assert upload_id.startswith("c")
    assert issued["url"] == f"https://{issued['bucket']}.s3.amazonaws.com/{issued['key']}"


def test_each_call_issues_another_key(shared: Account) -> None:
    assert shared.credentials()["key"] != shared.credentials()["key"]


def test_an_object_that_was_put_can_be_read_back(shared: Account) -> None:
    issued = shared.credentials()
    s3 = shared.s3(issued)

    s3.put_object(**where(issued), Body=b"hello")

    assert s3.head_object(**where(issued))["ContentLength"] == 5
    assert s3.get_object(**where(issued))["Body"].read() == b"hello"
    assert s3.get_object(**where(issued), Range="bytes=1-2")["Body"].read() == b"el"


def test_a_second_put_replaces_the_first(shared: Account) -> None:
    issued = shared.credentials()
    s3 = shared.s3(issued)

    s3.put_object(**where(issued), Body=b"first")
    s3.put_object(**where(issued), Body=b"second")

    assert s3.get_object(**where(issued))["Body"].read() == b"second"


def test_a_file_over_eight_mebibytes_goes_up_in_parts(shared: Account) -> None:
    issued = shared.credentials()
    s3 = shared.s3(issued)
    data = os.urandom(20 * MIB + 1)

    s3.upload_fileobj(io.BytesIO(data), issued["bucket"], issued["key"])

    head = s3.head_object(**where(issued))
    assert head["ContentLength"] == len(data)
    assert head["ETag"].endswith('-3"')
    assert s3.get_object(**where(issued))["Body"].read() == data


def test_parts_can_be_listed_and_an_upload_aborted(shared: Account) -> None:
    issued = shared.credentials()
    s3 = shared.s3(issued)
    upload = s3.create_multipart_upload(**where(issued))["UploadId"]
    s3.upload_part(**where(issued), UploadId=upload, PartNumber=1, Body=b"part")

    assert [part["Size"] for part in s3.list_parts(**where(issued), UploadId=upload)["Parts"]] == [4]
    s3.abort_multipart_upload(**where(issued), UploadId=upload)

    assert refused(lambda: s3.list_parts(**where(issued), UploadId=upload)) == (404, "NoSuchUpload")
    assert refused(lambda: s3.head_object(**where(issued))) == (404, "404")


def test_a_part_of_an_upload_that_is_aborted_meanwhile_is_refused(
    shared: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = shared.credentials()
    s3 = shared.s3(issued)
    upload = s3.create_multipart_upload(**where(issued))["UploadId"]
    keep = StagingBackend.upload_part

    def keep_and_abort(self: StagingBackend, *arguments: Any, **options: Any) -> Any:
        part = keep(self, *arguments, **options)
        s3.abort_multipart_upload(**where(issued), UploadId=upload)
        return part

    monkeypatch.setattr(StagingBackend, "upload_part", keep_and_abort)

    def send() -> object:
        return s3.upload_part(**where(issued), UploadId=upload, PartNumber=1, Body=b"part")

    assert refused(send) == (404, "NoSuchUpload")


def test_parts_that_are_wrong_or_too_small_are_refused(shared: Account) -> None:
    issued = shared.credentials()
    s3 = shared.s3(issued)
    upload = s3.create_multipart_upload(**where(issued))["UploadId"]
    tags = [
        s3.upload_part(**where(issued), UploadId=upload, PartNumber=number, Body=b"small")["ETag"] for number in (1, 2)
    ]

    def complete(parts: list[dict[str, Any]]) -> Callable[[], Any]:
        return lambda: s3.complete_multipart_upload(**where(issued), UploadId=upload, MultipartUpload={"Parts": parts})

    both = [{"PartNumber": number, "ETag": tag} for number, tag in zip((1, 2), tags, strict=True)]
    assert refused(complete(both)) == (400, "EntityTooSmall")
    assert refused(complete([{"PartNumber": 1, "ETag": '"0"'}])) == (400, "InvalidPart")
    assert shared.create(issued["url"]).json() == {"message": "Could not access url"}


def test_the_body_of_a_staged_object_is_a_file_in_the_folder(acme: Account) -> None:
    issued = acme.credentials()
    data = os.urandom(9 * MIB)

    acme.s3(issued).upload_fileobj(io.BytesIO(data), issued["bucket"], issued["key"])

    [file] = (acme.emulator.folder / "staged").iterdir()
    assert file.read_bytes() == data


class TestNothingButTheObject:
    @pytest.fixture
    def issued(self, shared: Account) -> dict[str, str]:
        return shared.credentials()

    @pytest.fixture
    def s3(self, shared: Account, issued: dict[str, str]) -> Any:
        return shared.s3(issued)

    def test_another_key(self, shared: Account, issued: dict[str, str], s3: Any) -> None:
        other = shared.credentials()
        for key in (other["key"], issued["key"] + "x", issued["key"][:-1], "x"):
            assert refused(lambda key=key: s3.put_object(Bucket=issued["bucket"], Key=key, Body=b"")) == (
                403,
                "AccessDenied",
            )

    def test_another_bucket(self, issued: dict[str, str], s3: Any) -> None:
        assert refused(lambda: s3.put_object(Bucket="elsewhere", Key=issued["key"], Body=b"")) == (403, "AccessDenied")

    def test_staged_files_of_others_cannot_be_read(self, shared: Account, s3: Any) -> None:
        other = shared.stage(b"theirs")
        assert refused(lambda: s3.get_object(**where(other))) == (403, "AccessDenied")

    @pytest.mark.parametrize(
        ("operation", "options"),
        [
            ("list_objects_v2", {}),
            ("list_objects", {}),
            ("list_multipart_uploads", {}),
            ("get_bucket_location", {}),
            ("delete_bucket", {}),
            ("put_bucket_policy", {"Policy": "{}"}),
            ("delete_objects", {"Delete": {"Objects": [{"Key": "x"}]}}),
        ],
    )
    def test_bucket_operations_are_refused(
        self, issued: dict[str, str], s3: Any, operation: str, options: dict[str, Any]
    ) -> None:
        assert refused(lambda: getattr(s3, operation)(Bucket=issued["bucket"], **options)) == (403, "AccessDenied")

    def test_listing_all_buckets_is_refused(self, s3: Any) -> None:
        assert refused(s3.list_buckets) == (403, "AccessDenied")
        assert refused(lambda: s3.create_bucket(Bucket="mine")) == (403, "AccessDenied")

    @pytest.mark.parametrize(
        ("operation", "options"),
        [
            ("delete_object", {}),
            ("get_object_acl", {}),
            ("put_object_acl", {"ACL": "public-read"}),
            ("get_object_tagging", {}),
            ("put_object_tagging", {"Tagging": {"TagSet": []}}),
        ],
    )
    def test_other_verbs_on_the_object_are_refused(
        self, issued: dict[str, str], s3: Any, operation: str, options: dict[str, Any]
    ) -> None:
        s3.put_object(**where(issued), Body=b"x")
        assert refused(lambda: getattr(s3, operation)(**where(issued), **options)) == (403, "AccessDenied")

    def test_objects_of_others_cannot_be_copied(self, shared: Account, issued: dict[str, str], s3: Any) -> None:
        other = shared.stage(b"theirs")
        assert refused(lambda: s3.copy_object(**where(issued), CopySource=where(other))) == (403, "AccessDenied")


class TestSignatures:
    @pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
    def test_checksums_that_boto3_sends_are_checked_and_kept(self, shared: Account, algorithm: str) -> None:
        issued = shared.credentials()
        s3 = shared.s3(issued)

        put = s3.put_object(**where(issued), Body=b"hello", ChecksumAlgorithm=algorithm)

        assert put[f"Checksum{algorithm}"]
        got = s3.get_object(**where(issued), ChecksumMode="ENABLED")
        assert got[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]
        wrong = {f"Checksum{algorithm}": put[f"Checksum{algorithm}"]}
        assert refused(lambda: s3.put_object(**where(issued), Body=b"other", **wrong)) == (400, "BadDigest")

    @pytest.mark.parametrize(
        ("changed", "expected"),
        [
            ({"aws_access_key_id": "ASIAUNKNOWNUNKNOWN00"}, (403, "InvalidAccessKeyId")),
            ({"aws_secret_access_key": "wrong"}, (403, "SignatureDoesNotMatch")),
            ({"aws_session_token": "wrong"}, (400, "InvalidToken")),
            ({"aws_session_token": None}, (400, "InvalidToken")),
            ({"region_name": "eu-west-1"}, (400, "AuthorizationHeaderMalformed")),
        ],
    )
    def test_bad_credentials_are_refused_in_s3s_words(
        self, shared: Account, changed: dict[str, Any], expected: tuple[int, str]
    ) -> None:
        issued = shared.credentials()
        s3 = shared.s3(issued, **changed)

        assert refused(lambda: s3.put_object(**where(issued), Body=b"x")) == expected

    def test_expired_credentials_are_refused(self, tmp_path: Path, settings: EmulatorSettings) -> None:
        clock = Clock()
        with Emulator(tmp_path, settings=settings, clock=clock) as emulator:
            acme = Account(emulator)
            issued = acme.credentials()
            s3 = acme.s3(issued)
            clock.now += 3599
            s3.put_object(**where(issued), Body=b"x")
            clock.now += 1

            assert refused(lambda: s3.put_object(**where(issued), Body=b"x")) == (400, "ExpiredToken")

    def test_an_unsigned_request_is_denied_with_xml(self, shared: Account) -> None:
        issued = shared.credentials()

        answer = requests.put(f"{shared.emulator.s3_url}/{issued['bucket']}/{issued['key']}", data=b"x", timeout=10)

        assert answer.status_code == 403
        assert answer.headers["Content-Type"] == "application/xml"
        assert "<Code>AccessDenied</Code>" in answer.text

    def test_a_body_other_than_the_signed_one_is_refused(self, shared: Account) -> None:
        issued = shared.credentials()
        answer = self.send(shared, issued, signed=b"signed", sent=b"forged")

        assert answer.status_code == 400
        assert "XAmzContentSHA256Mismatch" in answer.text
        assert shared.create(issued["url"]).status_code == 422

    def test_an_unsigned_payload_is_taken(self, shared: Account) -> None:
        issued = shared.credentials()
        answer = self.send(shared, issued, signed=None, sent=b"whatever")

        assert answer.status_code == 200
        assert shared.s3(issued).get_object(**where(issued))["Body"].read() == b"whatever"

    def test_a_virtual_hosts_bucket_is_understood(self, shared: Account) -> None:
        issued = shared.credentials()
        answer = self.send(shared, issued, signed=b"x", sent=b"x", virtual=True)

        assert answer.status_code == 200
        assert shared.s3(issued).head_object(**where(issued))["ContentLength"] == 1

    def test_a_presigned_url_works_for_its_own_object_only(self, shared: Account) -> None:
        issued = shared.credentials()
        s3 = shared.s3(issued, config=Config(signature_version="s3v4"))
        url = s3.generate_presigned_url("put_object", Params=where(issued))

        assert requests.put(url, data=b"x", timeout=10).status_code == 200
        assert requests.delete(url, timeout=10).status_code == 403
        assert requests.put(url + "0", data=b"x", timeout=10).status_code == 403

    def test_a_chunked_body_with_its_checksum_behind_it_is_taken_apart(self, shared: Account) -> None:
        issued = shared.credentials()
        chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n"
        answer = self.send(
            shared,
            issued,
            sent=chunks,
            payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            headers={
                "Content-Encoding": "aws-chunked",
                "X-Amz-Trailer": "x-amz-checksum-crc32",
                "X-Amz-Decoded-Content-Length": "11",
            },
        )

        assert answer.status_code == 200, answer.text
        got = shared.s3(issued).get_object(**where(issued))
        assert got["Body"].read() == b"hello world"

    def test_a_client_that_hangs_up_leaves_nothing_staged(self, shared: Account) -> None:
        issued = shared.credentials()
        url, headers = self.signed(shared, issued)
        connection = http.client.HTTPConnection(headers["Host"], timeout=10)
        connection.putrequest("PUT", url.partition(headers["Host"])[2], skip_host=True)
        for name, value in {**headers, "Content-Length": "1000"}.items():
            connection.putheader(name, value)
        connection.endheaders(b"short")
        connection.sock.shutdown(socket.SHUT_WR)

        answer = connection.getresponse()
        assert (answer.status, b"IncompleteBody" in answer.read()) == (400, True)
        connection.close()
        assert shared.create(issued["url"]).json() == {"message": "Could not access url"}

    @pytest.mark.parametrize(
        ("chunks", "code"),
        [
            (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "BadDigest"),
            (b"5\r\nhel", "IncompleteBody"),
            (b"nonsense", "IncompleteBody"),
            (b"3\r\nhel\r\n0\r\n\r\n", "IncompleteBody"),
        ],
    )
    def test_a_chunked_body_that_is_cut_or_changed_is_refused(self, shared: Account, chunks: bytes, code: str) -> None:
        issued = shared.credentials()
        answer = self.send(
            shared,
            issued,
            sent=chunks,
            payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            headers={"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": "5"},
        )

        assert answer.status_code == 400
        assert f"<Code>{code}</Code>" in answer.text

    def send(self, acme: Account, issued: dict[str, str], *, sent: bytes, **options: Any) -> requests.Response:
        url, headers = self.signed(acme, issued, **options)
        return requests.put(url, data=sent, headers=headers, timeout=10)

    def signed(
        self,
        acme: Account,
        issued: dict[str, str],
        *,
        signed: bytes | None = None,
        payload: str | None = None,
        virtual: bool = False,
        headers: dict[str, str] | None = None,
    ) -> tuple[str, dict[str, str]]:
        """The address of a PUT, by number, and its headers signed by botocore."""
        host = acme.emulator.s3_url.removeprefix("http://")
        path = f"/{issued['key']}" if virtual else f"/{issued['bucket']}/{issued['key']}"
        name = f"{issued['bucket']}.{host}" if virtual else host
        request = AWSRequest(method="PUT", url=f"http://{name}{path}", data=signed, headers={"Host": name})
        for header, value in (headers or {}).items():
            request.headers[header] = value

        class Signer(S3SigV4Auth):  # type: ignore[misc]
            def payload(self, request: AWSRequest) -> str:
                return payload or ("UNSIGNED-PAYLOAD" if signed is None else str(super().payload(request)))

        keys = Credentials(issued["accessKeyId"], issued["secretAccessKey"], issued["sessionToken"])
        Signer(keys, "s3", "us-east-1").add_auth(request)
        return f"http://{host}{path}", {**dict(request.headers.items()), "Host": name}


def test_the_bucket_is_not_reachable_through_motos_own_pages(shared: Account) -> None:
    for path in ("/moto-api/data.json", "/moto-api/", "/latest/meta-data/", "/favicon.ico", "/"):
        assert requests.get(shared.emulator.s3_url + path, timeout=10).status_code == 403


@pytest.fixture
def neighbour(tmp_path: Path, settings: EmulatorSettings) -> Iterator[Account]:
    with Emulator(tmp_path / "neighbour", settings=dataclasses.replace(settings)) as running:
        yield Account(running)


def test_two_emulators_in_one_process_share_nothing(acme: Account, neighbour: Account) -> None:
    issued = acme.stage(TOWNS)

    assert refused(lambda: neighbour.s3(issued).head_object(**where(issued))) == (403, "403")
    assert neighbour.create(issued["url"]).json() == {"message": "Could not access url"}
    assert neighbour.call("GET").json() == []
