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

from airflow_mapbox.emulator.connection import airflow_connection
from airflow_mapbox.emulator.server import Emulator
from airflow_mapbox.emulator.settings import EmulatorSettings

TOKEN_VARIABLE = "MAPBOX_EMULATOR_TOKEN"  # noqa: S105 - a name, not a secret


def main(argv: Sequence[str] | None = None) -> int:
    """Run an emulator until SIGINT or SIGTERM; return the exit status."""
    given = _parser().parse_args(argv)
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    try:
        emulator = Emulator(
            given.folder,
            settings=EmulatorSettings(
                account=given.account,
                token=os.environ.get(TOKEN_VARIABLE) or None,
                processing_seconds=given.processing_seconds,
                workers=given.workers,
                rate_limit=given.rate_limit,
                rate_window=given.rate_window,
            ),
            host=given.host,
            port=given.port,
            s3_port=given.s3_port,
            allow_public=given.public,
            tls=given.tls,
            allowed_hosts=given.allow_host,
        ).start()
    except (ValueError, RuntimeError, OSError) as error:
        print(f"mapbox-emulator: {error.strerror if isinstance(error, OSError) else error}", file=sys.stderr)
        return 2
    try:
        print(_greeting(emulator, show_token=given.show_token), flush=True)
        if given.ready_file:
            _write_ready(emulator, given.ready_file)
        stop.wait()
    finally:
        emulator.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = EmulatorSettings()
    parser = argparse.ArgumentParser(prog="mapbox-emulator", description="The Mapbox Uploads API on this machine.")
    add = parser.add_argument
    add("--folder", type=Path, required=True, metavar="DIR", help="where all state is kept")
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--port", type=int, default=8787, metavar="N", help="port of the API (default %(default)s; 0: a free one)")
    add(
        "--s3-port", type=int, default=8788, metavar="N", help="port of the bucket (default %(default)s; 0: a free one)"
    )
    add("--public", action="store_true", help="allow a --host that other machines can reach")
    add("--allow-host", action="append", default=[], metavar="NAME", help="a name that others ask it by; repeatable")
    add("--tls", action="store_true", help="speak https, with a certificate made in the folder")
    add("--account", default=defaults.account, metavar="NAME", help="the account (default %(default)s)")
    add(
        "--processing-seconds",
        type=float,
        default=defaults.processing_seconds,
        metavar="S",
        help="how long processing takes at least (default %(default)s)",
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
        help="requests in one window (default %(default)s; 0: no limit)",
    )
    add(
        "--rate-window",
        type=float,
        default=defaults.rate_window,
        metavar="S",
        help="length of that window in seconds (default %(default)s)",
    )
    add("--ready-file", type=Path, metavar="PATH", help="write the addresses here, as JSON, once all is ready")
    add("--show-token", action="store_true", help="print the token itself")
    return parser


def _greeting(emulator: Emulator, *, show_token: bool) -> str:
    where = f"in ${TOKEN_VARIABLE}" if emulator.token_file is None else f"in {emulator.token_file}"
    password = "$(cat '" + str(emulator.token_file) + "')" if emulator.token_file else f"${TOKEN_VARIABLE}"
    connection = json.dumps(
        airflow_connection(url=emulator.url, s3_url=emulator.s3_url, account=emulator.account, token="TOKEN")  # noqa: S106
    ).replace('"TOKEN"', f'"\'"{password}"\'"')
    trust = [f"  CA     {emulator.ca_file}"] if emulator.ca_file else []
    lines = [
        f"Mapbox Uploads emulator, account {emulator.account}",
        f"  API    {emulator.url}",
        f"  S3     {emulator.s3_url}",
        f"  pages  {emulator.url}/",
        f"  token  {emulator.token if show_token else where}",
        *trust,
        "An Airflow connection to it:",
        f"  export AIRFLOW_CONN_MAPBOX_DEFAULT='{connection}'",
    ]
    return "\n".join(lines)


def _write_ready(emulator: Emulator, file: Path) -> None:
    facts = {
        "url": emulator.url,
        "s3_url": emulator.s3_url,
        "account": emulator.account,
        "token_file": str(emulator.token_file) if emulator.token_file else None,
        "ca_file": str(emulator.ca_file) if emulator.ca_file else None,
        "pid": os.getpid(),
    }
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    fresh.replace(file)


if __name__ == "__main__":
    sys.exit(main())
