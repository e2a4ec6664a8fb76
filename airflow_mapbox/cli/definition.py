"""Define the commands ``airflow mapbox``. Each start of ``airflow`` imports this, so it must import fast."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

from airflow_mapbox.cli.options import export_arguments
from airflow_mapbox.cli.times import age, moment
from airflow_mapbox.defaults import CONN_ID, IF_ACTIVE, IF_ACTIVE_CHOICES, PARTS_IN_FLIGHT, WAIT_TIMEOUT_SECONDS
from airflow_mapbox.export.options import FORMATS
from airflow_mapbox.uploads.selection import STATES as UPLOAD_STATES

_CONNECTION = Arg(
    ("-c", "--mapbox-conn-id", "--conn-id"),
    help=f"The mapbox connection (default: {CONN_ID})",
    default=CONN_ID,
)
_JSON = Arg(("--json",), help="Print JSON for scripts", action="store_true")
_VERBOSE = Arg(("-v", "--verbose"), help="Show the log", action="store_true")
_COMMON = (_CONNECTION, _JSON, _VERBOSE)
_TIME = "ISO 8601 with a time zone, or an age such as 12h or 7d"
_ID = Arg(("upload_id",), help="The id of the upload")
_TIMEOUT = Arg(
    ("--timeout",),
    help=f"Maximum seconds to wait for processing (default: {WAIT_TIMEOUT_SECONDS:g})",
    type=float,
    default=WAIT_TIMEOUT_SECONDS,
)
_WAIT = (
    _TIMEOUT,
    Arg(("--stall-timeout",), help="Fail after this many seconds without progress (default: never)", type=float),
    Arg(("--poll-interval",), help="Seconds between two polls (default: 5)", type=float, default=5.0),
)
_UPLOAD = (
    Arg(("source",), help="A path, an object-storage or https:// URL, or mapbox://datasets/{user}/{id}"),
    Arg(("tileset",), help="The tileset to create or replace: name or account.name"),
    Arg(("--name",), help="The display name"),
    Arg(
        ("--format",),
        help="Export geodata first: geojson, mbtiles, or auto, which chooses by the size of the data "
        "(default: send the source unchanged)",
        choices=FORMATS,
    ),
    Arg(("--wait",), help="Wait until the upload is processed", action="store_true"),
    *_WAIT,
    Arg(
        ("--if-active",),
        help="If Mapbox is processing another upload of the tileset: wait for it, fail, or skip this upload with exit "
        f"code 0 (default: {IF_ACTIVE})",
        choices=IF_ACTIVE_CHOICES,
        default=IF_ACTIVE,
    ),
    Arg(
        ("--active-timeout",),
        help=f"Maximum seconds to wait for the other upload with --if-active wait (default: {WAIT_TIMEOUT_SECONDS:g})",
        type=float,
        default=WAIT_TIMEOUT_SECONDS,
    ),
    Arg(("--part-size",), help="Bytes in each staged part (default: depends on the source's size)", type=int),
    Arg(
        ("--parts-in-flight",),
        help=f"Number of parts sent at the same time (default: {PARTS_IN_FLIGHT})",
        type=int,
        default=PARTS_IN_FLIGHT,
    ),
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
            Arg(
                ("-n", "--limit"),
                help="Maximum number of uploads (default: 25; all with --since or --count)",
                type=int,
            ),
            Arg(("--since",), help=f"Only uploads created at this time or later: {_TIME}", type=moment),
            Arg(("--until",), help=f"Only uploads created before this time: {_TIME}", type=moment),
            Arg(("--tileset",), help="Only uploads of this tileset: name or account.name"),
            Arg(("--state",), help="Only uploads in this state", choices=UPLOAD_STATES),
            Arg(("--count",), help="Print only the number of uploads", action="store_true"),
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
        help="Delete the status of a completed upload; its tileset stays",
        func=lazy_load_command("airflow_mapbox.cli.commands.delete"),
        args=(_ID, *_COMMON),
    ),
)

_TILESET = Arg(("tileset",), help="The tileset: name or account.name")
_TILESET_IDS = Arg(("tilesets",), help="The tilesets: name or account.name", nargs="+", metavar="TILESET")
_TILESETS = (
    ActionCommand(
        name="list",
        help="List the account's tilesets, newest first: size, area, compute units, age, visibility, and the totals",
        func=lazy_load_command("airflow_mapbox.cli.tilesets.list_tilesets"),
        args=(
            Arg(("--match",), help="Only names that match this shell pattern, such as 'earthquakes-*'"),
            Arg(("--type",), help="Only tilesets of this type", choices=("vector", "raster")),
            Arg(("--visibility",), help="Only tilesets of this visibility", choices=("public", "private")),
            Arg(
                ("--older-than",),
                help="Only tilesets whose last change is older than this age, such as 90d",
                type=age,
            ),
            Arg(
                ("--sort",),
                help="The time that decides which is newest (default: created)",
                choices=("created", "modified"),
                default="created",
            ),
            Arg(("-n", "--limit"), help="Maximum number of tilesets (default: all)", type=int),
            *_COMMON,
        ),
    ),
    ActionCommand(
        name="show",
        help="Show one tileset with its layers and zooms",
        func=lazy_load_command("airflow_mapbox.cli.tilesets.show"),
        args=(_TILESET, *_COMMON),
    ),
    ActionCommand(
        name="delete",
        help="Delete tilesets for good, after showing them and asking",
        func=lazy_load_command("airflow_mapbox.cli.tilesets.delete"),
        args=(_TILESET_IDS, Arg(("-y", "--yes"), help="Delete without asking", action="store_true"), *_COMMON),
    ),
    ActionCommand(
        name="publish",
        help="Make tilesets public, so that everybody can see them",
        func=lazy_load_command("airflow_mapbox.cli.tilesets.publish"),
        args=(_TILESET_IDS, *_COMMON),
    ),
    ActionCommand(
        name="unpublish",
        help="Make tilesets private, so that only the account's own tokens can see them",
        func=lazy_load_command("airflow_mapbox.cli.tilesets.unpublish"),
        args=(_TILESET_IDS, *_COMMON),
    ),
)

_CHECK = ActionCommand(
    name="check",
    help="Check a file for what Mapbox would refuse, and show its bill; exit code 1 if Mapbox would refuse it",
    func=lazy_load_command("airflow_mapbox.cli.check.check"),
    args=(
        Arg(("source",), help="A path, or an object-storage or https:// URL. Only parts of a remote file are read"),
        Arg(("--tileset",), help="Also check this name of a tileset: name or account.name"),
        Arg(("--name",), help="Also check this display name"),
        Arg(("--all-tiles",), help="Check every tile of MBTiles (default: a sample)", action="store_true"),
        Arg(
            ("--area",),
            help="Also measure the area, by which accounts opened before August 2024 are billed. A local file is then "
            "read again",
            action="store_true",
        ),
        _JSON,
        _VERBOSE,
    ),
)


def arguments_of(words: str) -> tuple[Arg, ...]:
    """
    Return the arguments of one command.

    :param words: the command after ``airflow mapbox``, such as ``"uploads upload"``.
    """
    group, _, name = words.rpartition(" ")
    commands = _TILESETS if group == "tilesets" else (*_UPLOADS, _CHECK)
    return next(tuple(candidate.args) for candidate in commands if candidate.name == name)


def get_mapbox_cli_commands() -> list[GroupCommand]:
    """Return the commands for Airflow."""
    uploads = GroupCommand(
        name="uploads", help="Upload a file; list, show, wait for and delete uploads", subcommands=_UPLOADS
    )
    tilesets = GroupCommand(
        name="tilesets", help="List, show, delete, publish and unpublish tilesets", subcommands=_TILESETS
    )
    return [GroupCommand(name="mapbox", help="Publish tilesets on Mapbox", subcommands=(uploads, tilesets, _CHECK))]
