"""The options of the command line, and its messages, which are made from the options that the export declares."""

from __future__ import annotations

import argparse
import time
from typing import Any

import pytest

from airflow_mapbox.cli.definition import arguments_of
from airflow_mapbox.cli.options import chosen_export
from airflow_mapbox.cli.spelling import Spelling


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for argument in arguments_of("upload"):
        argument.add_to_parser(parser)
    return parser.parse_args(["a.gpkg", "parcels", *arguments])


@pytest.fixture(scope="module")
def spelled() -> Spelling:
    return Spelling(arguments_of("upload"), "airflow mapbox uploads upload")


def test_every_option_has_help() -> None:
    assert [argument.flags for argument in arguments_of("upload") if len(argument.kwargs["help"]) < 12] == []


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
    assert chosen_export(parsed(*arguments)) == keywords


@pytest.mark.parametrize(
    "arguments", [("--tier", "2m"), ("--decimals", "many"), ("--bbox", "1", "2", "3"), ("--z", "maybe")]
)
def test_a_value_that_an_option_does_not_take_ends_with_the_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    assert ended.value.code == 2
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
def test_messages_name_options_as_the_command_line_spells_them(spelled: Spelling, python: str, shell: str) -> None:
    assert spelled(python) == shell


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
def test_text_that_is_not_an_option_stays_in_messages(spelled: Spelling, message: str) -> None:
    assert spelled(message) == message


@pytest.mark.parametrize(
    "piece",
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
def test_spelling_a_message_takes_linear_time(spelled: Spelling, piece: str) -> None:
    began = time.process_time()

    spelled(piece * (400_000 // len(piece)))

    # A message quotes what a file contains; 160,000 characters of it took 6 s.
    assert time.process_time() - began < 2


def test_a_command_without_an_export_keeps_the_exports_keywords() -> None:
    spelled = Spelling(arguments_of("wait"), "airflow mapbox uploads wait")

    assert spelled('crs="EPSG:4326" and format="auto"; `stall_timeout`') == (
        'crs="EPSG:4326" and format="auto"; --stall-timeout'
    )
