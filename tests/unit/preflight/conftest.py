from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.preflight.support import Write, as_bytes


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file, of bytes or of what becomes JSON."""

    def write(content: Any, name: str = "data.geojson") -> Path:
        path = tmp_path / name
        path.write_bytes(as_bytes(content))
        return path

    return write
