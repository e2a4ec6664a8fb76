from __future__ import annotations

import pytest

from airflow_mapbox.errors import SourceError, SourceUnavailableError, UnreadableSourceError
from airflow_mapbox.sources.failures import error_class
from airflow_mapbox.sources.files import find_file
from airflow_mapbox.sources.resolve import open_source


class FailingPath:
    """A path of an object store that fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __str__(self) -> str:
        return "store://bucket/x.geojson"

    def open(self, mode: str = "rb") -> object:
        raise self._error

    def stat(self) -> object:
        raise self._error


@pytest.mark.parametrize("error", [SourceUnavailableError("away"), TypeError("None"), OSError("reset")])
def test_a_transient_error_of_a_path_stays_retryable(error: Exception) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(FailingPath(error))  # type: ignore[arg-type]

    assert caught.value.retryable
    with pytest.raises(SourceError) as caught:
        find_file(FailingPath(error)).open()  # type: ignore[arg-type]
    assert caught.value.retryable


@pytest.mark.parametrize("error", [UnreadableSourceError("gone"), FileNotFoundError(), PermissionError(), ValueError()])
def test_a_permanent_error_is_final(error: Exception) -> None:
    assert not error_class(error).retryable
