"""Drives the PyPI package ``mapbox``: run by its own interpreter, it knows nothing of this project."""

from __future__ import annotations

import json
import sys
import time

from mapbox import Uploader  # type: ignore[import-not-found]


def main(small: str, large: str) -> None:
    """Upload a file of either size; print what the service said."""
    uploader = Uploader()
    made = uploader.upload(small, "small", name="A small one")
    told = [made.status_code, made.json()]
    sent: list[int] = []
    with open(large, "rb") as stream:  # noqa: PTH123 - as its documentation has it
        url = uploader.stage(stream, callback=sent.append)
    created = uploader.create(url, "large").json()
    ends = {}
    for upload in (made.json(), created):
        while True:
            state = uploader.status(upload).json()
            if state["complete"] or state["error"]:
                break
            time.sleep(0.05)
        ends[upload["tileset"]] = state
    listed = uploader.list()
    deleted = uploader.delete(created)
    left = uploader.list().json()
    json.dump(
        {
            "made": told,
            "callbacks": len(sent),
            "bytes": sum(sent),
            "ends": ends,
            "listed": [upload["id"] for upload in listed.json()],
            "deleted": deleted.status_code,
            "left": [upload["id"] for upload in left],
            "gone": created["id"],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
