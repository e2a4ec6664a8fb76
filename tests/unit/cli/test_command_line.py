"""The command line's options and messages, both made from the options that the export declares."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_mapbox.cli.definition import arguments_of
from airflow_mapbox.cli.options import chosen_export
from airflow_mapbox.cli.spelling import Spelling
from airflow_mapbox.cli.times import age, moment


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for argument in arguments_of("upload"):
        argument.add_to_parser(parser)
    return parser.parse_args(["a.gpkg", "parcels", *arguments])


@pytest.fixture(scope="module")
def spell() -> Spelling:
    return Spelling(arguments_of("upload"), "airflow mapbox uploads upload")


COMMANDS = [
    *(f"uploads {name}" for name in ("upload", "list", "show", "wait", "delete")),
    *(f"tilesets {name}" for name in ("list", "show", "delete", "publish", "unpublish")),
    "check",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_each_option_has_help(words: str) -> None:
    assert [argument.flags for argument in arguments_of(words) if len(argument.kwargs["help"]) < 12] == []


def test_a_command_of_tilesets_is_not_that_of_uploads() -> None:
    flags = {words: {flag for argument in arguments_of(words) for flag in argument.flags} for words in COMMANDS}

    assert "--yes" in flags["tilesets delete"]
    assert "--yes" not in flags["uploads delete"]
    assert "--since" in flags["uploads list"]
    assert "--match" in flags["tilesets list"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("0d", timedelta(0)),
        ("2026-03-01T00:00:00Z", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T09:00+09:00", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_an_age_or_iso_8601(text: str, expected: object) -> None:
    assert moment(text) == expected


@pytest.mark.parametrize(
    "text", ["", "d", "7", "7 d", "-7d", "7y", "1.5d", "9999999d", "2026-03-01", "1700000000", "7d\n"]
)
def test_another_time_is_refused_with_what_to_give(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="An age such as 12h or 7d"):
        moment(text)
    with pytest.raises(argparse.ArgumentTypeError, match="such as 12h or 7d"):
        age(text)


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((), None),
        (("--crs", "EPSG:25832", "--layer", "roads"), {"crs": "EPSG:25832", "layer": "roads"}),
        (("--layer", "2020"), {"layer": "2020"}),
        (("--decimals", "6", "--max-segment", "100.5"), {"decimals": 6, "max_segment": 100.5}),
        (("--columns", 'name,"a,b"'), {"columns": ["name", "a,b"]}),
        (("--as-text", "id"), {"as_text": ["id"]}),
        (("--bbox", "-83.7", "36.5", "-75.2", "39.5"), {"bbox": [-83.7, 36.5, -75.2, 39.5]}),
        (("--write-bbox", "--beyond-mercator", "clip"), {"write_bbox": True, "beyond_mercator": "clip"}),
        (("--where", "a = 'b'", "--x", "lon", "--y", "lat"), {"where": "a = 'b'", "x": "lon", "y": "lat"}),
        (("--tier", "1m", "--maxzoom", "13", "--minzoom", "2"), {"tier": "1m", "maxzoom": 13, "minzoom": 2}),
        (("--name", "Shown", "--export-name", "layer"), {"name": "layer"}),
    ],
)
def test_options_reach_the_export_as_its_keywords(arguments: tuple[str, ...], keywords: dict[str, Any] | None) -> None:
    assert chosen_export(parse(*arguments)) == keywords


@pytest.mark.parametrize(
    "arguments", [("--tier", "2m"), ("--decimals", "many"), ("--bbox", "1", "2", "3"), ("--z", "maybe")]
)
def test_an_invalid_value_of_an_option_prints_the_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("Name the one to export with layer=…, or", "Name the one to export with --layer …, or"),
        ("Say it with maxzoom= or tier=.", "Say it with --maxzoom or --tier."),
        ('Upload it with format="auto", which', "Upload it with --format auto, which"),
        ('leave them out with on_invalid="drop".', "leave them out with --on-invalid drop."),
        ("as_text=['id', 'number'].", "--as-text id,number."),
        ("bbox=(-1.5, 2, 3, 4), which", "--bbox -1.5 2 3 4, which"),
        ("where='a > 1', or", "--where 'a > 1', or"),
        ('and export={"beyond_mercator": "clip"}.', "and --beyond-mercator clip."),
        ("export={'crs': 'EPSG:1', 'decimals': 3} has", "--crs EPSG:1 --decimals 3 has"),
        ("export={…} has the options.", "`airflow mapbox uploads upload --help` has the options."),
        ("name another one (`mapbox_conn_id`).", "name another one (--mapbox-conn-id)."),
        ("set a larger `part_size`, or leave", "set a larger --part-size, or leave"),
        ("wait with a longer `stall_timeout`.", "wait with a longer --stall-timeout."),
        ("Change the `name` parameter", "Change the --name parameter"),
        ('such as crs="EPSG:4326" (in an upload export={"crs": …}). For', "such as --crs EPSG:4326. For"),
        ('such as crs="EPSG:4326" (in a task export={"crs": "EPSG:4326"}), or', "such as --crs EPSG:4326, or"),
        ("decimals=99: it is a number", "--decimals 99: it is a number"),
    ],
)
def test_messages_name_parameters_as_command_line_options(spell: Spelling, python: str, shell: str) -> None:
    assert spell(python) == shell


@pytest.mark.parametrize(
    "message",
    [
        "/data/z=12/x=3.parquet does not exist.",
        "z=12/x=3/y=4.parquet does not exist.",
        "geopandas.GeoDataFrame(frame, geometry=…, crs=…)",
        "GeoDataFrame(frame, geometry=points_from_xy(frame.lon, frame.lat), crs=4326)",
        "connect with timeout=3600 s, name='a', json=1, wait=2, export_crs=3, (read timeout=60)",
        "Columns are part_size, where and 'stall_timeout'.",
        "has no `type`, and a `crs` member",
        "The layer is empty, the columns are x, y and name.",
        "frame.set_crs(…, allow_override=True)",
        "https://example.com/?format=json&layer=a",
    ],
)
def test_text_that_is_not_a_parameter_is_not_changed_in_messages(spell: Spelling, message: str) -> None:
    assert spell(message) == message


@pytest.mark.parametrize(
    "fragment",
    [
        *(
            "export={",
            "crs=[",
            "crs=(",
            'crs="',
            "crs='",
            "crs=a",
            "crs=-",
            "`crs",
            "`part_size",
            "--crs (",
            "x(",
            "x((",
        ),
        *("export={'crs':", "export={'a':[1", " (in a task export={", "GeoDataFrame(a(b), ", "-", ".", "("),
    ],
)
def test_spelling_a_message_takes_linear_time(spell: Spelling, fragment: str) -> None:
    started = time.process_time()

    spell(fragment * (400_000 // len(fragment)))

    # Messages quote the content of files. Before the expressions had limits, 160,000 characters took 6 s.
    assert time.process_time() - started < 2


def test_messages_of_a_command_without_export_keep_the_keywords_of_the_export() -> None:
    spell = Spelling(arguments_of("wait"), "airflow mapbox uploads wait")

    assert spell('crs="EPSG:4326" and format="auto"; `stall_timeout`') == (
        'crs="EPSG:4326" and format="auto"; --stall-timeout'
    )
