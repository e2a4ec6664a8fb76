from __future__ import annotations

import pytest

from airflow_mapbox.uploads import errors
from airflow_mapbox.uploads.errors import MapboxError, OptionError, UploadFailedError
from airflow_mapbox.uploads.failures import explain_failure
from airflow_mapbox.uploads.models import Upload
from tests.unit.support import upload_json

# Every message under "Messages of failed processing" of the wire contract, with numbers and names filled in.
DATA_AT_FAULT = [
    "Failed to find a shapefile in your zip",
    "vector_layers must be an array of layer objects",
    "Metadata exceeds limit of 60kb",
    "KML does not contain any layers.",
    "20 layers found. Maximum of 15 layers allowed.",
    "1,024 layers found. Maximum of 15 layers allowed.",
    "Tileset exceeds processing limit.",
    "Tile exceeds maximum size of 500k at z14. Reduce the detail of your data.",
    "Failed to parse geojson feature",
    "Error creating Mapnik Datasource: Invalid geojson",
    "Coordinates beyond web mercator range. Please check projection and lat/lon values.",
    "Unknown filetype",
    "Tile size exceeds limit. At least one vector tile is larger than 5MB.",
    "Invalid tile based on the Mapbox Vector Tile spec: unknown command 4",
    "Dataset not found. It may have been deleted during processing into a tileset.",
    "File is larger than 272629760. Too big to process.",
    "File is larger than 260 MB. Too big to process.",
    "Duplicate layer names: roads, roads",
    'Vector source must include "vector_layers" key',
    'Vector source "vector_layers" contains duplicate ID: roads',
    "Tileset is empty.",
    "Tile is invalid",
    "Unknown format.",
    "In mbtiles file, metadata.maxzoom (4) is higher than actual tiles maxzoom (2)",
    "In mbtiles file, metadata.minzoom (1) is lower than actual tiles minzoom (3)",
    "bounds east value must be between -360 and 360",
    "bounds west value must be between -360 and 360",
    "bounds north value must be between -90 and 90",
    "bounds south value must be between -90 and 90",
    "File is zero bytes.",
    "File too small",
    "Invalid CSV. Cannot detect column(s) with the name(s) of wkt, geojson, x/y, or latitude/longitude.",
    "CSV file does not contain any features",
    "Invalid geojson: does not contain any features",
    "Invalid shapefile: missing projection file",
    "Invalid shapefile: invalid projection file",
    "Invalid raster: could not read georeferencing information",
    "Invalid raster: Unable to compute bounds. Check the geotransform.",
    "Error calculating min/max zoom: Bounds invalid",
    "KML does not contain any valid features",
    "GPX does not contain any valid features.",
    "Unable to reproject data. Is the projection right?",
    "Unable to reproject tif. No CRS information found.",
]


@pytest.mark.parametrize("message", DATA_AT_FAULT)
def test_a_documented_message_blames_the_data_and_says_what_to_do(message: str) -> None:
    cause = explain_failure(message)

    assert cause.data_at_fault
    assert cause.hint.endswith(".")


@pytest.mark.parametrize(
    "message", ["Processing timed out.", "", "Internal error 1234", "Something nobody has seen", "Worker was lost"]
)
def test_a_timeout_or_an_unknown_message_is_not_blamed_on_the_data(message: str) -> None:
    cause = explain_failure(message)

    assert not cause.data_at_fault
    assert "again" in cause.hint


def test_a_failed_upload_tells_its_id_tileset_message_and_hint() -> None:
    upload = Upload.from_json(upload_json(error="Tileset is empty.", complete=True))

    error = UploadFailedError(upload)

    assert error.upload is upload
    assert error.data_at_fault
    assert not error.retryable
    for part in (upload.id, upload.tileset, "Tileset is empty.", error.cause.hint):
        assert part in str(error)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Failed to parse geojson feature", 'Mapbox says: "Failed to parse geojson feature".'),
        ("Tileset is empty.", 'Mapbox says: "Tileset is empty."'),
    ],
)
def test_the_words_of_mapbox_end_before_ours_begin(message: str, line: str) -> None:
    error = UploadFailedError(Upload.from_json(upload_json(error=message)))

    first, said, hint = str(error).splitlines()

    assert first.endswith("failed in processing.")
    assert said == line
    assert hint == error.cause.hint


def test_a_failure_without_words_is_still_a_sentence() -> None:
    error = UploadFailedError(Upload.from_json(upload_json(error="")))

    assert "no message" in str(error)
    assert not error.data_at_fault


def test_every_error_has_one_root_and_tells_whether_another_try_makes_sense() -> None:
    tree = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]

    assert len(tree) > 15
    # A parameter's impossible value is Python's own kind of error, found before anything is done.
    assert [kind for kind in tree if not issubclass(kind, MapboxError)] == [OptionError]
    tree.remove(OptionError)
    assert {kind.__name__ for kind in tree if kind.retryable} == {
        "ConnectionNotFoundError",
        "UnexpectedError",
        "SourceUnavailableError",
        "NotSentError",
        "StagingError",
        "StagingCredentialsExpiredError",
        "StagingStoppedError",
        "UploadNotListedError",
        "CreationUnknownError",
        "LedgerError",
        "NoAnswerError",
        "InvalidAnswerError",
        "StagedUrlNotReadableError",
        "UploadActiveError",
        "UploadIncompleteError",
        "ThrottledError",
        "ServerError",
        "WaitTimeoutError",
        "InvalidEventError",
    }
