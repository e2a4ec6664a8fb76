"""Checks of text formats while their bytes pass: of a file that is read for it, or of a stream that is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from airflow_mapbox.preflight import formats
from airflow_mapbox.preflight.csvrows import CSVCheck
from airflow_mapbox.preflight.findings import Content, Finding
from airflow_mapbox.preflight.geojson import GeoJSONCheck
from airflow_mapbox.preflight.xmlfeatures import XMLCheck
from airflow_mapbox.sources.streams import ByteStream, Octets, WrappedStream


class PassingCheck(Protocol):
    """A check that sees each byte of a file once."""

    def feed(self, data: bytes | memoryview) -> None:
        """Check the next bytes."""
        ...

    def close(self, *, is_whole: bool = True) -> list[Finding]:
        """Return the findings. ``is_whole`` tells whether all bytes were fed."""
        ...


def passing_check(source_format: formats.Format, content: Content) -> PassingCheck | None:
    """
    Return the check of a format that is read from beginning to end; None for other formats.

    :param source_format: the format.
    :param content: gets facts about the content.
    """
    if source_format is formats.GEOJSON:
        return GeoJSONCheck(content)
    if source_format is formats.CSV:
        return CSVCheck(content)
    if source_format in (formats.KML, formats.GPX):
        return XMLCheck(source_format, content)
    return None


class CheckedStream(WrappedStream):
    """
    A stream that is checked while it is read.

    :param stream: the stream.
    :param check: the check of its bytes.
    :param refuse: called with the findings and the number of bytes at the end. What it raises ends the reading.
    """

    def __init__(self, stream: ByteStream, check: PassingCheck, refuse: Callable[[list[Finding], int], None]) -> None:
        super().__init__(stream)
        self._check = check
        self._refuse = refuse
        self._is_open = True
        self._bytes = 0

    def read(self, size: int = -1, /) -> Octets:
        """
        Return at most ``size`` bytes; an empty result at the end.

        :raises SourceError: at the end, if Mapbox would refuse the file.
        """
        data = self._stream.read(size)
        if data:
            self._bytes += len(data)
            # A view may be of a buffer that its owner fills again.
            self._check.feed(data if isinstance(data, bytes) else bytes(data))
        elif size and self._is_open:
            self._is_open = False
            self._refuse(self._check.close(), self._bytes)
        return data
