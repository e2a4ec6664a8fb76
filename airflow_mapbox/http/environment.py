"""The proxy and the certificate authorities that the environment sets for a server, as ``requests`` reads them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3.util.ssl_ import create_urllib3_context

from airflow_mapbox.errors import ConfigurationError

UNREADABLE_CERTIFICATES = (
    "The certificates in REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE cannot be read: check the path, and that they are PEM."
)


@dataclass(frozen=True)
class Route:
    """
    How to reach a server and verify it.

    :param proxy: URL of the proxy, which may contain a password; None for a direct connection.
    :param authorities: path of the PEM file or folder of the certificate authorities.
    """

    proxy: str | None = field(repr=False)
    authorities: str


def route_to(url: str) -> Route:
    """
    Return the route that ``requests`` would take: HTTPS_PROXY, ALL_PROXY, NO_PROXY; REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE.

    The API, https sources and S3 all use this function, so that they work or fail together. Plain http is used only on
    the loopback, which needs no proxy.

    :param url: URL of the server.
    """
    with requests.Session() as session:
        settings = session.merge_environment_settings(url, {}, False, None, None)
    proxy = select_proxy(url, settings["proxies"]) if url.startswith("https:") else None
    verify = settings["verify"]
    return Route(
        f"http://{proxy}" if proxy and "://" not in proxy else proxy or None,
        verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH,
    )


def trust_in(route: Route) -> ssl.SSLContext:
    """
    Return the TLS context that verifies the servers of a route.

    :param route: the route.
    :raises ConfigurationError: if the certificate authorities cannot be read.
    """
    context = create_urllib3_context()
    folder = Path(route.authorities).is_dir()
    try:
        context.load_verify_locations(**{"capath" if folder else "cafile": route.authorities})
    except OSError:  # ssl.SSLError is one too
        pass
    else:
        return context
    raise ConfigurationError(UNREADABLE_CERTIFICATES)
