"""The errors of an export. After each of them, no file is left behind."""

from __future__ import annotations

from airflow_mapbox.errors import ExportError, SourceError, SourceUnavailableError

__all__ = (
    "AttributeNameError",
    "AttributeValueError",
    "CoordinatesError",
    "EmptyExportError",
    "ExportClosedError",
    "ExportError",
    "InvalidGeometryError",
    "MissingCrsError",
    "NoSpaceError",
    "TilerError",
    "TooLargeError",
    "UnavailableSourceError",
    "UnknownCrsError",
    "UnreadableSourceError",
)


class MissingCrsError(ExportError):
    """Neither the data nor the caller names the coordinate reference system."""


class UnknownCrsError(ExportError):
    """PROJ does not know the reference system, or cannot transform it to longitude and latitude."""


class CoordinatesError(ExportError):
    """A coordinate is not finite, or lies outside the Web Mercator map."""


class InvalidGeometryError(CoordinatesError):
    """A geometry is not valid, and the caller chose ``on_invalid="error"``."""


class AttributeNameError(ExportError):
    """An attribute's name is missing, duplicate or unknown."""


class AttributeValueError(ExportError):
    """A value cannot be written as JSON."""


class EmptyExportError(ExportError):
    """There is no feature to write."""


class UnreadableSourceError(ExportError, SourceError):
    """The source is missing, or its format cannot be read."""


class UnavailableSourceError(UnreadableSourceError, SourceUnavailableError):
    """The source cannot be read at the moment: a network, server or disk failed."""


class TooLargeError(ExportError):
    """The output exceeds Mapbox's limit for its format."""


class ExportClosedError(ExportError):
    """A stream was read after it failed or was closed, or its report was requested before its end."""


class TilerError(ExportError):
    """Vector tiles could not be made, or are incomplete."""


class NoSpaceError(TilerError):
    """There is not enough temporary disk space at the moment."""

    retryable = True
