"""What ``airflow mapbox uploads`` does: the hook's methods, for people with a progress bar, for scripts with JSON."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING

from airflow.cli.simple_table import AirflowConsole
from airflow.utils.cli import suppress_logs_and_warning
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TransferSpeedColumn

from airflow_mapbox.cli.definition import arguments_of
from airflow_mapbox.cli.options import chosen_export
from airflow_mapbox.cli.spelling import Spelling
from airflow_mapbox.errors import MapboxError, OptionError
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.uploads.errors import UploadActiveError
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.once.ledger import Entry, MemoryLedger
from airflow_mapbox.uploads.staging.stager import StagingOptions

if TYPE_CHECKING:
    from argparse import Namespace

log = logging.getLogger(__name__)

# Outside of a task, Airflow asks its database for connections only in the processes of a server: without this,
# `BaseHook.get_connection` looks at environment variables alone.
_CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"
_INTERRUPTED = 130  # what a shell gives a command that Ctrl-C ended


def _command(function: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
    """Find connections in Airflow's database; tell errors in a sentence, with an exit code. Bugs keep a traceback."""

    @wraps(function)
    @suppress_logs_and_warning
    def run(args: Namespace) -> None:
        before = os.environ.get(_CONTEXT)
        os.environ[_CONTEXT] = "server"
        message, code = None, 1
        try:
            function(args)
        except (MapboxError, OptionError) as error:
            log.info("The command failed.", exc_info=True)
            message = str(error)
        except KeyboardInterrupt as error:
            message, code = str(error) or "Interrupted.", _INTERRUPTED
        finally:
            if before is None:
                del os.environ[_CONTEXT]
            else:
                os.environ[_CONTEXT] = before
        if message is None:
            return
        name = function.__name__.removesuffix("_uploads")
        spelled = Spelling(arguments_of(name), f"airflow mapbox uploads {name}")
        print(spelled(message), file=sys.stderr)
        if code == _INTERRUPTED:
            # At its usual end, Python waits for the threads that still send parts, which may take minutes.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        raise SystemExit(code)

    return run


@_command
def upload(args: Namespace) -> None:
    """Stage a file, create its upload, and wait for it if asked to."""
    ledger = MemoryLedger()
    try:
        with _staging_bar(args.source) as progress:
            options = StagingOptions(args.part_size, args.parts_in_flight, progress)
            hook = MapboxUploadsHook(args.mapbox_conn_id, staging=options)
            with _cancelled_by_interrupt(hook):
                made = hook.upload(
                    args.source,
                    args.tileset,
                    args.name,
                    format=args.format,
                    export=chosen_export(args),
                    if_active="wait" if args.if_active == "wait" else "fail",
                    active_timeout=args.active_timeout,
                    ledger=ledger,
                )
    except UploadActiveError as error:
        if args.if_active != "skip":
            raise
        print(json.dumps({"skipped": str(error)}) if args.json else f"{error}\nSkipped, as --if-active says.")
        return
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_after_interrupt(ledger.entry, args)) from None
    if args.wait:
        made = _waited(hook, made.id, args)
    _print(made, args)


@contextmanager
def _cancelled_by_interrupt(hook: MapboxUploadsHook) -> Iterator[None]:
    """Take back what is staged as soon as the user presses Ctrl-C, without waiting for the parts on their way."""

    def interrupt(*_: object) -> None:
        hook.cancel()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _after_interrupt(entry: Entry | None, args: Namespace) -> str:
    """Say what has become of an upload whose command was interrupted."""
    made = entry.created_upload() if entry is not None else None
    if made is not None:
        return _still_processed(made.id, args)
    if entry is not None and entry.in_doubt:
        return (
            f"Interrupted before Mapbox's answer arrived: the upload of tileset {entry.tileset} may exist.\n"
            f"Look for it with: {_command_line('list', args=args)}"
        )
    return "Interrupted. No upload was created."


def _still_processed(upload_id: str, args: Namespace) -> str:
    return (
        f"Interrupted. Upload {upload_id} exists, and Mapbox goes on processing it.\n"
        f"To go on waiting: {_command_line('wait', upload_id, args=args)}"
    )


def _command_line(*words: str, args: Namespace) -> str:
    connection = [] if args.mapbox_conn_id == MapboxUploadsHook.default_conn_name else ["-c", args.mapbox_conn_id]
    return shlex.join(["airflow", "mapbox", "uploads", *words, *connection])


@_command
def list_uploads(args: Namespace) -> None:
    """List the account's recent uploads."""
    found = list(MapboxUploadsHook(args.mapbox_conn_id).list_uploads(limit=args.limit))
    if args.json:
        print(json.dumps([made.to_json() for made in found]))
    else:
        AirflowConsole().print_as_table([_row(made) for made in found])


@_command
def show(args: Namespace) -> None:
    """Show one upload."""
    _print(MapboxUploadsHook(args.mapbox_conn_id).get_upload(args.upload_id), args)


@_command
def wait(args: Namespace) -> None:
    """Wait until an upload is processed."""
    _print(_waited(MapboxUploadsHook(args.mapbox_conn_id), args.upload_id, args), args)


@_command
def delete(args: Namespace) -> None:
    """Remove a completed upload's status."""
    MapboxUploadsHook(args.mapbox_conn_id).delete_upload(args.upload_id)
    print(json.dumps({"deleted": args.upload_id}) if args.json else f"Deleted the status of upload {args.upload_id}.")


def _waited(hook: MapboxUploadsHook, upload_id: str, args: Namespace) -> Upload:
    columns = (TextColumn("Processing {task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    try:
        with _bar(*columns) as bar:
            task = bar.add_task(upload_id, total=1.0)
            return hook.wait(
                upload_id,
                timeout=args.timeout,
                poll_interval=args.poll_interval,
                stall_timeout=args.stall_timeout,
                progress=lambda seen: bar.update(task, completed=seen.progress, description=seen.tileset),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_still_processed(upload_id, args)) from None


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
