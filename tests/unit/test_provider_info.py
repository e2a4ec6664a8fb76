"""What Airflow reads from the provider's metadata, by Airflow's own code."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator
from airflow.triggers.base import BaseTrigger

import airflow_mapbox
from airflow_mapbox.get_provider_info import get_provider_info
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def providers() -> Any:
    from airflow.providers_manager import ProvidersManager

    return ProvidersManager()


def test_the_entry_point_loads_the_provider_info() -> None:
    (entry,) = metadata.entry_points(group="apache_airflow_provider", name="provider_info").select(
        module="airflow_mapbox.get_provider_info"
    )
    assert entry.load()() == get_provider_info()


def test_provider_info_matches_airflows_schema_and_adds_no_key() -> None:
    import airflow

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    info = get_provider_info()

    jsonschema.validate(info, schema)
    # Airflow passes over unknown keys without a word.
    assert set(info) <= set(schema["properties"]) | {"integrations", "package-name", "name", "description"}


def test_provider_info_is_a_provider_yaml_by_airflows_own_schema() -> None:
    """This schema is strict where the other is lax: it also knows the tags and refuses unknown keys."""
    import airflow

    schema = json.loads((Path(airflow.__file__).parent / "provider.yaml.schema.json").read_text())
    # Airflow keeps these keys in provider.yaml only, for its own releases.
    of_a_release = {"state": "ready", "source-date-epoch": 0, "versions": [airflow_mapbox.__version__]}

    jsonschema.validate(get_provider_info() | of_a_release, schema)


def strings_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_in(item)


def test_every_python_name_in_it_can_be_imported() -> None:
    names = {name for name in strings_in(get_provider_info()) if name.startswith("airflow_mapbox.")}

    assert len(names) >= 10
    for name in names:
        pkgutil.resolve_name(name)


def test_every_guide_is_a_page_and_every_page_is_a_guide() -> None:
    (integration,) = get_provider_info()["integrations"]

    pages = {*(ROOT / "docs/how-to").glob("*.md")} - {ROOT / "docs/how-to/index.md"}
    assert sorted(integration["how-to-guide"]) == sorted(f"/{page.relative_to(ROOT)}" for page in pages)


def test_the_logo_is_a_picture_that_names_what_it_shows() -> None:
    (integration,) = get_provider_info()["integrations"]

    logo = ElementTree.parse(ROOT / integration["logo"].lstrip("/")).getroot()

    assert logo.tag == "{http://www.w3.org/2000/svg}svg"
    assert "airflow-provider-mapbox" in logo.attrib["aria-label"]


def test_every_integration_that_a_section_names_is_described() -> None:
    info = get_provider_info()
    described = {integration["integration-name"] for integration in info["integrations"]}

    named = {
        entry["integration-name"]
        for section in ("hooks", "operators", "sensors", "triggers")
        for entry in info[section]
    }

    assert named == described


def test_the_package_name_is_the_distributions() -> None:
    assert get_provider_info()["package-name"] == metadata.metadata("airflow-provider-mapbox")["Name"]


@pytest.mark.parametrize(
    ("section", "base"),
    [("hooks", BaseHook), ("operators", BaseOperator), ("sensors", BaseSensorOperator), ("triggers", BaseTrigger)],
)
def test_it_names_every_module_with_a_class_of_its_kind(section: str, base: type) -> None:
    folder = Path(airflow_mapbox.__path__[0]) / section
    modules = [importlib.import_module(f"airflow_mapbox.{section}.{file.stem}") for file in folder.glob("[!_]*.py")]
    expected = {
        module.__name__
        for module in modules
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, base) and item.__module__ == module.__name__
    }

    named = [module for integration in get_provider_info()[section] for module in integration["python-modules"]]

    assert sorted(named) == sorted(expected)


def test_airflow_finds_the_decorator() -> None:
    from airflow.sdk import task

    from airflow_mapbox.decorators.uploads import mapbox_upload_task

    assert task.mapbox_upload is mapbox_upload_task


def test_airflow_finds_the_commands() -> None:
    (path,) = get_provider_info()["cli"]
    module, _, name = path.rpartition(".")
    (mapbox,) = getattr(importlib.import_module(module), name)()
    uploads, tilesets, check = mapbox.subcommands

    assert (mapbox.name, uploads.name, tilesets.name, check.name) == ("mapbox", "uploads", "tilesets", "check")
    assert [command.name for command in uploads.subcommands] == ["upload", "list", "show", "wait", "delete"]
    assert [command.name for command in tilesets.subcommands] == ["list", "show", "delete", "publish", "unpublish"]


def test_airflow_lists_the_provider_and_its_version(providers: Any) -> None:
    import airflow_mapbox

    assert providers.providers["airflow-provider-mapbox"].version == airflow_mapbox.__version__


def test_airflow_finds_the_hook_of_the_connection_type(providers: Any) -> None:
    from airflow_mapbox.hooks.uploads import MapboxUploadsHook

    found = providers.hooks["mapbox"]
    assert (found.hook_name, found.package_name) == ("Mapbox", "airflow-provider-mapbox")
    assert found.connection_id_attribute_name == MapboxUploadsHook.conn_name_attr
    assert found.connection_testable is True
    module, _, name = found.hook_class_name.rpartition(".")
    assert getattr(importlib.import_module(module), name) is MapboxUploadsHook


def test_the_connection_form_asks_for_token_account_and_addresses() -> None:
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (form,) = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "mapbox"]

    assert form.hook_name == "Mapbox"
    assert form.standard_fields is not None
    labels = {
        "password": form.standard_fields.password.title,
        "login": form.standard_fields.login.title,
        "host": form.standard_fields.host.title,
    }
    assert labels == {"password": "Secret token", "login": "Account", "host": "API base URL"}
    # Airflow's connection test needs a stored port (apache/airflow#73298), so the form must let a user enter one.
    assert not form.standard_fields.port.hidden
    assert "0" in (form.standard_fields.port.placeholder or "")
    assert form.standard_fields.url_schema.hidden
    assert set(form.extra_fields or {}) == {"s3_endpoint_url"}


HEAVY = {"geopandas", "pandas", "pyproj", "shapely", "pyarrow", "boto3", "botocore", "requests", "orjson", "numpy"}
# Airflow's command imports the second, which imports the first; DAG files import the others after Airflow's own.
LIGHT = ["export", "cli.definition", "sensors.uploads", "operators.uploads", "operators.tilesets"]
IMPORTS = """
import importlib, json, sys

def new(name):
    before = set(sys.modules)
    importlib.import_module("airflow_mapbox." + name)
    return sorted(set(sys.modules) - before)

imported = {name: new(name) for name in sys.argv[1:3]}
import airflow.sdk, airflow.sdk.exceptions
from airflow.sdk import BaseOperator, BaseSensorOperator, PokeReturnValue, conf
print(json.dumps(imported | {name: new(name) for name in sys.argv[3:]}))
"""


@pytest.mark.slow
def test_modules_that_airflow_and_dag_files_import_pull_in_nothing_heavy() -> None:
    answer = subprocess.run([sys.executable, "-c", IMPORTS, *LIGHT], check=True, capture_output=True, text=True)
    imported = json.loads(answer.stdout.splitlines()[-1])

    assert list(imported) == LIGHT
    for name, modules in imported.items():
        assert f"airflow_mapbox.{name}" in modules
        assert not HEAVY & {module.partition(".")[0] for module in modules}, name
