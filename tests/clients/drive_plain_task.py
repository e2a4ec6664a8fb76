"""What a PythonOperator runs if it calls the PyPI package ``mapbox``. It knows nothing of this project."""

from __future__ import annotations

import json
import sys

from mapbox import Uploader  # type: ignore[import-not-found]


def main(path: str, tileset: str, tries: str) -> None:
    """Try an upload as often as Airflow tries a task, and print the error of each failed try."""
    errors = []
    for _ in range(int(tries)):
        try:
            Uploader().upload(path, tileset)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
        else:
            break
    json.dump(errors, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
