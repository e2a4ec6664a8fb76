"""Why an export stopped; no file is left where one did."""

from __future__ import annotations


class ExportError(ValueError):
    """
    The data cannot be written as Mapbox wants it.

    :ivar retryable: whether the same export may succeed later with nothing changed.
    """

    retryable: bool = False


class MissingCrsError(ExportError):
    """The data does not say which coordinate reference system it is in, and nobody else did."""


class UnknownCrsError(ExportError):
    """A reference system that PROJ does not know, or cannot transform to longitude, latitude."""


class CoordinatesError(ExportError):
    """A coordinate is not finite, or outside of what a Mercator map shows."""


class AttributeNameError(ExportError):
    """The columns cannot be told apart as attributes of a feature."""


class AttributeValueError(ExportError):
    """A value has no form in JSON."""


class EmptyExportError(ExportError):
    """There was no feature to write."""


class UnreadableSourceError(ExportError):
    """The source is missing, or of a kind that cannot be read."""


class UnavailableSourceError(UnreadableSourceError):
    """The source could not be read just now: the network, a server or a disk failed."""

    retryable = True


class InvalidGeometryError(CoordinatesError):
    """A geometry is not valid, and the caller wants to know instead of having it repaired or left out."""


class TooLargeError(ExportError):
    """There is more than Mapbox takes in this format."""


class ExportClosedError(ExportError):
    """A stream was asked for more after it failed or was closed, or for its report before its end."""


class TilerError(ExportError):
    """No vector tiles could be made, or not all of them."""


class NoSpaceError(TilerError):
    """There is too little temporary space just now."""

    retryable = True
