"""Check, make and translate asset URIs such as ``mapbox://tilesets/{account}.{name}``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.sdk import Asset

# The forms of the two kinds that this package uses. Each part has the characters that Mapbox accepts.
_PATHS = {
    "tilesets": (re.compile(r"/[A-Za-z0-9_-]{1,32}\.[A-Za-z0-9_-]{1,32}"), "{account}.{name}"),
    "datasets": (re.compile(r"/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+"), "{account}/{id}"),
}
# Other things that Mapbox's own URLs name. Their form is not checked.
_OTHER_KINDS = frozenset({"fonts", "sprites", "styles", "tileset-source"})


def check_uri(uri: SplitResult) -> SplitResult:
    """
    Refuse a URI that no tileset of this package would ever match. Airflow calls this for each asset of the scheme.

    :param uri: the URI's parts.
    :return: the same parts.
    :raises ValueError: if the URI has another form, such as Mapbox's own ``mapbox://acme.parcels``. The message names
        the right form.
    """
    if uri.netloc in _OTHER_KINDS:
        return uri
    if uri.netloc not in _PATHS:
        # In a style, Mapbox itself writes mapbox://account.name.
        example = uri.netloc if _PATHS["tilesets"][0].fullmatch(f"/{uri.netloc}") else "{account}.{name}"
        raise ValueError(
            f"mapbox://{uri.netloc}{uri.path.rstrip('/')} is not the URI of an asset.\n"
            f"Write a tileset as mapbox://tilesets/{example}, and a dataset as mapbox://datasets/{{account}}/{{id}}."
        )
    pattern, form = _PATHS[uri.netloc]
    if not pattern.fullmatch(uri.path):
        raise ValueError(
            f"mapbox://{uri.netloc}{uri.path} does not name one of Mapbox's {uri.netloc}.\n"
            f"Write it as mapbox://{uri.netloc}/{form}, with the characters A-Z, a-z, 0-9, - and _."
        )
    return uri


def create_asset(*, tileset: str, extra: dict[str, Any] | None = None) -> Asset:
    """
    Return the asset of a tileset. Airflow calls this for the lineage that a hook reports.

    :param tileset: ``account.name``.
    :param extra: the asset's extra.
    """
    from airflow.sdk import Asset

    uri = f"mapbox://tilesets/{tileset}"
    return Asset(name=uri, uri=uri, extra=extra)


def to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:  # noqa: ARG001 - Airflow passes both by name
    """
    Return the OpenLineage dataset of an asset. Its namespace and name together are the asset's URI.

    :param asset: the asset.
    :param lineage_context: the hook that reported it, or None.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    namespace, name = openlineage_name(asset.uri)
    return Dataset(namespace=namespace, name=name)


def openlineage_name(uri: str) -> tuple[str, str]:
    """
    Return the namespace and the name by which OpenLineage knows a Mapbox URI.

    :param uri: such as ``mapbox://tilesets/acme.parcels``.
    """
    parts = urlsplit(uri)
    return f"mapbox://{parts.netloc}", parts.path.lstrip("/")
