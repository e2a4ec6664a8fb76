"""Fuzz one parser: ``python -m tests.fuzz.run TARGET SECONDS``. An input that fails is written to build/fuzz."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["airflow_mapbox.preflight", "airflow_mapbox.rules"]):
    from tests.fuzz.targets import SEEDS, TARGETS

# An input may take this many seconds; libFuzzer counts more as a hang.
_SECONDS_PER_INPUT = 5


def main() -> None:
    """Fuzz until the time is over, or an input fails."""
    name, seconds = sys.argv[1], int(sys.argv[2])
    folder = Path("build/fuzz") / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (folder / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-timeout={_SECONDS_PER_INPUT}", "-max_len=4096", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix=build/fuzz/{name}-", str(folder)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
