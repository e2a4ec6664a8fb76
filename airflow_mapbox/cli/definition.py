"""The commands of ``airflow mapbox uploads``; imported at every start of ``airflow``, so it imports nothing heavy."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

from airflow_mapbox.defaults import WAIT_TIMEOUT_SECONDS
from airflow_mapbox.export.formats import FORMATS

_CONNECTION = Arg(("-c", "--conn-id"), help="The mapbox connection (default: mapbox_default)", default="mapbox_default")
_JSON = Arg(("--json",), help="Print JSON, for scripts", action="store_true")
_VERBOSE = Arg(("-v", "--verbose"), help="Show what is logged", action="store_true")
_COMMON = (_CONNECTION, _JSON, _VERBOSE)
_ID = Arg(("upload_id",), help="The id of the upload")
_TIMEOUT = Arg(
    ("--timeout",),
    help=f"Seconds to wait for processing at most (default: {WAIT_TIMEOUT_SECONDS:g})",
    type=float,
    default=WAIT_TIMEOUT_SECONDS,
)

_UPLOADS = (
    ActionCommand(
        name="upload",
        help="Check a file, stage it and create its upload",
        func=lazy_load_command("airflow_mapbox.cli.commands.upload"),
        args=(
            Arg(("source",), help="A path, an object-storage or https:// URL, or mapbox://datasets/{user}/{id}"),
            Arg(("tileset",), help="The tileset to make or replace: name or account.name"),
            Arg(("--name",), help="The display name"),
            Arg(
                ("--format",),
                help="Export geodata first: geojson, mbtiles, or auto for whichever Mapbox takes of its size "
                "(default: the source is sent as it is)",
                choices=FORMATS,
            ),
            Arg(("--crs",), help="The reference system of data that does not say its own, such as EPSG:25832"),
            Arg(("--wait",), help="Wait until it is processed", action="store_true"),
            _TIMEOUT,
            Arg(
                ("--if-active",),
                help="Where the tileset is being processed by another upload: wait for it, or fail (default: wait)",
                choices=("wait", "fail"),
                default="wait",
            ),
            *_COMMON,
        ),
    ),
    ActionCommand(
        name="list",
        help="List the account's recent uploads, newest first",
        func=lazy_load_command("airflow_mapbox.cli.commands.list_uploads"),
        args=(
            Arg(("-n", "--limit"), help="How many at most (default: 25)", type=int, default=25),
            *_COMMON,
        ),
    ),
    ActionCommand(
        name="show",
        help="Show one upload",
        func=lazy_load_command("airflow_mapbox.cli.commands.show"),
        args=(_ID, *_COMMON),
    ),
    ActionCommand(
        name="wait",
        help="Wait until an upload is processed",
        func=lazy_load_command("airflow_mapbox.cli.commands.wait"),
        args=(_ID, _TIMEOUT, *_COMMON),
    ),
    ActionCommand(
        name="delete",
        help="Remove a completed upload's status from the list; its tileset stays",
        func=lazy_load_command("airflow_mapbox.cli.commands.delete"),
        args=(_ID, *_COMMON),
    ),
)


def get_mapbox_cli_commands() -> list[GroupCommand]:
    """Give the commands to Airflow."""
    uploads = GroupCommand(name="uploads", help="Upload, list, show, wait, delete", subcommands=_UPLOADS)
    return [GroupCommand(name="mapbox", help="Publish tilesets at Mapbox", subcommands=(uploads,))]
