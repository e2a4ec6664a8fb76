"""Run the hook's methods as ``airflow mapbox uploads``: with a progress bar for people, with JSON for scripts."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TransferSpeedColumn

from airflow_mapbox.cli.options import chosen_export
from airflow_mapbox.cli.running import command
from airflow_mapbox.cli.tables import print_table
from airflow_mapbox.defaults import CONN_ID
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from airflow_mapbox.uploads.errors import UploadActiveError
from airflow_mapbox.uploads.links import tileset_page, upload_page
from airflow_mapbox.uploads.models import Upload
from airflow_mapbox.uploads.once.ledger import Entry, MemoryLedger
from airflow_mapbox.uploads.staging.stager import StagingOptions

if TYPE_CHECKING:
    from argparse import Namespace

# Uploads that `list` shows if nothing says how many.
_LISTED = 25


@command("uploads upload")
def upload(args: Namespace) -> None:
    """Stage a file, create its upload, and with ``--wait`` wait until it is processed."""
    ledger = MemoryLedger()
    try:
        with _staging_bar(args.source) as progress:
            options = StagingOptions(args.part_size, args.parts_in_flight, progress)
            hook = MapboxUploadsHook(args.mapbox_conn_id, staging=options)
            with _cancel_on_interrupt(hook):
                created = hook.upload(
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
        print(json.dumps({"skipped": str(error)}) if args.json else f"{error}\nSkipped because of --if-active skip.")
        return
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_after_interrupt(ledger.entry, args)) from None
    if args.wait:
        created = _wait(hook, created.id, args)
    _print(created, hook, args)


@contextmanager
def _cancel_on_interrupt(hook: MapboxUploadsHook) -> Iterator[None]:
    """Abort the staging when the user presses Ctrl-C, without waiting for the parts in flight."""

    def interrupt(*_: object) -> None:
        hook.cancel()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _after_interrupt(entry: Entry | None, args: Namespace) -> str:
    """Return the message after an interrupt: whether the upload exists, and the next command."""
    created = entry.created_upload() if entry is not None else None
    if created is not None:
        return _still_processing(created.id, args)
    if entry is not None and entry.in_doubt:
        return (
            f"Interrupted before Mapbox's response arrived: the upload of tileset {entry.tileset} may exist.\n"
            f"Look for it with: {_command_line('list', args=args)}"
        )
    return "Interrupted. No upload was created."


def _still_processing(upload_id: str, args: Namespace) -> str:
    return (
        f"Interrupted. Upload {upload_id} exists, and Mapbox is still processing it.\n"
        f"To continue waiting: {_command_line('wait', upload_id, args=args)}"
    )


def _command_line(*words: str, args: Namespace) -> str:
    connection = [] if args.mapbox_conn_id == CONN_ID else ["-c", args.mapbox_conn_id]
    return shlex.join(["airflow", "mapbox", "uploads", *words, *connection])


@command("uploads list")
def list_uploads(args: Namespace) -> None:
    """List the account's recent uploads."""
    hook = MapboxUploadsHook(args.mapbox_conn_id)
    limit = args.limit
    if limit is None and args.since is None and not args.count:
        limit = _LISTED
    listed = hook.list_uploads(limit=limit, since=args.since, until=args.until, tileset=args.tileset, state=args.state)
    if args.count:
        number = sum(1 for _ in listed)
        print(json.dumps({"count": number}) if args.json else number)
    elif args.json:
        print(json.dumps([_to_json(upload, hook) for upload in listed]))
    else:
        print_table([_row(upload) for upload in listed])


@command("uploads show")
def show(args: Namespace) -> None:
    """Show one upload."""
    hook = MapboxUploadsHook(args.mapbox_conn_id)
    _print(hook.get_upload(args.upload_id), hook, args)


@command("uploads wait")
def wait(args: Namespace) -> None:
    """Wait until an upload is processed."""
    hook = MapboxUploadsHook(args.mapbox_conn_id)
    _print(_wait(hook, args.upload_id, args), hook, args)


@command("uploads delete")
def delete(args: Namespace) -> None:
    """Delete the status of a completed upload."""
    MapboxUploadsHook(args.mapbox_conn_id).delete_upload(args.upload_id)
    print(json.dumps({"deleted": args.upload_id}) if args.json else f"Deleted the status of upload {args.upload_id}.")


def _wait(hook: MapboxUploadsHook, upload_id: str, args: Namespace) -> Upload:
    columns = (TextColumn("Processing {task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    try:
        with _bar(*columns) as bar:
            task = bar.add_task(upload_id, total=1.0)
            return hook.wait(
                upload_id,
                timeout=args.timeout,
                poll_interval=args.poll_interval,
                stall_timeout=args.stall_timeout,
                progress=lambda upload: bar.update(task, completed=upload.progress, description=upload.tileset),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_still_processing(upload_id, args)) from None


@contextmanager
def _staging_bar(source: str) -> Iterator[Callable[[int, int | None], None]]:
    columns = (TextColumn("Staging {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _bar(*columns) as bar:
        task = bar.add_task(os.path.basename(source), total=None)  # noqa: PTH119 - the source may be a URL
        yield lambda staged, size: bar.update(task, completed=staged, total=size)


def _bar(*columns: ProgressColumn) -> Progress:
    """Return a progress bar that appears only in a terminal, and disappears at its end."""
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _print(upload: Upload, hook: MapboxUploadsHook, args: Namespace) -> None:
    if args.json:
        print(json.dumps(_to_json(upload, hook)))
        return
    print_table([_row(upload)])
    # The tileset's page exists once the upload is done. Until then, only an emulator has a page to show.
    base_url = hook.get_conn().base_url
    page = tileset_page(upload.tileset, base_url) if upload.is_successful else upload_page(upload.id, base_url)
    if page:
        print(page)


def _to_json(upload: Upload, hook: MapboxUploadsHook) -> dict[str, Any]:
    return upload.to_json() | {"tileset_url": tileset_page(upload.tileset, hook.get_conn().base_url)}


def _row(upload: Upload) -> dict[str, str]:
    return {
        "id": upload.id,
        "tileset": upload.tileset,
        "name": upload.name or "",
        "state": _state(upload),
        "created": upload.created or "",
    }


def _state(upload: Upload) -> str:
    if upload.is_failed:
        return f"failed: {upload.error}"
    return upload.state if upload.is_successful else f"{upload.state}, {upload.progress:.0%}"
