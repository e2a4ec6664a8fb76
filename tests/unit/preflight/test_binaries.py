"""KML and GPX: their ends are checked."""

from __future__ import annotations

import pytest

from airflow_mapbox.preflight import check_source
from tests.unit.preflight.support import GPX, KML, Write


class TestKmlAndGpx:
    @pytest.mark.parametrize(("content", "name"), [(KML, "a.kml"), (GPX, "a.gpx")])
    def test_kml_and_gpx_that_are_not_closed_are_a_problem(self, write: Write, content: bytes, name: str) -> None:
        large = content[: content.index(b"?>") + 2] + content[content.index(b"?>") + 2 :].replace(
            b"</", b"<!--" + b"x" * 100_000 + b"--></"
        )

        assert check_source(write(content + b"\n<!-- made by x -->", name)).ok
        assert check_source(write(large, name)).ok
        assert "cut off" in check_source(write(content[:-5], name)).problems[0]
        assert "cut off" in check_source(write(large[:-50], name)).problems[0]

    def test_kml_in_the_encoding_that_it_declares_passes(self, write: Write) -> None:
        kml = KML.replace(b'"1.0"', b'"1.0" encoding="ISO-8859-1"').replace(b"<Document/>", b"<name>Z\xfcrich</name>")

        assert check_source(write(kml, "a.kml")).ok
        assert not check_source(write(kml.replace(b' encoding="ISO-8859-1"', b""), "a.kml")).ok
