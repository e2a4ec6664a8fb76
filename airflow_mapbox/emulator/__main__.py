"""The command line: ``python -m airflow_mapbox.emulator``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mapbox.emulator.connection import airflow_connection
from airflow_mapbox.emulator.settings import EmulatorSettings

if TYPE_CHECKING:
    from airflow_mapbox.emulator.server import Emulator

TOKEN_VARIABLE = "MAPBOX_EMULATOR_TOKEN"  # noqa: S105 - a name, not a secret


def main(argv: Sequence[str] | None = None) -> int:
    """Run an emulator until SIGINT or SIGTERM; return the exit status."""
    args = _parser().parse_args(argv)
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    try:
        from airflow_mapbox.emulator import Emulator

        emulator = Emulator(
            args.folder,
            settings=EmulatorSettings(
                account=args.account,
                token=os.environ.get(TOKEN_VARIABLE) or None,
                processing_seconds=args.processing_seconds,
                workers=args.workers,
                rate_limit=args.rate_limit,
                rate_window=args.rate_window,
                cache_seconds=args.cache_seconds,
            ),
            host=args.host,
            port=args.port,
            s3_port=args.s3_port,
            allow_public=args.public,
            tls=args.tls,
            allowed_hosts=args.allow_host,
        ).start()
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        print(f"mapbox-emulator: {error.strerror if isinstance(error, OSError) else error}", file=sys.stderr)
        return 2
    try:
        print(_startup_message(emulator, show_token=args.show_token), flush=True)
        if args.ready_file:
            _write_ready_file(emulator, args.ready_file)
        stop.wait()
    finally:
        emulator.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mapbox-emulator", description="The Mapbox Uploads API on this machine.")
    add = parser.add_argument
    add("--folder", type=Path, required=True, metavar="DIR", help="folder for all state")
    _add_addresses(parser)
    _add_settings(parser)
    add("--ready-file", type=Path, metavar="PATH", help="write the addresses to this JSON file when all is ready")
    add("--show-token", action="store_true", help="print the token itself")
    return parser


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--port", type=int, default=8787, metavar="N", help="port of the API (default %(default)s; 0: a free port)")
    add(
        "--s3-port",
        type=int,
        default=8788,
        metavar="N",
        help="port of the bucket (default %(default)s; 0: a free port)",
    )
    add("--public", action="store_true", help="allow a --host that other machines can reach")
    add("--allow-host", action="append", default=[], metavar="NAME", help="also accept this host name; repeatable")
    add("--tls", action="store_true", help="use https, with a certificate made in the folder")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    defaults = EmulatorSettings()
    add = parser.add_argument
    add("--account", default=defaults.account, metavar="NAME", help="the account (default %(default)s)")
    add(
        "--processing-seconds",
        type=float,
        default=defaults.processing_seconds,
        metavar="S",
        help="minimum seconds of processing (default %(default)s)",
    )
    add(
        "--workers",
        type=int,
        default=defaults.workers,
        metavar="N",
        help="uploads processed at the same time (default %(default)s)",
    )
    add(
        "--rate-limit",
        type=int,
        default=defaults.rate_limit,
        metavar="N",
        help="requests in one window of the rate limit (default %(default)s; 0: no limit)",
    )
    add(
        "--rate-window",
        type=float,
        default=defaults.rate_window,
        metavar="S",
        help="length of that window in seconds (default %(default)s)",
    )
    add(
        "--cache-seconds",
        type=float,
        default=defaults.cache_seconds,
        metavar="S",
        help="seconds for which /v4 shows a replaced tileset as it was before (default %(default)s; 0: no cache)",
    )


def _startup_message(emulator: Emulator, *, show_token: bool) -> str:
    token_place = f"in ${TOKEN_VARIABLE}" if emulator.token_file is None else f"in {emulator.token_file}"
    password = "$(cat '" + str(emulator.token_file) + "')" if emulator.token_file else f"${TOKEN_VARIABLE}"
    connection = json.dumps(
        airflow_connection(url=emulator.url, s3_url=emulator.s3_url, account=emulator.account, token="TOKEN")  # noqa: S106
    ).replace('"TOKEN"', f'"\'"{password}"\'"')
    ca_lines = [f"  CA     {emulator.ca_file}"] if emulator.ca_file else []
    lines = [
        f"Mapbox Uploads emulator, account {emulator.account}",
        f"  API    {emulator.url}",
        f"  S3     {emulator.s3_url}",
        f"  pages  {emulator.url}/",
        f"  token  {emulator.token if show_token else token_place}",
        *ca_lines,
        "An Airflow connection to this emulator:",
        f"  export AIRFLOW_CONN_MAPBOX_DEFAULT='{connection}'",
    ]
    return "\n".join(lines)


def _write_ready_file(emulator: Emulator, file: Path) -> None:
    content = {
        "url": emulator.url,
        "s3_url": emulator.s3_url,
        "account": emulator.account,
        "token_file": str(emulator.token_file) if emulator.token_file else None,
        "ca_file": str(emulator.ca_file) if emulator.ca_file else None,
        "pid": os.getpid(),
    }
    # Replaced in one step, so that a waiting program never reads half of it.
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    temporary.replace(file)


if __name__ == "__main__":
    sys.exit(main())
