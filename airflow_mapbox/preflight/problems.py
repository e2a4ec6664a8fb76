"""One thing that is wrong with a source, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass

# Every format that the export reads is sent to it with the same words.
EXPORT = (
    'Upload it with format="auto", which exports it to what Mapbox takes; '
    "export={…} has the export's options. Or write it with airflow_mapbox.export.write_geojson."
)
REPROJECT = (
    'Upload it with format="auto", which reprojects to longitude, latitude; or '
    "write it with airflow_mapbox.export.write_geojson."
)
WRITER = "Look at the task that wrote it."


@dataclass(frozen=True)
class Problem:
    """
    A problem.

    :param what: a clause that follows the file's name, with the stop at its end.
    :param remedy: what to do, in whole sentences.
    :param refused: whether Mapbox is known to refuse such a file; otherwise this is a warning.
    """

    what: str
    remedy: str
    refused: bool = True

    def text(self, name: str) -> str:
        """
        Return the problem on one line and the remedy on the next.

        :param name: what the file is called.
        """
        return f"{name} {self.what}\n{self.remedy}"
