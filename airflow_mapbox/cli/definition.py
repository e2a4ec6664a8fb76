"""The commands of ``airflow mapbox uploads``; imported at every start of ``airflow``, so it imports nothing heavy."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

from airflow_mapbox.cli.options import export_arguments
from airflow_mapbox.defaults import WAIT_TIMEOUT_SECONDS
from airflow_mapbox.export.options import FORMATS

_CONNECTION = Arg(
    ("-c", "--mapbox-conn-id", "--conn-id"),
    help="The mapbox connection (default: mapbox_default)",
    default="mapbox_default",
)
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
_WAIT = (
    _TIMEOUT,
    Arg(("--stall-timeout",), help="Seconds without progress that end the wait (default: none)", type=float),
    Arg(("--poll-interval",), help="Seconds between two status requests (default: 5)", type=float, default=5.0),
)
_UPLOAD = (
    Arg(("source",), help="A path, an object-storage or https:// URL, or mapbox://datasets/{user}/{id}"),
    Arg(("tileset",), help="The tileset to make or replace: name or account.name"),
    Arg(("--name",), help="The display name"),
    Arg(
        ("--format",),
        help="Export geodata first: geojson, mbtiles, or auto for whichever Mapbox takes of its size "
        "(default: the source is sent as it is)",
        choices=FORMATS,
    ),
    Arg(("--wait",), help="Wait until it is processed", action="store_true"),
    *_WAIT,
    Arg(
        ("--if-active",),
        help="If another upload of the tileset is being processed: wait for it, fail, or skip this upload with exit "
        "code 0 (default: wait)",
        choices=("wait", "fail", "skip"),
        default="wait",
    ),
    Arg(
        ("--active-timeout",),
        help=f"Seconds to wait for that other upload at most (default: {WAIT_TIMEOUT_SECONDS:g})",
        type=float,
        default=WAIT_TIMEOUT_SECONDS,
    ),
    Arg(("--part-size",), help="Bytes of each staged part (default: by the source's size)", type=int),
    Arg(("--parts-in-flight",), help="Parts sent at the same time (default: 4)", type=int, default=4),
    *_COMMON,
)
_UPLOAD_FLAGS = {flag for argument in _UPLOAD for flag in argument.flags}

_UPLOADS = (
    ActionCommand(
        name="upload",
        help="Check a file, stage it and create its upload",
        func=lazy_load_command("airflow_mapbox.cli.commands.upload"),
        args=(*_UPLOAD, *export_arguments(_UPLOAD_FLAGS)),
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
        args=(_ID, *_WAIT, *_COMMON),
    ),
    ActionCommand(
        name="delete",
        help="Remove a completed upload's status from the list; its tileset stays",
        func=lazy_load_command("airflow_mapbox.cli.commands.delete"),
        args=(_ID, *_COMMON),
    ),
)


def arguments_of(command: str) -> tuple[Arg, ...]:
    """
    Return the arguments of one command.

    :param command: such as ``upload``.
    """
    return next(tuple(known.args) for known in _UPLOADS if known.name == command)


def get_mapbox_cli_commands() -> list[GroupCommand]:
    """Give the commands to Airflow."""
    uploads = GroupCommand(name="uploads", help="Upload, list, show, wait, delete", subcommands=_UPLOADS)
    return [GroupCommand(name="mapbox", help="Publish tilesets at Mapbox", subcommands=(uploads,))]
