from __future__ import annotations

import time
from pathlib import Path

import pytest

from airflow_mapbox.security.endpoints import check_endpoint, origin, refuse_secrets
from airflow_mapbox.security.redaction import has_secret, redact
from airflow_mapbox.uploads.errors import ConfigurationError
from tests.unit.support import all_text_of

CANARY = "c4nary0secret"


@pytest.mark.parametrize(
    "source",
    [
        f"https://user:{CANARY}@example.com/x.geojson",
        f"s3://AKIAEXAMPLE:{CANARY}/with/slashes@bucket/key.geojson",
        f"postgresql+psycopg://user:{CANARY}@db/gis",
        f"https://:{CANARY}@example.com/x",
        f"ftp://user:{CANARY}@127.0.0.1:21/x",
        f"https://b.s3.amazonaws.com/x?X-Amz-Algorithm=A&X-Amz-Credential={CANARY}&X-Amz-Signature={CANARY}",
        f"https://b.s3.amazonaws.com/x?X-Amz-Security-Token={CANARY}",
        f"https://b.s3.amazonaws.com/x?AWSAccessKeyId=AKIA&Expires=1&Signature={CANARY}",
        f"https://acct.blob.core.windows.net/c/x.geojson?sv=2022&sr=b&sig={CANARY}",
        f"https://storage.googleapis.com/b/x?X-Goog-Credential={CANARY}&X-Goog-Signature={CANARY}",
        f"https://storage.googleapis.com/b/x?GoogleAccessId=a&Signature={CANARY}",
        f"https://api.mapbox.com/datasets/v1/u/d?access_token={CANARY}",
        f"https://example.com/x?api_key={CANARY}",
        f"https://example.com/x?apikey={CANARY}",
        f"https://example.com/x#access_token={CANARY}",
        Path(f"https://user:{CANARY}@example.com/x.geojson"),
        Path(f"s3://b/x?X-Amz-Signature={CANARY}"),
    ],
)
def test_a_source_with_a_secret_is_refused_with_advice_and_without_the_secret(source: object) -> None:
    with pytest.raises(ConfigurationError, match="connection") as caught:
        refuse_secrets(source)

    assert CANARY not in all_text_of(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "/data/x.geojson",
        "/data/sig=nal/key=value.geojson",
        "/data/me@home:x.geojson",
        "https://example.com/x.geojson?version=2&keyword=roads",
        "https://example.com:8443/@user/x.geojson",
        "s3://aws_default@bucket/key.geojson",
        "mapbox://datasets/orion/cjz0",
        "file:///data/a:b@c.geojson",
        Path("/data/x.geojson"),
        None,
        7,
    ],
)
def test_a_source_without_one_passes(source: object) -> None:
    refuse_secrets(source)


def test_a_slash_at_the_end_of_an_endpoint_is_taken_off() -> None:
    assert check_endpoint("https://api.example.com/base/", "here") == "https://api.example.com/base"


def test_the_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="the extra"):
        check_endpoint("http://example.com", "the extra")


def test_an_origin_has_the_schemes_default_port() -> None:
    assert origin("https://h/x") == origin("https://h:443/y")
    assert origin("http://h/x") == origin("http://h:80")
    assert origin("https://h") != origin("http://h")


def test_the_scheme_is_compared_in_lower_case() -> None:
    assert check_endpoint("HTTP://localhost:8787/", "x") == "http://localhost:8787"
    with pytest.raises(ConfigurationError, match="plain http"):
        check_endpoint("HTTP://api.example", "x")


@pytest.mark.parametrize(
    "source",
    [
        "https://ghp_canary@host.example/x.geojson",
        " https://user:canary@host.example/x.geojson",
        "https://host.example/x?accesstoken=canary",
        "https://host.example/x?auth=canary",
        "https://host.example/x?pwd=canary",
        "https://host.example/x?subscription-key=canary",
        "https://host.example/x?client_secret=canary",
    ],
)
def test_more_ways_to_carry_a_secret_are_refused(source: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        refuse_secrets(source)
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize(
    "source", ["https://host.example/x?monkey=1&keyboard=2", "s3://my_conn@bucket/key=1/x.geojson"]
)
def test_words_that_only_look_like_a_secret_pass(source: str) -> None:
    refuse_secrets(source)


_KEY = "a1B2c3D4e5F6g7H8canary"


@pytest.mark.parametrize(
    "source",
    [
        "https://host.example/x?private_token=canary",
        "https://host.example/x?a=1&jwt=canary",
        f"https://host.example/x?code={_KEY}",
        f"https://host.example/x?key={_KEY}",
        f"https://host.example/x?session={_KEY}",
        f"https://host.example/x?PHPSESSIONID={_KEY}",
        "https://host.example/x?x-oss-signature=canary",
        "https://host.example/x?hdnts=exp=1~hmac=canary",
        "https://host.example/x;token=canary",
        "/vsicurl/https://user:canary@host.example/x.gpkg",
        "/vsicurl?url=https://host.example/x&userpwd=me:canary",
        "PG:host=db dbname=gis user=me password=canary",
        "PG:host=db password='canary with spaces' dbname=gis",
        "PG:dbname=gis password = canary",
        "PG:dbname=gis password='ca\\'nary canary'",
        "PG:dbname=gis password='canary",
        "OCI:scott/canary:TABLE",
        "https://host.example/x?authorization=Bearer canary",
        "https://host.example/x?%74oken=canary",
        "/vsicurl?url=https%3A%2F%2Fuser%3Acanary%40host.example",
        "//user:canary@host.example/x",
        f"https://host.example/x?appid={_KEY}",
        "https://host.example/x?consumer_key=canary",
        ["/x.geojson", "https://user:canary@host.example/x"],
        {"path": "/x.geojson", "was": "https://host.example/x?token=canary"},
        b"https://user:canary@host.example/x",
        "postgresql://me:canary@db/gis",
        "PG:postgresql://db/gis?user=me&password=canary",
        "MYSQL:gis,user=me,password=canary,port=3306",
        "MSSQL:server=db;database=gis;UID=me;PWD=canary",
        "OCI:me/canary@db:layer",
        "ODBC:me/canary@dsn",
        "MONGODBV3:mongodb://me:canary@db/gis",
        "ES:https://me:canary@search.example",
        "CARTO:account api_key=canary",
    ],
)
def test_passwords_of_databases_and_keys_under_other_names_are_refused(source: object) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        refuse_secrets(source)

    assert "canary" not in all_text_of(refusal.value)
    if isinstance(source, str) and "%" not in source:
        assert "canary" not in redact(f"GDAL says: {source} cannot be opened")


@pytest.mark.parametrize(
    "source",
    [
        "https://host.example/x?code=DE",
        "https://host.example/x?code=DE-BW-2026-01-01",
        "https://host.example/x?key=population_density_2020",
        "https://host.example/x?session=spring2026",
        "https://host.example/x?state=california&id=20260101",
        "https://host.example/x?date=2026-01-01T00:00:00Z&hash=roads",
        "https://host.example/x?monkey=banana&keywords=a,b",
        "https://host.example/x?id=6f1c9b9e-3b1a-4d2e-9f00-1a2b3c4d5e6f",
        "https://host.example/x?id=30e5fe3149c34df1ba922e6f5bbf808f",
        "https://host.example/uc?export=download&id=1A2b3C4d5E6f7G8h9I0j",
        "https://host.example/x?key=exports/2024-01-15/part-0003-v2.geojson",
        "https://host.example/x?key=obs_2024_01_15_v2_final_r3",
        "https://host.example/x?hash=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c",
        "https://host.example/x?geo_code=US-CA-06037-2020-BG1-T2",
        "https://host.example/x?session=2024Q1_run2_part3_v4",
        "https://host.example/x?page_token=abc&nextToken=def",
        "PG:host=db dbname=gis user=me",
        "/data/token=abc/password=def/part.parquet",
        "/vsizip//data/x.zip/a.shp",
        "s3://my_conn@bucket/dt=2026-01-01/part.parquet",
    ],
)
def test_words_dates_and_folders_are_not_secrets(source: str) -> None:
    refuse_secrets(source)
    assert redact(source) == source


@pytest.mark.parametrize(
    "piece",
    [
        *("0123456789abcdef", "a:/", "?k=", "&key=a1", "x@", "http:/", "password", "=", "a.", "a://b:", "x://y:z"),
        *("OCI:a/", "//a:", "password='", "token = ", "code=1a", "https://a", "%3D", "k.", "sk.a"),
    ],
)
def test_checks_for_secrets_take_linear_time(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        began = time.process_time()
        has_secret(text)
        redact(text)
        return time.process_time() - began

    # 128,058 characters of hexadecimal WKB took 16.7 s.
    assert seconds(200_000) < 4
