"""Rules for files of any format."""

from __future__ import annotations

from airflow_mapbox.rules.remedies import EXPORT, SMALLER, WRITER
from airflow_mapbox.rules.rule import Rule

_SNIFF = "source: mapbox-file-sniff"

EMPTY = Rule(
    name="file-empty",
    format="any",
    meaning="The file has no bytes.",
    message="File is zero bytes.",
    remedy=WRITER,
    evidence="seen",
)
TOO_SMALL = Rule(
    name="file-too-small",
    format="any",
    meaning="The file has one or two bytes, too few for any format.",
    message="File too small",
    remedy=WRITER,
    evidence=_SNIFF,
)
UNKNOWN_FORMAT = Rule(
    name="file-format",
    format="any",
    meaning="Mapbox recognises no format in the first 512 bytes.",
    message="Unknown filetype",
    remedy=f"{WRITER} Other geodata: {EXPORT[0].lower()}{EXPORT[1:]}",
    evidence=f"seen; {_SNIFF}",
)
OTHER_FORMAT = Rule(
    name="file-extension",
    format="any",
    meaning="The content's format is not that of the file's extension.",
    remedy=f"Rename the file. {WRITER}",
    evidence="none: Mapbox reads the content, so such a file is probably a mistake",
    refused=False,
)
TOO_LARGE = Rule(
    name="file-too-large",
    format="any",
    meaning="The file exceeds Mapbox's limit for its format.",
    message="File is larger than {limit}. Too big to process.",
    remedy=SMALLER,
    evidence="documented; source: mapbox-upload-limits",
)
NOT_TEXT = Rule(
    name="text-encoding",
    format="any",
    meaning="A file in a text format has bytes that are not UTF-8, or NUL bytes.",
    remedy='Write it with encoding="utf-8". A binary file must be in a format that Mapbox accepts.',
    evidence="documented for CSV; JSON requires it (RFC 8259, 8.1)",
)
TIMED_OUT = Rule(
    name="processing-timeout",
    format="any",
    meaning="Mapbox stopped processing after one hour, for MBTiles after two.",
    message="Processing timed out.",
    remedy="The cause may not be the data. To upload again, clear the task that created the upload.",
    evidence="seen",
    checked=False,
    retry_helps=True,
)
DATASET_MISSING = Rule(
    name="dataset-missing",
    format="dataset",
    meaning="The dataset was deleted or never existed.",
    message="Dataset not found. It may have been deleted during processing into a tileset.",
    remedy="Check the mapbox://datasets/ source.",
    evidence="seen",
    checked=False,
)
DATASET_URL = Rule(
    name="dataset-url",
    format="dataset",
    meaning="The URL of a dataset is not mapbox://datasets/{user}/{id}.",
    remedy="Write mapbox://datasets/{user}/{id}, with the dataset's id and not its name.",
    evidence="documented: Uploads API, Create an upload",
)
NAME = Rule(
    name="upload-name",
    format="any",
    meaning="The tileset id or the display name breaks Mapbox's rules for names.",
    message='Invalid "tileset" value',
    remedy="Use 1 to 32 of A-Z, a-z, 0-9, - and _ for the tileset; at most 64 characters for the display name.",
    evidence="documented: Uploads API, Create an upload",
)
NAME_LENGTH = Rule(
    name="upload-name-units",
    format="any",
    meaning="The display name has at most 64 characters, but more than 64 UTF-16 code units.",
    remedy="Shorten the name, or leave out emoji: Mapbox may count each emoji twice.",
    evidence="none: how Mapbox counts is unknown",
    refused=False,
)

RULES = (
    EMPTY,
    TOO_SMALL,
    UNKNOWN_FORMAT,
    OTHER_FORMAT,
    TOO_LARGE,
    NOT_TEXT,
    NAME,
    NAME_LENGTH,
    TIMED_OUT,
    DATASET_URL,
    DATASET_MISSING,
)
