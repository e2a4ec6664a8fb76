"""What ``airflow mapbox uploads`` does: the hook's methods, for people with a progress bar, for scripts with JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING

from airflow.cli.simple_table import AirflowConsole
from airflow.utils.cli import suppress_logs_and_warning
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TransferSpeedColumn

from airflow_mapbox.export.errors import ExportError
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.uploads.errors import MapboxError
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.staging import StagingOptions

if TYPE_CHECKING:
    from argparse import Namespace

_SECONDS_BETWEEN_LOOKS = 5.0
# Outside of a task the secrets backends that ask the database are a server's (airflow-3.3-notes.md, "Traps").
_CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"


def _command(function: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
    """Have connections found in Airflow's database, and errors told in a sentence with exit code 1."""

    @wraps(function)
    @suppress_logs_and_warning
    def run(args: Namespace) -> None:
        before = os.environ.get(_CONTEXT)
        os.environ[_CONTEXT] = "server"
        message = None
        try:
            function(args)
        except (MapboxError, ExportError) as error:
            message = str(error)
        finally:
            if before is None:
                del os.environ[_CONTEXT]
            else:
                os.environ[_CONTEXT] = before
        if message is not None:
            raise SystemExit(message)

    return run


@_command
def upload(args: Namespace) -> None:
    """Stage a file, create its upload, and wait for it where that is asked."""
    if args.crs and not args.format:
        raise SystemExit("--crs is for an export: add --format geojson, mbtiles or auto.")
    with _staging_bar(args.source) as progress:
        hook = MapboxUploadsHook(args.conn_id, staging=StagingOptions(progress=progress))
        made = hook.upload(
            args.source,
            args.tileset,
            args.name,
            format=args.format,
            export={"crs": args.crs} if args.crs else None,
            if_active=args.if_active,
        )
    if args.wait:
        made = _waited(hook, made.id, args)
    _print(made, args)


@_command
def list_uploads(args: Namespace) -> None:
    """List the account's recent uploads."""
    found = list(MapboxUploadsHook(args.conn_id).list_uploads(limit=args.limit))
    if args.json:
        print(json.dumps([made.to_json() for made in found]))
    else:
        AirflowConsole().print_as_table([_row(made) for made in found])


@_command
def show(args: Namespace) -> None:
    """Show one upload."""
    _print(MapboxUploadsHook(args.conn_id).get_upload(args.upload_id), args)


@_command
def wait(args: Namespace) -> None:
    """Wait until an upload is processed."""
    _print(_waited(MapboxUploadsHook(args.conn_id), args.upload_id, args), args)


@_command
def delete(args: Namespace) -> None:
    """Remove a completed upload's status."""
    MapboxUploadsHook(args.conn_id).delete_upload(args.upload_id)
    print(json.dumps({"deleted": args.upload_id}) if args.json else f"Deleted the status of upload {args.upload_id}.")


def _waited(hook: MapboxUploadsHook, upload_id: str, args: Namespace) -> Upload:
    columns = (TextColumn("Processing {task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with _bar(*columns) as bar:
        task = bar.add_task(upload_id, total=1.0)
        return hook.wait(
            upload_id,
            timeout=args.timeout,
            poll_interval=_SECONDS_BETWEEN_LOOKS,
            progress=lambda seen: bar.update(task, completed=seen.progress, description=seen.tileset),
        )


@contextmanager
def _staging_bar(source: str) -> Iterator[Callable[[int, int | None], None]]:
    columns = (TextColumn("Staging {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _bar(*columns) as bar:
        task = bar.add_task(os.path.basename(source), total=None)  # noqa: PTH119 - a URL as often as a path
        yield lambda count, size: bar.update(task, completed=count, total=size)


def _bar(*columns: ProgressColumn) -> Progress:
    """Give a bar that only a person sees, and that leaves nothing behind."""
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _print(made: Upload, args: Namespace) -> None:
    if args.json:
        print(json.dumps(made.to_json()))
    else:
        AirflowConsole().print_as_table([_row(made)])


def _row(made: Upload) -> dict[str, str]:
    return {
        "id": made.id,
        "tileset": made.tileset,
        "name": made.name or "",
        "state": _state(made),
        "created": made.created or "",
    }


def _state(made: Upload) -> str:
    if made.is_failed:
        return f"failed: {made.error}"
    return "done" if made.is_successful else f"processing, {made.progress:.0%}"
