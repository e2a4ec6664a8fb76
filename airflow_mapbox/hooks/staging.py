"""The Amazon provider's S3 hook, with credentials that came from Mapbox instead of a connection."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
from botocore.awsrequest import AWSConnection

from airflow_mapbox.errors import without_frames
from airflow_mapbox.http.environment import Route, route_to, trust_in

if TYPE_CHECKING:
    from airflow_mapbox.uploads.models import StagingCredentials


class _StagingConnection(AwsConnectionWrapper):
    """Credentials from Mapbox: they last as long as one upload, so nobody is to be told to renew them."""

    def _get_credentials(self, *, aws_session_token: Any = None, **_: Any) -> tuple[Any, Any, Any]:
        return self.login, self.password, aws_session_token


class _StagingS3Hook(S3Hook):
    """An S3 hook whose connection exists in memory only, for as long as one file is being staged."""

    def __init__(self, connection: AwsConnectionWrapper) -> None:
        super().__init__(aws_conn_id=None)
        self._staging_connection = connection

    @cached_property
    def conn_config(self) -> AwsConnectionWrapper:
        return self._staging_connection


@without_frames
def staging_s3_client(credentials: StagingCredentials, endpoint_url: str | None, *, region: str) -> Any:
    """
    Make a boto3 S3 client for one staged file, with the Amazon provider's retries and user agent.

    Proxy and certificate authorities are those that the API is reached with: see
    :func:`~airflow_mapbox.http.environment.route_to`.

    :param credentials: from Mapbox.
    :param endpoint_url: another S3 than Amazon's, or None.
    :param region: of the bucket.
    """
    route = route_to(endpoint_url or f"https://{credentials.bucket}.s3.{region}.amazonaws.com")
    socks = route.proxy is not None and route.proxy.lower().startswith("socks")
    # S3 compares what arrives with the CRC-32 that comes with it, over a connection that is encrypted, or goes to the
    # loopback: to sign each body's SHA-256 as well would take longer than to send it (Amazon S3 API, "Authenticating
    # Requests: Using the Authorization Header", unsigned payload).
    s3: dict[str, object] = {"payload_signing_enabled": False}
    config: dict[str, object] = {
        "s3": s3,
        "retries": {"mode": "standard", "max_attempts": 5},
        "connect_timeout": 10,
        "read_timeout": 60,
        "proxies": {"https": route.proxy} if route.proxy and not socks else {},
    }
    extra: dict[str, object] = {
        "aws_session_token": credentials.session_token,
        "region_name": region,
        "config_kwargs": config,
        "verify": route.authorities,
    }
    if endpoint_url is not None:
        # A bucket's own host name exists at Amazon only.
        s3["addressing_style"] = "path"
        extra["endpoint_url"] = endpoint_url
    connection = _StagingConnection.from_connection_metadata(
        conn_id="temporary staging credentials from Mapbox",
        login=credentials.access_key_id,
        password=credentials.secret_access_key,
        extra=extra,
    )
    client = _StagingS3Hook(connection).get_conn()
    if socks or Path(route.authorities).is_dir():
        _follow(route, client)
    return client


def _follow(route: Route, client: Any) -> None:
    """
    Teach botocore what requests can and it can not: a SOCKS proxy, and a folder of authorities.

    Its HTTP session has no public way to either; tests/unit/hooks/test_environment.py says when it changes.
    """
    session = client._endpoint.http_session
    if Path(route.authorities).is_dir():
        trust = trust_in(route)
        session._setup_ssl_cert = lambda connection, *_: setattr(connection, "cert_reqs", "CERT_REQUIRED")
        session._get_ssl_context = lambda: trust
    options = session._get_pool_manager_kwargs()
    if route.proxy is not None and route.proxy.lower().startswith("socks"):
        from urllib3.contrib.socks import SOCKSHTTPSConnection, SOCKSHTTPSConnectionPool, SOCKSProxyManager

        connection = type("Connection", (AWSConnection, SOCKSHTTPSConnection), {})
        pool = type("Pool", (SOCKSHTTPSConnectionPool,), {"ConnectionCls": connection})
        session._manager = SOCKSProxyManager(route.proxy, **options)
        session._manager.pool_classes_by_scheme = {"https": pool}
    else:
        session._manager.connection_pool_kw.update(options)
