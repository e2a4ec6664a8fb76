"""A problem of a source, and its remedy."""

from __future__ import annotations

from dataclasses import dataclass

# The same advice for every format that the export reads.
EXPORT = (
    'Upload it with format="auto", which exports it to a format that Mapbox accepts; export={…} takes the export\'s '
    "options. Or write it with airflow_mapbox.export.write_geojson."
)
REPROJECT = (
    'Upload it with format="auto", which reprojects to longitude, latitude; or '
    "write it with airflow_mapbox.export.write_geojson."
)
WRITER = "Check the task that wrote it."


@dataclass(frozen=True)
class Problem:
    """
    A problem of a source.

    :param what: the rest of the sentence that begins with the file's name, with a full stop.
    :param remedy: the next step for the user, in whole sentences.
    :param refused: whether Mapbox is known to refuse such a file; otherwise the problem is a warning.
    """

    what: str
    remedy: str
    refused: bool = True

    def text(self, name: str) -> str:
        """
        Return the problem on one line and the remedy on the next.

        :param name: the file's name.
        """
        return f"{name} {self.what}\n{self.remedy}"
