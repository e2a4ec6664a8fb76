from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.preflight.support import Write, as_bytes


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a file of bytes, or of JSON for any other content."""

    def write(content: Any, name: str = "data.geojson") -> Path:
        path = tmp_path / name
        path.write_bytes(as_bytes(content))
        return path

    return write
