"""What Airflow discovers about this package; imports nothing of it."""

from __future__ import annotations

from typing import Any

_GUIDES = (
    "connect",
    "export",
    "vector-tiles",
    "preflight",
    "bill",
    "upload",
    "wait",
    "verify",
    "changes",
    "backfill",
    "retention",
    "layer-in-parts",
    "many-workers",
    "tilesets",
    "hook",
    "command-line",
    "lineage",
    "test-dags",
    "emulator",
    "docker",
    "interface",
    "examples",
)


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the form of Airflow's ``provider.yaml`` schema."""
    integration = "Mapbox"
    return {
        "package-name": "airflow-provider-mapbox",
        "name": "Mapbox",
        "description": "Publish geodata as Mapbox tilesets: export, stage, create the upload, wait.",
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://docs.mapbox.com/api/maps/uploads/",
                # Paths from the repository's root, as in the metadata of Airflow's own providers.
                "how-to-guide": [f"/docs/how-to/{guide}.md" for guide in _GUIDES],
                "logo": "/docs/integration-logos/airflow-provider-mapbox.svg",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {
                "integration-name": integration,
                "python-modules": ["airflow_mapbox.hooks.uploads", "airflow_mapbox.hooks.tilesets"],
            }
        ],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": ["airflow_mapbox.operators.uploads", "airflow_mapbox.operators.tilesets"],
            }
        ],
        "sensors": [
            {
                "integration-name": integration,
                "python-modules": ["airflow_mapbox.sensors.uploads", "airflow_mapbox.sensors.tilesets"],
            }
        ],
        "triggers": [
            {
                "integration-name": integration,
                "python-modules": ["airflow_mapbox.triggers.uploads", "airflow_mapbox.triggers.tilesets"],
            }
        ],
        "task-decorators": [
            {"name": "mapbox_upload", "class-name": "airflow_mapbox.decorators.uploads.mapbox_upload_task"}
        ],
        "asset-uris": [
            {
                "schemes": ["mapbox"],
                "handler": "airflow_mapbox.assets.uris.check_uri",
                "factory": "airflow_mapbox.assets.uris.create_asset",
                "to_openlineage_converter": "airflow_mapbox.assets.uris.to_openlineage",
            }
        ],
        "extra-links": ["airflow_mapbox.tasks.links.TilesetLink", "airflow_mapbox.tasks.links.UploadLink"],
        "cli": ["airflow_mapbox.cli.definition.get_mapbox_cli_commands"],
        "config": {
            "mapbox": {
                "description": "Settings of the Mapbox provider.",
                "options": {
                    "rates": {
                        "description": (
                            "Your account's rates for processing, as JSON. Reports show amounts at these rates.\n"
                            "Accounts opened since August 2024 need per_megabyte. Older accounts need per_km2, with a\n"
                            "price for each tier. No price is built in.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": '{"per_megabyte": 0.05, "currency": "USD"}',
                        "default": None,
                    }
                },
            }
        },
        "connection-types": [
            {
                "connection-type": "mapbox",
                "hook-class-name": "airflow_mapbox.hooks.uploads.MapboxUploadsHook",
                "hook-name": "Mapbox",
                "ui-field-behaviour": {
                    # The port is shown: Airflow 3.3.1 and 3.3.2 test no connection without one (apache/airflow#73298).
                    "hidden-fields": ["schema", "extra"],
                    "relabeling": {"password": "Secret token", "login": "Account", "host": "API base URL"},
                    "placeholders": {
                        "password": "sk.… with the scopes uploads:read, uploads:write and uploads:list",
                        "login": "if empty, it is read from the token",
                        "host": "https://api.mapbox.com",
                        "port": "0: Airflow 3.3's connection test needs it",
                    },
                },
                "conn-fields": {
                    "s3_endpoint_url": {
                        "label": "S3 endpoint URL",
                        "description": "An S3 server other than Amazon's, if a server replaces Mapbox in tests.",
                        "schema": {"type": ["string", "null"]},
                    }
                },
            }
        ],
    }
