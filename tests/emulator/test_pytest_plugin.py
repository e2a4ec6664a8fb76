"""The pytest plugin, used by the tests of another project."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import ROOT

pytest_plugins = ["pytester"]

PLUGIN = "airflow_mapbox.emulator.pytest_plugin"


@pytest.fixture(autouse=True)
def _another_project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *(path for path in sys.path if path)]))
    # If this project is installed, pytest also loads the plugin by its entry point, and refuses to register it twice.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\naddopts = --strict-markers\n")


def run(pytester: pytest.Pytester, tests: str, conftest: str = "") -> pytest.RunResult:
    if conftest:
        pytester.makeconftest(conftest)
    pytester.makepyfile(tests)
    return pytester.runpytest_subprocess("-p", PLUGIN)


def test_fixture_is_a_running_emulator_with_an_airflow_connection(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import json, os
        import requests

        def test_it(mapbox_emulator):
            response = requests.post(
                f"{mapbox_emulator.url}/uploads/v1/{mapbox_emulator.account}/credentials",
                params={"access_token": mapbox_emulator.token}, timeout=10,
            )
            assert response.status_code == 200
            assert mapbox_emulator.s3_url.startswith("http://127.0.0.1:")
            assert [request.status for request in mapbox_emulator.requests] == [200]
            mapbox_emulator.clock.advance(1)
            connection = json.loads(os.environ["AIRFLOW_CONN_MAPBOX_DEFAULT"])
            assert connection == json.loads(mapbox_emulator.airflow_connection())
            assert connection["host"] == mapbox_emulator.url

        def test_without_it_nothing_is_set():
            assert "AIRFLOW_CONN_MAPBOX_DEFAULT" not in os.environ
        """,
    )

    result.assert_outcomes(passed=2)


@pytest.mark.slow
def test_tests_share_no_state(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import time
        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_it(mapbox_emulator, number):
            assert mapbox_emulator.faults.all() == []
            assert mapbox_emulator.requests == []
            assert abs(mapbox_emulator.clock() - time.time()) < 500
            mapbox_emulator.faults.add("status", times=0)
            mapbox_emulator.clock.advance(1000)
        """,
    )

    result.assert_outcomes(passed=3)


@pytest.mark.slow
def test_settings_come_from_a_fixture_and_a_marker(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.mapbox_emulator(rate_limit=3)
        class TestLimits:
            def test_marked(self, mapbox_emulator):
                assert mapbox_emulator.settings.rate_limit == 3
                assert mapbox_emulator.account == "acme"

            @pytest.mark.mapbox_emulator(rate_limit=5)
            def test_the_nearest_marker_counts(self, mapbox_emulator):
                assert mapbox_emulator.settings.rate_limit == 5

        def test_not_marked(mapbox_emulator):
            assert mapbox_emulator.settings.rate_limit == 0
            assert mapbox_emulator.account == "acme"
        """,
        conftest="""
        import dataclasses
        import pytest

        @pytest.fixture
        def mapbox_emulator_settings(mapbox_emulator_settings):
            return dataclasses.replace(mapbox_emulator_settings, account="acme")
        """,
    )

    result.assert_outcomes(passed=3)


def test_without_the_extra_only_tests_that_use_the_fixture_fail_with_advice(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_with(mapbox_emulator):
            pass

        def test_without():
            pass
        """,
        conftest="import sys\nsys.modules['moto'] = None\n",
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*airflow-provider-mapbox?emulator?*"])


def test_plugin_imports_no_slow_packages() -> None:
    heavy = ("airflow", "boto3", "botocore", "geopandas", "moto", "pandas", "requests", "starlette", "uvicorn")
    code = f"import sys, {PLUGIN}; print([name for name in {heavy!r} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout

    assert loaded.strip() == "[]"


def test_entry_point_names_the_plugin() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {"mapbox_emulator": PLUGIN}
