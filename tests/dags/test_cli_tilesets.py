"""``airflow mapbox tilesets`` and the filters of ``airflow mapbox uploads list``, run by a person and by a script."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.emulator import Emulator, EmulatorSettings
from airflow_mapbox.hooks.tilesets import MapboxTilesetsHook
from airflow_mapbox.hooks.uploads import MapboxUploadsHook
from tests.connections import connection

pytestmark = pytest.mark.usefixtures("database")

Run = Callable[..., "subprocess.CompletedProcess[str]"]
DAY = 86_400.0


@pytest.fixture
def settings(make_settings: Callable[..., EmulatorSettings]) -> EmulatorSettings:
    return make_settings(tileset_costs=True, update_refused_status=None)


@pytest.fixture
def emulator(settings: EmulatorSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with Emulator(tmp_path / "emulator", settings=settings) as running:
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(running))
        now = running.clock()
        running.add_tileset("demo.quakes-new", created=now - DAY, filesize=1500, name="[red]New|\x1b[31m")
        running.add_tileset("demo.quakes-old", created=now - 100.5 * DAY, filesize=500_000, visibility="public")
        running.add_tileset("demo.roads", created=now - 200 * DAY, modified=now - DAY, filesize=7, type="raster")
        yield running


@pytest.fixture
def run(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, group: str = "tilesets") -> subprocess.CompletedProcess[str]:
        from airflow.cli.cli_parser import get_parser

        capsys.readouterr()  # the fixtures' own
        code: Any = 0
        try:
            args = get_parser().parse_args(["mapbox", group, *arguments])
            args.func(args)
        except SystemExit as error:
            code = error.code
        output = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code or 0, output.out, output.err)

    return run


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that lets a person at a terminal answer each question."""

    def answer(text: str) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda prompt: print(prompt) or text)

    return answer


def json_output(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def names() -> set[str]:
    return {tileset.own_name for tileset in MapboxTilesetsHook().list_tilesets()}


class TestList:
    def test_a_person_sees_figures_and_totals(self, run: Run) -> None:
        done = run("list")

        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert [cell.strip() for cell in lines[0].split("|")][:4] == ["id", "name", "type", "visibility"]
        assert [line.split()[0] for line in lines[2:5]] == ["demo.quakes-new", "demo.quakes-old", "demo.roads"]
        assert "500.0 kB" in lines[3]
        assert "100 d" in lines[3]
        # A name is neither markup nor a command for the terminal.
        assert "[red]New| [31m" in lines[2]
        assert "\x1b" not in done.stdout
        assert lines[-1].startswith("3 tilesets (1 public); 501.5 kB; ")

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            (("--match", "quakes-*"), ["quakes-new", "quakes-old"]),
            (("--type", "raster"), ["roads"]),
            (("--visibility", "public"), ["quakes-old"]),
            (("--older-than", "90d"), ["quakes-old"]),
            (("--older-than", "12h", "-n", "1"), ["quakes-new"]),
            (("--limit", "0"), []),
            (("--match", "nothing"), []),
        ],
    )
    def test_filters_in_json(self, run: Run, options: tuple[str, ...], found: list[str]) -> None:
        listed = json_output(run("list", "--json", *options))

        assert [tileset["id"] for tileset in listed] == [f"demo.{name}" for name in found]
        assert all(tileset["tileset_url"].endswith(f"/tilesets/{tileset['id']}") for tileset in listed)

    @pytest.mark.parametrize(
        ("options", "code", "told"),
        [
            (("--older-than", "90"), 2, "is not an age"),
            (("--type", "image"), 2, "invalid choice"),
            (("--match", "vega.x*"), 1, "--match is 'vega.x*'"),
        ],
    )
    def test_a_wrong_option_is_told(self, run: Run, options: tuple[str, ...], code: int, told: str) -> None:
        done = run("list", *options)

        assert done.returncode == code
        assert told in done.stderr

    def test_a_missing_scope_is_told(self, run: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        token = emulator.create_token(scopes=["uploads:list"])
        monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(emulator, password=token))

        done = run("list")

        assert done.returncode == 1
        assert "lacks the scope tilesets:list" in done.stderr
        assert token not in done.stderr


class TestShow:
    def test_a_script_gets_the_tileset_and_its_tilejson(self, run: Run) -> None:
        shown = json_output(run("show", "quakes-old", "--json"))

        assert (shown["id"], shown["visibility"]) == ("demo.quakes-old", "public")
        assert [layer["id"] for layer in shown["tilejson"]["vector_layers"]] == ["sample"]

    def test_a_person_sees_layers_zooms_and_the_page(self, run: Run, emulator: Emulator) -> None:
        done = run("show", "quakes-old")

        assert done.returncode == 0, done.stderr
        assert "0 to 0" in done.stdout
        assert "layer sample" in done.stdout
        assert done.stdout.splitlines()[-1] == f"{emulator.url}/tilesets/demo.quakes-old"

    def test_a_tileset_without_tilejson_is_shown_with_the_reason(self, run: Run, emulator: Emulator) -> None:
        emulator.faults.add("status", where="api", path="/v4/", status=404)

        done = run("show", "roads")

        assert done.returncode == 0, done.stderr
        assert "Its layers and zooms cannot be read." in done.stdout

    def test_an_unknown_tileset_is_told(self, run: Run) -> None:
        done = run("show", "nothing")

        assert (done.returncode, done.stdout) == (1, "")
        assert "shows no tileset demo.nothing" in done.stderr


class TestDelete:
    def test_a_script_deletes_with_yes_and_learns_what_was_gone(self, run: Run) -> None:
        done = json_output(run("delete", "roads", "demo.quakes-old", "roads", "nothing", "--yes", "--json"))

        assert done == {"deleted": ["demo.roads", "demo.quakes-old"], "gone": ["demo.nothing"]}
        assert names() == {"quakes-new"}

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_nothing_is_deleted_without_a_terminal_to_ask(self, run: Run, options: tuple[str, ...]) -> None:
        done = run("delete", "roads", *options)

        assert (done.returncode, done.stdout) == (1, "")
        assert "Add --yes to delete" in done.stderr
        assert len(names()) == 3

    def test_a_person_sees_what_is_deleted_and_confirms(self, run: Run, answer: Callable[[str], None]) -> None:
        answer("y")

        done = run("delete", "roads", "quakes-old", "nothing")

        assert done.returncode == 0, done.stderr
        shown, _, deleted = done.stdout.partition("Delete? [y/N]")
        assert "demo.nothing is not in the account's list." in shown
        assert "2 tilesets (1 public)" in shown
        assert "demo.quakes-new" not in shown
        assert deleted.split("\n", 1)[1].splitlines() == [
            "Deleted demo.roads.",
            "Deleted demo.quakes-old.",
            "demo.nothing is gone already.",
        ]
        assert names() == {"quakes-new"}

    @pytest.mark.parametrize("text", ["n", "", "yes please", "delete"])
    def test_every_other_answer_deletes_nothing(self, run: Run, answer: Callable[[str], None], text: str) -> None:
        answer(text)

        done = run("delete", "roads")

        assert done.returncode == 1
        assert done.stdout.endswith("Nothing was deleted.\n")
        assert len(names()) == 3

    def test_a_tileset_of_another_account_is_refused_before_the_others_are_deleted(
        self, run: Run, emulator: Emulator
    ) -> None:
        before = len(emulator.requests)

        done = run("delete", "roads", "vega.roads", "--yes")

        assert (done.returncode, done.stdout) == (1, "")
        assert "belongs to account 'vega'" in done.stderr
        assert len(emulator.requests) == before

    def test_a_script_learns_what_was_deleted_before_an_error(self, run: Run, emulator: Emulator) -> None:
        emulator.faults.add("status", where="api", path="/tilesets/v1/demo.roads", status=400)

        done = run("delete", "quakes-old", "roads", "quakes-new", "--yes", "--json")

        assert done.returncode == 1
        assert json.loads(done.stdout) == {"deleted": ["demo.quakes-old"], "gone": []}
        assert names() == {"roads", "quakes-new"}


class TestVisibility:
    def test_tilesets_are_published_and_unpublished(self, run: Run) -> None:
        assert json_output(run("publish", "roads", "quakes-new", "--json")) == {
            "public": ["demo.roads", "demo.quakes-new"]
        }
        assert all(tileset.is_public for tileset in MapboxTilesetsHook().list_tilesets())

        assert run("unpublish", "roads").stdout == "demo.roads is private now.\n"
        assert not MapboxTilesetsHook().get_tileset("roads").is_public

    @pytest.mark.parametrize("status", [400, 422])
    def test_a_refusal_is_explained(
        self,
        tmp_path: Path,
        make_settings: Callable[..., EmulatorSettings],
        monkeypatch: pytest.MonkeyPatch,
        run: Run,
        status: int,
    ) -> None:
        with Emulator(tmp_path / "refusing", settings=make_settings(update_refused_status=status)) as refusing:
            monkeypatch.setenv("AIRFLOW_CONN_MAPBOX_DEFAULT", connection(refusing))
            refusing.add_tileset("demo.roads")

            done = run("publish", "roads")

        assert (done.returncode, done.stdout) == (1, "")
        assert "The Uploads API made this tileset" in done.stderr
        assert "Mapbox Studio" in done.stderr


class TestUploadsList:
    @pytest.fixture
    def uploads(self, emulator: Emulator, tmp_path: Path) -> list[str]:
        path = tmp_path / "point.geojson"
        path.write_text('{"type": "Point", "coordinates": [7.1, 50.7]}')
        hook = MapboxUploadsHook()
        made = []
        for tileset in ("first", "second", "first"):
            made.append(hook.upload(path, tileset).id)
            hook.wait(made[-1], timeout=60, poll_interval=0.05)
        return made

    @pytest.mark.parametrize(
        ("options", "count"),
        [
            ((), 3),
            (("--since", "7d"), 3),
            (("--until", "12h"), 0),
            (("--since", "2000-01-01T00:00:00Z", "--state", "done"), 3),
            (("--state", "failed"), 0),
            (("--tileset", "first"), 2),
            (("--tileset", "demo.second", "--state", "done", "--since", "1h"), 1),
        ],
    )
    def test_filters_and_the_count(self, run: Run, uploads: list[str], options: tuple[str, ...], count: int) -> None:
        assert len(json_output(run("list", "--json", *options, group="uploads"))) == count
        assert json_output(run("list", "--json", "--count", *options, group="uploads")) == {"count": count}
        assert run("list", "--count", *options, group="uploads").stdout == f"{count}\n"

    @pytest.mark.parametrize(
        ("options", "code", "told"),
        [
            (("--since", "2026-03-01"), 2, "For UTC give 2026-03-01T00:00:00+00:00"),
            (("--until", "soon"), 2, "not a time"),
            (("--since", "1d", "--until", "2d"), 1, "The period is empty: --since"),
        ],
    )
    def test_a_time_that_is_not_certain_is_refused(
        self, run: Run, options: tuple[str, ...], code: int, told: str
    ) -> None:
        done = run("list", *options, group="uploads")

        assert done.returncode == code
        assert told in " ".join(done.stderr.split())
