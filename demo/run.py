"""Runs the earthquakes DAG for one day in a real Airflow against the emulator, and fetches the tileset back."""

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
FIRST_DAG_ID = "virginia_counties"  # succeeds when it is triggered with the defaults, on any day
RUN_SECONDS = 180
# A task's log has Airflow's lines too; these are the ones that tell what happened to the data.
TOLD = ("Exported ", "Staged ", "Upload ", "Task failed")


def main() -> int:
    """Run the demo, or keep its Airflow and emulator up to be looked at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".demo", help="where everything is kept")
    parser.add_argument("--day", type=date.fromisoformat, default=date(2018, 1, 31), help="2018-01-31 to 2018-02-07")
    parser.add_argument("--serve", action="store_true", help="run nothing: keep Airflow and the emulator up")
    options = parser.parse_args()
    say = Narrator()
    # However it is ended, by a closed terminal too, the servers end with it; a shell's `&` would have ignored SIGINT.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    try:
        say("start", "Airflow on SQLite, and the emulator")
        with Stack(
            options.folder, port=8080, emulator_port=8787, scheduler=options.serve, triggerer=options.serve
        ) as stack:
            say("ready", f"Airflow at {stack.url}, emulator at {stack.emulator.url}, for this machine only")
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
    signal.signal(number, signal.SIG_IGN)  # once is enough: the servers are being stopped
    raise KeyboardInterrupt


class Narrator:
    """Prints one line a step, with the seconds since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, step: str, text: str) -> None:
        """Tell a step."""
        print(f"{time.monotonic() - self._started:5.1f} s  {step:<7} {text}", flush=True)


def demonstrate(stack: Stack, day: date, say: Narrator) -> None:
    """Run the DAG for one day, tell what its tasks tell, and check what came of it."""
    stack.await_dag(DAG_ID)
    now = datetime.now(UTC)
    run_id = f"demo_{now:%Y-%m-%dT%H:%M:%S}"
    interval = {
        "logical_date": now.isoformat(),
        "data_interval_start": f"{day}T00:00:00Z",
        "data_interval_end": f"{day + timedelta(days=1)}T00:00:00Z",
    }
    stack.api("POST", f"dags/{DAG_ID}/dagRuns", json={"dag_run_id": run_id, **interval})
    # Before that it would run the schedule's own latest day beside: on SQLite the API server once stood still for half
    # a minute, with a task's start and a new run waiting for one another.
    stack.start_scheduler()
    say("run", f"DAG {DAG_ID} for {day}, as a task run by the scheduler each")
    from demo.check import check_tileset  # takes a second, in which the first task is on its way

    state = follow(stack, run_id, say)
    if state != "success":
        raise StackError(f"the DAG run ended as {state}; look into it with: make ui")
    exported = stack.folder / "exports" / DAG_ID / f"{day}.geojson"
    tileset = f"{stack.emulator.account}.earthquakes-{day:%Y%m%d}"
    address = f"{stack.emulator.url}/tilesets/{tileset}"
    found = check_tileset(f"{address}.json", exported, key="id")
    counts = ", ".join(f"z{zoom}: {count}" for zoom, count in sorted(found.tiles.items()))
    say("tiles", f"fetched back and decoded, by zoom: {counts}")
    say("check", f"all {found.features} features are in them, each once, at its place, with its attributes")
    print(f"\nTo look at it: make ui   (the same home, {stack.home})\n  tileset  {address}\n  Airflow  {stack.url}")


def follow(stack: Stack, run_id: str, say: Narrator) -> str:
    """Wait for a DAG run while telling what its tasks log; give its state."""
    log = RunLog(stack.home / "logs" / f"dag_id={DAG_ID}" / f"run_id={run_id}")
    for _ in every(0.5, RUN_SECONDS):
        stack.check_alive()
        # Asked before the log is read, so that the last lines of an ended run are told too.
        state = stack.api("GET", f"dags/{DAG_ID}/dagRuns/{run_id}")["state"]
        for task, text in log.new_lines():
            say(task, text.replace(f"{stack.folder.parent}/", ""))
        if state in ("success", "failed"):
            return str(state)
    raise StackError(f"the DAG run did not end within {RUN_SECONDS} s; look into it with: make ui")


class RunLog:
    """The log files of one DAG run's tasks, read as they grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told: dict[Path, int] = {}

    def new_lines(self) -> list[tuple[str, str]]:
        """Give task and text of the lines that are worth telling and were not given before."""
        lines = []
        for path in sorted(self._folder.glob("task_id=*/attempt=*.log"), key=lambda file: file.stat().st_ctime):
            entries = path.read_text().splitlines(keepends=True)
            complete = [entry for entry in entries if entry.endswith("\n")]
            for entry in complete[self._told.get(path, 0) :]:
                text = str(json.loads(entry).get("event", ""))
                if text.startswith(TOLD):
                    lines.append((path.parent.name.removeprefix("task_id="), text))
            self._told[path] = len(complete)
        return lines


def serve(stack: Stack) -> None:
    """Keep everything up until the user has seen enough."""
    stack.watch_dags()
    # Both pages are there before they are named.
    for dag_id in (FIRST_DAG_ID, DAG_ID):
        stack.await_dag(dag_id)
    airflow = Path(sys.executable).with_name("airflow")
    tileset = f"{stack.emulator.account}.virginia-counties"
    print(
        f"""
  Airflow   {stack.url}
  tilesets  {stack.emulator.url}/
  commands  AIRFLOW_HOME={stack.home} {airflow} …

1. Open {stack.url}/dags/{FIRST_DAG_ID} and click Trigger, twice. In half a minute its map is at
   {stack.emulator.url}/tilesets/{tileset}
2. Open {stack.url}/dags/{DAG_ID}, click Trigger, and choose Backfill, from 2018-01-31 to 2018-02-07: a map a day.
   A run for any other day is skipped; the log of its task `export` says why.
3. Open {stack.url}/connections and click the first icon in the row of mapbox_default: the test turns it green.

End it with Ctrl-C.""",
        flush=True,
    )
    while True:
        stack.check_alive()
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
