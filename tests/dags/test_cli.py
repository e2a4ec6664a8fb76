"""``airflow mapbox uploads``, run by a person and by a script."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator
from airflow_mapbox.hooks.uploads import MapboxUploadsHook

# A Python parameter in a message. The command line must write it as an option.
KEYWORD = re.compile(r"\b(crs|format|export|layer|where|decimals|mapbox_conn_id|beyond_mercator)\b *=|`mapbox_conn_id`")

pytestmark = pytest.mark.usefixtures("database", "mapbox_connection")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def airflow() -> Run:
    """Return a function that runs the command in its own process, like a shell."""

    def run(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "airflow", "mapbox", "uploads", *arguments],
            capture_output=True,
            text=True,
            env=os.environ | changed,
        )

    return run


@pytest.fixture
def airflow_here(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command in this process, which takes a hundredth of the time."""

    def run(*arguments: str, group: tuple[str, ...] = ("uploads",)) -> subprocess.CompletedProcess[str]:
        from airflow.cli.cli_parser import get_parser

        args = get_parser().parse_args(["mapbox", *group, *arguments])
        code: Any = 0
        try:
            args.func(args)
        except SystemExit as error:
            code = error.code
        output = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, output.out, output.err)

    return run


def json_output(done: subprocess.CompletedProcess[str]) -> Any:
    """Return the JSON on standard output, and fail if the output contains anything else."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_script_can_upload_wait_show_list_and_delete(airflow: Run, geojson: Path, emulator: Emulator) -> None:
    created = json_output(airflow("upload", str(geojson), "scripted", "--name", "Scripted", "--json"))
    assert (created["tileset"], created["name"]) == (f"{emulator.account}.scripted", "Scripted")

    done = json_output(airflow("wait", created["id"], "--timeout", "60", "--json"))
    assert (done["id"], done["complete"], done["error"]) == (created["id"], True, None)

    assert done["tileset_url"] == f"{emulator.url}/tilesets/{emulator.account}.scripted"
    assert json_output(airflow("show", created["id"], "--json")) == done
    listed = json_output(airflow("list", "--limit", "100", "--json"))
    assert done in listed

    assert json_output(airflow("delete", created["id"], "--json")) == {"deleted": created["id"]}
    assert created["id"] not in {upload.id for upload in MapboxUploadsHook().list_uploads()}


@pytest.mark.slow
def test_geodata_is_exported_before_the_upload(airflow_here: Run, tmp_path: Path, emulator: Emulator) -> None:
    table = tmp_path / "places.csv"
    table.write_text("name,x,y\nA,500000,5600000\nB,501000,5600000\n")

    refused = airflow_here("upload", str(table), "exported", "--format", "geojson")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "crs" in refused.stderr
    assert "Traceback" not in refused.stderr

    created = json_output(
        airflow_here("upload", str(table), "exported", "--format", "auto", "--crs", "EPSG:32632", "--json")
    )
    assert created["tileset"] == f"{emulator.account}.exported"
    assert json_output(airflow_here("wait", created["id"], "--timeout", "60", "--json"))["error"] is None


def test_a_person_sees_a_table_and_no_log(airflow: Run, geojson: Path, emulator: Emulator) -> None:
    done = airflow("upload", str(geojson), "shown", "--wait")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["id", "|", "tileset", "|", "name", "|", "state", "|", "created"]
    assert f"{emulator.account}.shown" in lines[2]
    assert "done" in lines[2]
    assert lines[-1] == f"{emulator.url}/tilesets/{emulator.account}.shown"
    assert "answered" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_person_at_a_terminal_sees_how_far_it_is(geojson: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "airflow", "mapbox", "uploads", "upload", str(geojson), "seen", "--wait"]
    seen = bytearray()
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        # Linux ends a terminal that nobody holds any more with an error.
        with contextlib.suppress(OSError):
            while data := os.read(ours, 4096):
                seen += data
    os.close(ours)

    assert process.returncode == 0, seen
    assert f"Staging {geojson.name}".encode() in seen
    assert b"Processing" in seen


@pytest.mark.slow
def test_verbose_shows_the_log(airflow: Run) -> None:
    done = airflow("list", "--limit", "1", "--verbose")

    assert "answered 200" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "c" + "0" * 24), "without the scope uploads:read"),
        (("upload", "/nowhere.geojson", "points"), "does not exist on this worker"),
        (("list", "--conn-id", "mapbox_nowhere"), "Airflow finds no connection 'mapbox_nowhere'"),
    ],
)
def test_an_error_prints_a_message_and_sets_the_exit_code(
    airflow_here: Run, emulator: Emulator, arguments: tuple[str, ...], message: str
) -> None:
    done = airflow_here(*arguments, "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert emulator.token not in done.stderr


@pytest.mark.slow
def test_a_connection_in_airflows_database_is_found(
    airflow: Run, mapbox_connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = ["--conn-json", mapbox_connection]
    added = subprocess.run(
        [sys.executable, "-m", "airflow", "connections", "add", "mapbox_stored", *connection],
        capture_output=True,
        text=True,
    )
    assert added.returncode == 0, added.stderr
    monkeypatch.delenv("AIRFLOW_CONN_MAPBOX_DEFAULT")

    assert isinstance(json_output(airflow("list", "--conn-id", "mapbox_stored", "--json")), list)


@pytest.fixture
def faults(emulator: Emulator) -> Iterator[Any]:
    yield emulator.faults
    emulator.faults.clear()


@pytest.fixture
def interrupted(emulator: Emulator) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command and presses Ctrl-C when a condition is true."""

    def run(*arguments: str, when: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "airflow", "mapbox", "uploads", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while not when():
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()  # without the interrupt, the command would exceed pytest's timeout
        assert "Traceback" not in err
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return run


def was_requested(emulator: Emulator, method: str, path: str, *, since: int = 0) -> bool:
    """Return whether the emulator got a request after its first ``since`` requests."""
    return any(request.method == method and re.search(path, request.path) for request in emulator.requests[since:])


@pytest.mark.slow
@pytest.mark.parametrize("command", ["upload", "wait"])
def test_ctrl_c_during_a_wait_prints_the_id_and_how_to_continue(
    interrupted: Any, airflow_here: Run, geojson: Path, emulator: Emulator, faults: Any, command: str
) -> None:
    faults.add("stall", where="processing", path="interrupted", progress=0.37)
    arguments = ["upload", str(geojson), f"interrupted-{command}", "--wait"]
    if command == "wait":
        created = json_output(airflow_here(*arguments[:-1], "--json"))
        arguments = ["wait", created["id"]]
    before = len(emulator.requests)

    done = interrupted(*arguments, when=lambda: was_requested(emulator, "GET", r"/uploads/v1/demo/\w+", since=before))

    assert (done.returncode, done.stdout) == (130, "")
    uploads = MapboxUploadsHook().list_uploads()
    (upload,) = [upload for upload in uploads if upload.tileset.endswith(f"interrupted-{command}")]
    assert upload.id in done.stderr
    (next_command,) = re.findall(r"airflow mapbox uploads (wait .*)$", done.stderr, re.MULTILINE)
    faults.clear()
    assert json_output(airflow_here(*next_command.split(), "--json"))["complete"]


@pytest.mark.slow
def test_ctrl_c_while_staging_aborts_and_creates_no_upload(
    interrupted: Any, tmp_path: Path, emulator: Emulator, faults: Any
) -> None:
    large = tmp_path / "large.csv"
    large.write_text("lon,lat,note\n" + f"7,50,{'x' * 1000}\n" * 24_000)
    faults.add("hang", where="s3", path="partNumber=2", seconds=600)
    uploads = len(list(MapboxUploadsHook().list_uploads()))

    done = interrupted("upload", str(large), "staging", when=lambda: not emulator.faults.all())

    assert (done.returncode, done.stdout) == (130, "")
    assert "No upload was created" in done.stderr
    assert len(list(MapboxUploadsHook().list_uploads())) == uploads


@pytest.mark.slow
def test_ctrl_c_before_mapbox_responds_says_that_the_upload_may_exist(
    interrupted: Any, geojson: Path, emulator: Emulator, faults: Any
) -> None:
    faults.add("hang", method="POST", path="^/uploads/v1/demo\\?", seconds=600)

    done = interrupted("upload", str(geojson), "unanswered", when=lambda: not emulator.faults.all())

    assert (done.returncode, done.stdout) == (130, "")
    assert f"{emulator.account}.unanswered may exist" in done.stderr
    assert "airflow mapbox uploads list" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_busy_tileset_can_be_skipped(airflow_here: Run, geojson: Path, faults: Any, form: tuple[str, ...]) -> None:
    name = f"busy{len(form)}"
    faults.add("stall", where="processing", path=name, progress=0.5)
    json_output(airflow_here("upload", str(geojson), name, "--json"))

    done = airflow_here("upload", str(geojson), name, "--if-active", "skip", *form)

    assert done.returncode == 0, done.stderr
    message = json.loads(done.stdout)["skipped"] if form else done.stdout
    assert "already" in message
    failed = airflow_here("upload", str(geojson), name, "--if-active", "fail", *form)
    assert (failed.returncode, failed.stdout) == (1, "")


@pytest.fixture
def two_layers(tmp_path: Path) -> Path:
    import geopandas

    path = tmp_path / "city.gpkg"
    for layer, count in (("roads", 2), ("trees", 3)):
        points = geopandas.points_from_xy([7.0 + number / 10 for number in range(count)], [50.0] * count)
        frame = geopandas.GeoDataFrame({"number": range(count), "kind": "a"}, geometry=points, crs=4326)
        frame.to_file(path, layer=layer)
    return path


@pytest.mark.slow
def test_the_export_gets_its_options_from_the_command(airflow_here: Run, two_layers: Path, emulator: Emulator) -> None:
    import requests

    options = ["--layer", "trees", "--where", "number > 0", "--columns", "number", "--decimals", "3"]

    done = airflow_here("upload", str(two_layers), "trees", "--format", "geojson", *options, "--wait", "--json")

    assert json_output(done)["complete"]
    (layer,) = requests.get(f"{emulator.url}/tilesets/demo.trees.json", timeout=10).json()["vector_layers"]
    assert layer["fields"] == {"number": "Number"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{gpkg}", "t", "--format", "geojson"), "--layer"),
        (("{gpkg}", "t"), "--format auto"),
        (("{csv}", "t", "--format", "auto"), "--crs EPSG:4326"),
        (("{gpkg}", "t", "--layer", "roads"), "--layer roads has no effect without --format"),
        (("{gpkg}", "t", "--format", "geojson", "--tier", "1m"), "choose mbtiles or auto"),
        (("{gpkg}", "t", "--format", "auto", "--layer", "roads", "--decimals", "99"), "--decimals 99"),
        (("{gpkg}", "t", "--format", "auto", "--layer", "roads", "--columns", "height"), "height"),
        (("{gpkg}", "t", "-c", "nowhere"), "--mapbox-conn-id"),
        (("{gpkg}", "t", "--part-size", "1"), "--part-size"),
        (("{polar}", "t"), "--beyond-mercator clip"),
    ],
)
def test_an_error_names_options_of_the_command_line(
    airflow_here: Run, two_layers: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "table.csv").write_text("name,x,y\nA,7,50\n")
    pole = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [0, 89.5]}}
    (tmp_path / "polar.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [pole]}))
    files = {"gpkg": two_layers, "csv": tmp_path / "table.csv", "polar": tmp_path / "polar.geojson"}

    done = airflow_here("upload", *(argument.format(**files) for argument in arguments))

    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not KEYWORD.search(done.stderr), done.stderr


def test_a_bug_keeps_its_traceback(airflow_here: Run, geojson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(MapboxUploadsHook, "upload", broken)

    with pytest.raises(ValueError, match="a bug"):
        airflow_here("upload", str(geojson), "t")


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "shown"), [((), False), (("-v",), True)])
def test_the_traceback_of_an_error_is_logged_only_with_verbose(
    airflow: Run, flags: tuple[str, ...], shown: bool
) -> None:
    done = airflow("upload", "/nowhere.geojson", "points", *flags)

    assert done.returncode == 1
    assert ("SourceError" in done.stdout + done.stderr) is shown


def test_each_problem_and_each_remedy_has_its_own_line(airflow_here: Run, tmp_path: Path) -> None:
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [500000, 4649776]}},
        {"type": "Feature", "properties": {}, "geometry": {"type": "Circle", "coordinates": [1, 2]}},
    ]
    bad = tmp_path / "bad.geojson"
    bad.write_text(json.dumps({"type": "FeatureCollection", "features": features}))

    lines = airflow_here("upload", str(bad), "bad").stderr.strip().splitlines()

    assert lines[0] == f"{bad} was not sent."
    assert len(lines) >= 3
    assert any("upload it with --format auto" in line for line in lines)


class TestCheck:
    """``airflow mapbox check``, which needs no connection."""

    def check(self, airflow_here: Run, *arguments: str) -> subprocess.CompletedProcess[str]:
        return airflow_here(*arguments, group=("check",))  # type: ignore[arg-type]

    def test_a_good_file_is_shown_with_its_facts_and_the_exit_code_is_0(self, airflow_here: Run, geojson: Path) -> None:
        done = self.check(airflow_here, str(geojson))

        assert done.returncode == 0
        for words in ("GeoJSON", "Bill", "Mapbox should accept it."):
            assert words in done.stdout

    def test_a_bad_file_is_shown_with_each_problem_and_the_exit_code_is_1(
        self, airflow_here: Run, tmp_path: Path
    ) -> None:
        path = tmp_path / "metres.geojson"
        path.write_text('{"type":"Feature","geometry":{"type":"Point","coordinates":[500000,4649776]},"properties":{}}')

        done = self.check(airflow_here, str(path), "--tileset", "a b")

        assert done.returncode == 1
        for words in ("geojson-range", "feature 0", "upload-name", "Coordinates beyond web", "2 problems"):
            assert words in done.stdout
        assert done.stderr == ""

    def test_a_script_gets_json_and_the_same_exit_code(self, airflow_here: Run, tmp_path: Path, geojson: Path) -> None:
        empty = tmp_path / "empty.csv"
        empty.write_text("lon,lat\n")

        good, bad = self.check(airflow_here, str(geojson), "--json"), self.check(airflow_here, str(empty), "--json")

        assert (good.returncode, json.loads(good.stdout)["ok"]) == (0, True)
        assert bad.returncode == 1
        assert [problem["rule"] for problem in json.loads(bad.stdout)["problems"]] == ["csv-empty"]

    def test_the_area_is_measured_on_request(self, airflow_here: Run, geojson: Path) -> None:
        done = self.check(airflow_here, str(geojson), "--area", "--json")

        assert json.loads(done.stdout)["bill"]["area_km2"] is not None

    def test_a_missing_file_is_an_error_with_exit_code_1(self, airflow_here: Run, tmp_path: Path) -> None:
        done = self.check(airflow_here, str(tmp_path / "missing.geojson"))

        assert done.returncode == 1
        assert "does not exist" in done.stderr
        assert done.stdout == ""
