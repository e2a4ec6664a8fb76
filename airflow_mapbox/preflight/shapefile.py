"""What Mapbox would refuse in a zipped shapefile."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# "A shapefile travels as one .zip with .shp, .dbf, .shx and .prj" (uploads-api.md, "Names and limits").
_PARTS = (".shp", ".dbf", ".shx", ".prj")
_COUNTED = (".shp", ".dbf")
_LIMIT = 272_629_760  # bytes of .shp and .dbf, unzipped


def check_archive(path: Path) -> Iterator[str]:
    """
    Look at what an archive says that it holds.

    :param path: a local .zip.
    :return: problems, each a clause that follows the file's name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {PurePosixPath(info.filename): info.file_size for info in archive.infolist() if not info.is_dir()}
    except (zipfile.BadZipFile, OSError):
        yield "is no zip archive that can be read: look at the task that wrote it."
        return
    shapefiles = [member for member in members if member.suffix.lower() == ".shp" and not member.name.startswith(".")]
    if not shapefiles:
        yield "holds no shapefile: send one .zip with the .shp, .dbf, .shx and .prj of one shapefile."
    for shapefile in shapefiles:
        sizes = {
            member.suffix.lower(): size
            for member, size in members.items()
            if member.with_suffix("") == shapefile.with_suffix("")
        }
        missing = [part for part in _PARTS if part not in sizes]
        if missing:
            yield f"lacks {', '.join(missing)} beside {shapefile}: add what the shapefile was written with."
        unzipped = sum(sizes.get(part, 0) for part in _COUNTED)
        if unzipped > _LIMIT:
            yield f"holds {unzipped:,} bytes of .shp and .dbf unzipped; Mapbox takes at most {_LIMIT:,}: split it."
