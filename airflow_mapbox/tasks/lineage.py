"""What a task read and which tileset it made, for Airflow's lineage and for OpenLineage."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_mapbox.assets.uris import openlineage_name
from airflow_mapbox.security.redaction import redact
from airflow_mapbox.tasks.state import stored_value

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import BaseHook, Context

    from airflow_mapbox.uploads.models import Upload

log = logging.getLogger(__name__)

# The key of what hooks have read, in the task state store.
_INPUTS_KEY = "mapbox_lineage"
_POSTGRES = "postgres://"


@dataclass
class Lineage:
    """
    What one task knows of its data's way. Every process of a task fills it anew, also after a deferral.

    :param source: URI of the data; None if it is unknown or no file, object or dataset.
    :param tileset: ``account.name``; None before it is known.
    :param upload: the upload; None before it exists.
    :param base_url: base URL of the API; None if it is unknown.
    :param facts: facts about the source, as the result of the upload task has them.
    :param hook_inputs: URIs that the hooks of an earlier process of this task have read.
    """

    source: str | None = None
    tileset: str | None = None
    upload: Upload | None = None
    base_url: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    hook_inputs: Sequence[str] = ()

    def to_openlineage(self) -> OperatorLineage[Any, Any]:
        """Return what the OpenLineage provider asks an operator for. It is installed if this is called."""
        from airflow.providers.common.compat.openlineage.facet import (
            Dataset,
            ExternalQueryRunFacet,
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )
        from airflow.providers.openlineage.extractors import OperatorLineage

        source = [] if self.source is None else [Dataset(*dataset_name(self.source))]
        # The hook has reported the source too, if this is the process that read it.
        reported = None if self.source is None else _as_asset_uri(self.source)
        others = [uri for uri in [*self.hook_inputs, *collected_inputs()] if uri != reported]
        datasets = [*_to_datasets(others), *source]
        inputs = {(dataset.namespace, dataset.name): dataset for dataset in datasets}
        outputs, run_facets = [], {}
        if self.tileset is not None:
            facets: dict[str, Any] = {}
            statistics: dict[str, Any] = {}
            if self.upload is not None:
                bill = self.facts.get("bill")
                facets["mapbox_upload"] = _facet_class()(
                    uploadId=self.upload.id,
                    displayName=self.upload.name,
                    complete=self.upload.complete,
                    bytes=self.facts.get("bytes"),
                    features=self.facts.get("features"),
                    bounds=self.facts.get("bounds"),
                    # Without the advice on savings, whose keys are the names of the data's columns.
                    bill={name: value for name, value in bill.items() if name != "savings"}
                    if isinstance(bill, Mapping)
                    else None,
                )
            if "bytes" in self.facts:
                statistics["outputStatistics"] = OutputStatisticsOutputDatasetFacet(
                    rowCount=self.facts.get("features"), size=self.facts["bytes"], fileCount=1
                )
            namespace, name = openlineage_name(f"mapbox://tilesets/{self.tileset}")
            outputs = [OutputDataset(namespace, name, facets=facets, outputFacets=statistics)]
        if self.upload is not None:
            # OpenLineage's standard facet for the id of a job in another system.
            run_facets["externalQuery"] = ExternalQueryRunFacet(
                externalQueryId=self.upload.id, source=self.base_url or "Mapbox Uploads API"
            )
        return OperatorLineage(inputs=list(inputs.values()), outputs=outputs, run_facets=run_facets)


def source_uri(source: object) -> str | None:
    """
    Return the URI of a source without its query and its connection; None if it has none, as a function.

    A problem is logged: lineage is no reason to fail an upload. The hook refuses a source that is not valid.

    :param source: a source, as the operator takes it, or the whole report of an export.
    """
    try:
        return _source_uri(source)
    except Exception as error:
        log.info("The source is not in the lineage: %s", redact(str(error)))
        return None


def _source_uri(source: object) -> str | None:
    from airflow_mapbox.sources.identity import file_url_path, has_scheme
    from airflow_mapbox.sources.source import ReadablePath

    if isinstance(source, Mapping):
        source = source.get("path")
    if not isinstance(source, str | os.PathLike | ReadablePath):
        return None
    text = file_url_path(source) or str(source)
    if not has_scheme(text):
        return f"file://{Path(text).absolute()}"
    parts = urlsplit(text)
    # Airflow writes the connection before the bucket: s3://my_conn@bucket/key.
    host = parts.netloc.rpartition("@")[2]
    return redact(parts._replace(netloc=host, query="", fragment="").geturl())


def dataset_name(uri: str) -> tuple[str, str]:
    """
    Return the namespace and the name that OpenLineage's naming conventions give a URI.

    :param uri: the URI.
    """
    if uri.startswith("file://"):
        return "file", uri.removeprefix("file://")  # a path may contain ? and #
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/") or "/"


def _as_asset_uri(uri: str) -> str:
    """Return a URI whose path Airflow leaves as it is: an asset's URI loses what follows a # in it."""
    path = uri.removeprefix("file://")
    if path == uri or not ("#" in path or "?" in path):
        return uri
    return "file://" + path.replace("%", "%25").replace("#", "%23").replace("?", "%3F")


def report_to_collector(hook: BaseHook, source: object, tileset: str) -> None:
    """
    Report an upload to Airflow's collector of the lineage of hooks. A problem is logged and does not end the upload.

    :param hook: the hook that made the upload.
    :param source: the source, as the hook took it.
    :param tileset: ``account.name``.
    """
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    try:
        collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        uri = source_uri(source)
        if uri is not None:
            collector.add_input_asset(context=hook, uri=_as_asset_uri(uri))
        collector.add_output_asset(context=hook, scheme="mapbox", asset_kwargs={"tileset": tileset})
    except Exception as error:
        # Each scheme's provider checks URIs by rules of its own.
        log.info("The upload of tileset %s is not in the lineage of hooks: %s", tileset, redact(str(error)))


def report_tables(hook: BaseHook, sql: str, *, host: str | None, port: int | None, database: str | None) -> None:
    """
    Report the tables that a PostgreSQL query reads. Without OpenLineage's SQL parser nothing is reported.

    A table without a schema counts as one of ``public``. Nothing is reported of a server without a single host: one
    behind a socket, or one of several.

    :param hook: the hook that the collector names.
    :param sql: the query.
    :param host: host of the server; None for this machine.
    :param port: its port; None for 5432.
    :param database: the database; None for the default one.
    """
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    try:
        from openlineage.common.sql import parse

        server = _server(host)
        if server is None:
            return
        statement, functions = _for_parser(sql)
        parsed = parse([statement], dialect="postgres", default_schema="public")
        collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        for table in parsed.in_tables if parsed else ():
            names = (database or "postgres", table.schema or "public", table.name)
            if table.name.lower() in functions or any(mark in name for name in names for mark in "/?#"):
                continue
            # The form of Airflow's own asset URIs for PostgreSQL.
            collector.add_input_asset(context=hook, uri=f"{_POSTGRES}{server}:{port or 5432}/{'/'.join(names)}")
    except ImportError:
        return
    except Exception as error:
        log.info("The tables of the query are not in the lineage of hooks: %s", redact(str(error)))


def _server(host: str | None) -> str | None:
    """Return the host as a URI has it; None for the folder of a socket, and for a list of hosts."""
    from ipaddress import IPv6Address

    host = host or "localhost"
    with suppress(ValueError):
        return f"[{IPv6Address(host)}]"
    return host if re.fullmatch(r"[A-Za-z0-9._-]+", host) else None


def _for_parser(sql: str) -> tuple[str, set[str]]:
    """
    Return a query that the parser understands, and the names of the functions in it that look like tables.

    The parser does not know psycopg's placeholders. It takes the ONLY of `FROM ONLY parcels` for a table, and a
    function for one too.
    """
    # The patterns are compiled here, because a DAG file imports this module.
    gap = r"(?:\s|/\*.*?\*/|--[^\n]*\n)*"
    only = rf'(\bFROM|\bJOIN|,){gap}\bONLY\b{gap}(?:\(\s*([\w".]+)\s*\)|(?=["\w]))'
    function = rf'(?:\bFROM|\bJOIN|,){gap}(?:LATERAL\b{gap})?(?:[\w"]+\s*\.\s*)?"?(\w+)"?{gap}\('
    statement = re.sub(r"%\(\w+\)[sbt]|%[sbt]", "NULL", sql)
    statement = re.sub(only, r"\1 \2", statement, flags=re.IGNORECASE | re.DOTALL)
    return statement, {name.lower() for name in re.findall(function, statement, re.IGNORECASE | re.DOTALL)}


def collected_inputs() -> list[str]:
    """Return the URIs that hooks have read in this process, for example in a function that makes the data."""
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    collected = get_hook_lineage_collector().collected_assets  # type: ignore[no-untyped-call]
    return [redact(item.asset.uri) for item in collected.inputs]


def save_inputs(context: Context) -> None:
    """
    Keep what hooks have read until the end of the wait. Another process ends it, and its hooks have read nothing.

    :param context: the task's context.
    """
    try:
        inputs = collected_inputs()
        if inputs:
            stored_value(context, _INPUTS_KEY).write({"inputs": inputs})
    except Exception as error:  # lineage is no reason to fail an upload
        log.info("The lineage of this upload lacks what other hooks have read: %s", redact(str(error)))


def saved_inputs(context: Context) -> list[str]:
    """
    Return what :func:`save_inputs` has kept for this task.

    :param context: the task's context.
    """
    with suppress(Exception):  # as in `save_inputs`
        return list((stored_value(context, _INPUTS_KEY).read() or {}).get("inputs", ()))
    return []


def _to_datasets(uris: Iterable[str]) -> list[Any]:
    """Return the datasets of URIs, by the converter of each scheme's provider. Without one, a URI is left out."""
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.utils.utils import translate_airflow_asset
    from airflow.sdk import Asset

    datasets = []
    for uri in uris:
        try:
            dataset = translate_airflow_asset(Asset(uri), None)
        except Exception as error:  # each scheme's provider has rules of its own
            log.info("An input is not in the lineage: %s", redact(str(error)))
            continue
        if dataset is None and uri.startswith(_POSTGRES):  # its provider need not be installed
            server, *table = uri.removeprefix(_POSTGRES).split("/")
            dataset = Dataset(namespace=f"{_POSTGRES}{server}", name=".".join(table))
        if dataset is not None:
            datasets.append(dataset)
    return datasets


@cache
def _facet_class() -> type[Any]:
    """Return the class of the facet ``mapbox_upload``. Its base class exists only with the OpenLineage provider."""
    import attrs
    from airflow.providers.common.compat.openlineage.facet import DatasetFacet

    @attrs.define(kw_only=True)
    class MapboxUploadDatasetFacet(DatasetFacet):
        """The upload that made a tileset."""

        uploadId: str  # noqa: N815 - OpenLineage's names of fields
        displayName: str | None  # noqa: N815
        complete: bool
        bytes: int | None
        features: int | None
        bounds: list[float] | None
        bill: dict[str, Any] | None

    return MapboxUploadDatasetFacet
