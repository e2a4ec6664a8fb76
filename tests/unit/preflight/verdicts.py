"""What preflight and emulator say about a file, and whether they agree."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from airflow_mapbox.emulator.errors import DataError
from airflow_mapbox.emulator.processing import make_tiles
from airflow_mapbox.emulator.readers import prepare
from airflow_mapbox.preflight import check_source
from tests.unit.preflight.corpus import UNTESTED, Case


@dataclass(frozen=True)
class Verdict:
    """
    What both say about a file.

    :param case: the file.
    :param rules: the preflight's problems, by the names of their rules.
    :param warnings: its warnings, likewise.
    :param preflight: the message that Mapbox would give, by the preflight; empty if it knows none; None for no problem.
    :param emulator: the message of the emulator's processing; None if it makes a tileset.
    """

    case: Case
    rules: tuple[str, ...]
    warnings: tuple[str, ...]
    preflight: str | None
    emulator: str | None

    @property
    def difference(self) -> str | None:
        """How the two differ, or differ from Mapbox's tests: in a few words; None if they do not."""
        if (self.preflight is None) != (self.emulator is None):
            return f"only the {'emulator' if self.preflight is None else 'preflight'} refuses"
        if self.preflight and self.emulator is not None and not _is_same(self.preflight, self.emulator):
            return "both refuse, with different messages"
        expected = self.case.mapbox
        if expected != UNTESTED and not (self.emulator is None if expected is None else _begins(self, expected)):
            return "both differ from Mapbox's tests"
        return None


def _begins(verdict: Verdict, expected: str) -> bool:
    return verdict.emulator is not None and verdict.emulator.startswith(expected)


def _is_same(first: str, second: str) -> bool:
    """Return whether two messages are the same, where … stands for a value that the preflight does not know."""
    pattern = ".*".join(map(re.escape, first.split("…")))
    return re.fullmatch(pattern, second, re.DOTALL) is not None


def verdict_of(case: Case, *, tiles: bool) -> Verdict:
    """
    Return what both say about a file.

    :param case: the file.
    :param tiles: whether the emulator also tiles vector data. Images are always cut into tiles.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for made in ("source", "work", "making"):
            (folder / made).mkdir()
        file = folder / "source" / case.name.rpartition("/")[2]
        file.write_bytes(case.content(folder / "making"))
        report = check_source(file)
        return Verdict(
            case,
            tuple(problem.name for problem in report.problems),
            tuple(dict.fromkeys(warning.name for warning in report.warnings)),
            (report.problems[0].message or "") if report.problems else None,
            emulators_message(file, folder / "work", tiles=tiles),
        )


def emulators_message(file: Path, work: Path, *, tiles: bool) -> str | None:
    """
    Return the message with which the emulator refuses a file; None if it makes a tileset.

    :param file: the file.
    :param work: an empty folder.
    :param tiles: whether to tile vector data. Images are always cut into tiles.
    """
    try:
        prepared = prepare(file, work, layer="layer", tick=_do_nothing, staged=True)
        if tiles or prepared.image is not None:
            make_tiles(prepared, work, name="name", progress=_do_nothing, tick=_do_nothing)
    except DataError as error:
        return str(error)
    return None


def _do_nothing(*_: object) -> None:
    pass


def table_of(verdicts: Iterable[Verdict]) -> str:
    """Return the verdicts as a table in Markdown, with the counts after it."""
    lines = ["| file | preflight | emulator | Mapbox's tests |", "|---|---|---|---|"]
    counts = {"refused by both": 0, "accepted by both": 0, "different": 0}
    for verdict in verdicts:
        refused = ", ".join(dict.fromkeys(verdict.rules))
        preflight = f"{refused}: {verdict.preflight}" if refused else "accepts"
        warned = f" (warns: {', '.join(verdict.warnings)})" if verdict.warnings else ""
        expected = {None: "accept", UNTESTED: ""}.get(verdict.case.mapbox, verdict.case.mapbox)
        mark = "**" if verdict.difference else ""
        lines.append(
            f"| {mark}{verdict.case.name}{mark} | {preflight}{warned} | {verdict.emulator or 'accepts'} | {expected} |"
        )
        if verdict.difference:
            counts["different"] += 1
        else:
            counts["accepted by both" if verdict.emulator is None else "refused by both"] += 1
    total = sum(counts.values())
    return "\n".join([*lines, "", f"{total} files: {', '.join(f'{n} {what}' for what, n in counts.items())}"])
