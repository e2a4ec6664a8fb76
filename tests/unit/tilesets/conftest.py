from __future__ import annotations

import pytest

from airflow_mapbox.tilesets.client import TilesetsClient
from airflow_mapbox.uploads.client import UploadsClient


@pytest.fixture
def tilesets(client: UploadsClient) -> TilesetsClient:
    """Give a client of the tilesets with the token, the server and the time of the uploads' client."""
    return TilesetsClient.sharing(client)
