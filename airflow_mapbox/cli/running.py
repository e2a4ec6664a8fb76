"""Run a command: its connections, its errors, and its exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from airflow.utils.cli import suppress_logs_and_warning

from airflow_mapbox.cli.definition import arguments_of
from airflow_mapbox.cli.spelling import Spelling
from airflow_mapbox.compat import connections_from_database
from airflow_mapbox.errors import MapboxError, OptionError

if TYPE_CHECKING:
    from argparse import Namespace
    from typing import TypeAlias

log = logging.getLogger(__name__)

# A shell's exit code of a command that Ctrl-C ended.
_INTERRUPTED_CODE = 130

Function: TypeAlias = "Callable[[Namespace], None]"


def command(words: str) -> Callable[[Function], Function]:
    """
    Make a function a command: it finds connections in Airflow's database, and prints errors as a message.

    The exit code is then 1. A bug keeps its traceback.

    :param words: the command after ``airflow mapbox``, such as ``"uploads list"``.
    """

    def decorator(function: Function) -> Function:
        @wraps(function)
        @suppress_logs_and_warning
        def run(args: Namespace) -> None:
            message, code = None, 1
            try:
                with connections_from_database():
                    function(args)
            except (MapboxError, OptionError) as error:
                log.info("The command failed.", exc_info=True)
                message = str(error)
            except KeyboardInterrupt as error:
                message, code = str(error) or "Interrupted.", _INTERRUPTED_CODE
            if message is None:
                return
            spell = Spelling(arguments_of(words), f"airflow mapbox {words}")
            print(spell(message), file=sys.stderr)
            if code == _INTERRUPTED_CODE:
                # A normal exit waits for the threads that still send parts. That may take minutes.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            raise SystemExit(code)

        return run

    return decorator
