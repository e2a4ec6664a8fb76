"""Run the earthquakes DAG for a day in a real Airflow with the emulator, and check the tileset."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from demo.stack import ROOT, Stack, StackError, every

DAG_ID = "earthquakes_daily"
FIRST_DAG_ID = "virginia_counties"  # succeeds with the default settings on any day
RUN_SECONDS = 180
# Only log lines about the data are shown, not those of Airflow.
SHOWN_PREFIXES = ("Exported ", "Staged ", "Upload ", "Task failed")


def main() -> int:
    """Run the demo, or serve its Airflow and emulator until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".demo", help="folder of all state")
    parser.add_argument("--day", type=date.fromisoformat, default=date(2018, 1, 31), help="2018-01-31 to 2018-02-07")
    parser.add_argument("--serve", action="store_true", help="run no DAG, only serve Airflow and the emulator")
    options = parser.parse_args()
    say = Narrator()
    # Stop the servers on each of these, also if the terminal is closed. SIGINT needs a handler, because a shell's `&`
    # makes a program ignore it.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    try:
        say("start", "Airflow on SQLite, and the emulator")
        with Stack(
            options.folder, port=8080, emulator_port=8787, scheduler=options.serve, triggerer=options.serve
        ) as stack:
            say("ready", f"Airflow at {stack.url}, emulator at {stack.emulator.url} (only from this machine)")
            if options.serve:
                serve(stack)
            else:
                demonstrate(stack, options.day, say)
    except (StackError, AssertionError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if options.serve else 130
    return 0


def _interrupt(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the stop of the servers
    raise KeyboardInterrupt


class Narrator:
    """Prints a line per step, with the seconds since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, step: str, message: str) -> None:
        """Print a step."""
        print(f"{time.monotonic() - self._started:5.1f} s  {step:<7} {message}", flush=True)


def demonstrate(stack: Stack, day: date, say: Narrator) -> None:
    """Run the DAG for a day, print its tasks' log lines, and check the tileset."""
    stack.await_dag(DAG_ID)
    now = datetime.now(UTC)
    run_id = f"demo_{now:%Y-%m-%dT%H:%M:%S}"
    interval = {
        "logical_date": now.isoformat(),
        "data_interval_start": f"{day}T00:00:00Z",
        "data_interval_end": f"{day + timedelta(days=1)}T00:00:00Z",
    }
    stack.api("POST", f"dags/{DAG_ID}/dagRuns", json={"dag_run_id": run_id, **interval})
    # Started after the request, so that it does not create a scheduled run at the same time. On SQLite the two runs
    # once blocked each other for half a minute.
    stack.start_scheduler()
    say("run", f"DAG {DAG_ID} for {day}; the scheduler runs each task")
    from demo.check import check_tileset  # takes a second, while the first task already starts

    state = follow(stack, run_id, say)
    if state != "success":
        raise StackError(f"the state of the DAG run is {state}; see its logs with: make ui")
    exported = stack.folder / "exports" / DAG_ID / f"{day}.geojson"
    tileset = f"{stack.emulator.account}.earthquakes-{day:%Y%m%d}"
    address = f"{stack.emulator.url}/tilesets/{tileset}"
    check = check_tileset(f"{address}.json", exported, key="id")
    counts = ", ".join(f"z{zoom}: {count}" for zoom, count in sorted(check.tiles.items()))
    say("tiles", f"downloaded and decoded, by zoom: {counts}")
    say("check", f"the tiles contain all {check.features} features, with their geometries and attributes")
    print(f"\nTo see it: make ui   (uses {stack.home}, too)\n  tileset  {address}\n  Airflow  {stack.url}")


def follow(stack: Stack, run_id: str, say: Narrator) -> str:
    """Wait for a DAG run, print its tasks' log lines, and return its state."""
    log = RunLog(stack.home / "logs" / f"dag_id={DAG_ID}" / f"run_id={run_id}")
    for _ in every(0.5, RUN_SECONDS):
        stack.check_alive()
        # Requested before the log is read, so that the last lines of the run are printed, too.
        state = stack.api("GET", f"dags/{DAG_ID}/dagRuns/{run_id}")["state"]
        for task, message in log.new_lines():
            say(task, message.replace(f"{stack.folder.parent}/", ""))
        if state in ("success", "failed"):
            return str(state)
    raise StackError(f"the DAG run did not end within {RUN_SECONDS} s; see its logs with: make ui")


class RunLog:
    """The log files of a DAG run's tasks, read while they grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines_read: dict[Path, int] = {}

    def new_lines(self) -> list[tuple[str, str]]:
        """Return task and message of the new log lines that are shown."""
        lines = []
        for path in sorted(self._folder.glob("task_id=*/attempt=*.log"), key=lambda file: file.stat().st_ctime):
            entries = path.read_text().splitlines(keepends=True)
            complete = [entry for entry in entries if entry.endswith("\n")]
            for entry in complete[self._lines_read.get(path, 0) :]:
                message = str(json.loads(entry).get("event", ""))
                if message.startswith(SHOWN_PREFIXES):
                    lines.append((path.parent.name.removeprefix("task_id="), message))
            self._lines_read[path] = len(complete)
        return lines


def serve(stack: Stack) -> None:
    """Print where Airflow and the emulator are, and serve until Ctrl-C."""
    stack.watch_dags()
    # The pages must exist before their URLs are printed.
    for dag_id in (FIRST_DAG_ID, DAG_ID):
        stack.await_dag(dag_id)
    airflow = stack.write_command()
    tileset = f"{stack.emulator.account}.virginia-counties"
    print(
        f"""
  Airflow   {stack.url}
  tilesets  {stack.emulator.url}/
  commands  {airflow} …
  your DAG  put its file into {stack.dags_folder}; it appears within half a minute

1. Open {stack.url}/dags/{FIRST_DAG_ID} and click Trigger, then Trigger in the form. After half a minute its map is at
   {stack.emulator.url}/tilesets/{tileset}
2. Open {stack.url}/dags/{DAG_ID}, click Trigger, and choose Backfill, from 2018-01-31 to 2018-02-07. This makes a
   map for each day. Runs for other days are skipped; the log of the task `export` gives the reason.
3. Open {stack.url}/connections and click the first icon in the row of mapbox_default. If the test succeeds, the icon
   turns green.

Stop with Ctrl-C.""",
        flush=True,
    )
    while True:
        stack.check_alive()
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
