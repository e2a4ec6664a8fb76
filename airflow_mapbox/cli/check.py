"""Run the preflight as ``airflow mapbox check``: a table for people, JSON for scripts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from airflow_mapbox.cli.definition import arguments_of
from airflow_mapbox.cli.running import command
from airflow_mapbox.cli.spelling import Spelling
from airflow_mapbox.hooks.uploads import readable_source
from airflow_mapbox.preflight import SourceReport, check_source
from airflow_mapbox.tasks.rates import amount_of, configured_rates, describe_amount

if TYPE_CHECKING:
    from argparse import Namespace

_PIPE_COLUMNS = 160


@command("check")
def check(args: Namespace) -> None:
    """Check a file. The exit code is 1 if Mapbox would refuse it."""
    report = check_source(
        readable_source(args.source), tileset=args.tileset, name=args.name, all_tiles=args.all_tiles, area=args.area
    )
    amount = amount_of(report.bill, configured_rates())
    if args.json:
        facts = report.to_json()
        print(json.dumps({**facts, "bill": {**facts["bill"], **amount}}))
    else:
        _print(report, amount)
    if not report.ok:
        raise SystemExit(1)


def _print(report: SourceReport, amount: dict[str, Any]) -> None:
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in report.facts():
        facts.add_row(name, value)
    if amount:
        facts.add_row("Amount", describe_amount(amount))
    console.print(facts)
    # The remedies are about the upload, with its options.
    spell = Spelling(arguments_of("uploads upload"), "airflow mapbox uploads upload")
    findings = [*report.problems, *report.warnings]
    if findings:
        table = Table("", "Rule", "Where", "What, and what to do", "Mapbox says", show_lines=True)
        for found in findings:
            kind = "refused" if found.refused else "warning"
            table.add_row(kind, found.name, found.where, spell(str(found)), found.message or "")
        console.print(table)
    for note in report.notes:
        console.print(f"Note: {note}")
    count = len(report.problems)
    refused = f"Mapbox would refuse it ({count} problem{'' if count == 1 else 's'})."
    console.print(refused if count else "Mapbox should accept it.")
