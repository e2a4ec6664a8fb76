"""Check the temporary disk space for tiling, before and during it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

from airflow_mapbox.export.errors import NoSpaceError, TilerError

log = logging.getLogger(__name__)

# Leave so much temporary space free for others.
_SPARE_BYTES = 256 << 20
# The smallest temporary files of tippecanoe that were measured, as a share of the source's size
# (docs/how-to/vector-tiles.md, "Temporary space").
_MIN_SHARE_OF_SOURCE = 1 / 16
_BYTES_BETWEEN_CHECKS = 64 << 20


def temporary_folder(directory: str | PathLike[str] | None) -> Path | None:
    """
    Return the absolute path of a folder for temporary files. A missing folder may be a disk that is not mounted.

    :param directory: an existing folder, or None for the system's.
    :return: its absolute path, or None.
    :raises TilerError: if it is not a folder that can be written to.
    """
    if directory is None:
        return None
    folder = Path(directory).absolute()
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise TilerError(
            f"temporary_directory={str(directory)!r}: {folder} is not a folder on this machine that can be written to. "
            "Correct it, or make the folder first."
        )
    return folder


class TemporarySpace:
    """
    The free space of a folder, watched while tippecanoe runs: how much it will need depends on the data.

    :param folder: tippecanoe's folder for temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check_before(self, source_bytes: int, *, selected: bool) -> None:
        """
        Raise an error if the data cannot fit, and log a warning if it may not.

        :param source_bytes: size of the sources, as far as it is known.
        :param selected: whether only a part of them is read.
        :raises NoSpaceError: if there is too little space.
        """
        self._check(0 if selected else int(source_bytes * _MIN_SHARE_OF_SOURCE))
        free = shutil.disk_usage(self._folder).free
        if free < source_bytes + _SPARE_BYTES:
            log.warning(
                "Tiling may need more temporary space than the %s bytes of %s. If it fails for that reason, name a "
                "folder with more space with temporary_directory=",
                f"{free:,}",
                self._folder.parent,
            )

    def watched(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """
        Yield chunks, and check the free space now and then.

        :param chunks: the features for tippecanoe.
        :raises NoSpaceError: if there is too little space left.
        """
        unchecked = 0
        for chunk in chunks:
            unchecked += len(chunk)
            if unchecked >= _BYTES_BETWEEN_CHECKS:
                self._check(0)
                unchecked = 0
            yield chunk

    def _check(self, needed: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < needed + _SPARE_BYTES:
            raise NoSpaceError(
                f"Tiling needs at least {needed + _SPARE_BYTES:,} bytes of temporary space; {self._folder.parent} has "
                f"{free:,}.\nName a folder with more space with temporary_directory=."
            )
