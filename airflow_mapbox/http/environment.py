"""The proxy and the certificate authorities of the environment, as ``requests`` reads them, for every request."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3.util.ssl_ import create_urllib3_context

from airflow_mapbox.errors import ConfigurationError


@dataclass(frozen=True)
class Route:
    """
    How a server is reached and verified.

    :param proxy: URL of the proxy, which may contain a password; None for a direct connection.
    :param authorities: path of the PEM file or folder that certificates are verified with.
    """

    proxy: str | None = field(repr=False)
    authorities: str


def route_to(url: str) -> Route:
    """
    Return how ``requests`` would reach a server: HTTPS_PROXY, ALL_PROXY, NO_PROXY; REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE.

    The API, https sources and S3 all follow this one rule, so that no half of an upload can succeed where another
    fails. Plain http is only used on the loopback, which no proxy is for.

    :param url: of the server.
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
    Make what the servers of a route are verified with.

    :param route: of a server.
    :raises ConfigurationError: if its authorities cannot be read.
    """
    context = create_urllib3_context()
    folder = Path(route.authorities).is_dir()
    try:
        context.load_verify_locations(**{"capath" if folder else "cafile": route.authorities})
    except OSError:  # ssl's own is one
        pass
    else:
        return context
    raise ConfigurationError(
        "The certificates that the environment names in REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE cannot be read: check the "
        "path, and that they are PEM."
    )
