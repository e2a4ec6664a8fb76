"""Every place that repeats an option of the export is held to its one definition, airflow_mapbox.export.options."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Union, Unpack, get_args, get_origin, get_type_hints

import pytest

from airflow_mapbox.cli.definition import arguments_of
from airflow_mapbox.export import stream_geojson, write_auto, write_geojson, write_mbtiles
from airflow_mapbox.export.geometry.options import GeometryOptions
from airflow_mapbox.export.options import (
    FORMATS,
    MBTILES_LIMIT_BYTES,
    OPTIONS,
    ExportFormat,
    ExportOption,
    GeoJSONKeywords,
    Options,
    Selection,
    Tier,
    TileKeywords,
    check_format,
)
from airflow_mapbox.limits import TIER_MAXZOOM
from tests.conftest import ROOT

GEOJSON = {name: option for name, option in OPTIONS.items() if not option.for_tiles}
TILES = {name: option for name, option in OPTIONS.items() if option.for_tiles}
PLACES = {"source", "path", "stem"}
MARK = "<!-- options of the export: held to the code by tests/unit/export/test_options.py -->"


def named_keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that a function writes out, without its source and file and its further keywords."""
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in PLACES and parameter.kind is not parameter.VAR_KEYWORD
    }


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's parameters, without its source and file."""
    wanted = {name: hint for name, hint in function.__annotations__.items() if name not in {*PLACES, "return"}}
    return get_type_hints(SimpleNamespace(__annotations__=wanted), globalns=function.__globals__)


class TestPublicFunctions:
    @pytest.mark.parametrize(
        ("function", "options"),
        [(stream_geojson, GEOJSON), (write_geojson, {}), (write_mbtiles, TILES), (write_auto, TILES)],
        ids=["stream_geojson", "write_geojson", "write_mbtiles", "write_auto"],
    )
    def test_a_signature_has_the_names_types_and_defaults_of_the_options(
        self, function: Callable[..., Any], options: dict[str, ExportOption]
    ) -> None:
        keywords, hints = named_keywords(function), hints_of(function)

        assert list(keywords) == list(options)
        for name, option in options.items():
            assert keywords[name].kind is inspect.Parameter.KEYWORD_ONLY
            assert (name, keywords[name].default) == (name, option.default)
            assert set(union(hints[name])) <= set(union(option.type)), name

    @pytest.mark.parametrize("function", [write_geojson, write_mbtiles, write_auto])
    def test_the_other_keywords_are_those_of_geojson(self, function: Callable[..., Any]) -> None:
        assert hints_of(function)["keywords"] == Unpack[GeoJSONKeywords]

    def test_the_docstring_of_stream_geojson_describes_every_option(self) -> None:
        described = re.findall(r":param (\w+):", stream_geojson.__doc__ or "")

        assert described == ["source", *GEOJSON]


class TestKeywords:
    def test_the_typed_dicts_have_every_option_once(self) -> None:
        assert list(GeoJSONKeywords.__annotations__) == list(GEOJSON)
        assert list(TileKeywords.__annotations__) == list(TILES)
        assert [*GEOJSON, *TILES] == list(OPTIONS)

    @pytest.mark.parametrize("name", OPTIONS)
    def test_the_default_has_the_type_of_the_option(self, name: str) -> None:
        option = OPTIONS[name]
        members = {get_origin(member) or member for member in union(option.type)}

        if Literal in members:
            members.remove(Literal)
            assert option.default is None or option.default in option.choices
        assert option.default in option.choices or isinstance(option.default, tuple(members))

    @pytest.mark.parametrize("checked", [Selection, Options, GeometryOptions])
    def test_the_checked_options_have_the_same_names_and_defaults(self, checked: type) -> None:
        for field in fields(checked):
            if field.name != "geometry":
                assert field.name in GEOJSON
                assert field.default in (MISSING, GEOJSON[field.name].default)

    def test_the_geometry_options_have_the_same_types_and_defaults(self) -> None:
        hints, geometry = get_type_hints(GeometryOptions), Options().geometry

        for name, hint in hints.items():
            assert hint == OPTIONS[name].type
            assert getattr(geometry, name) == OPTIONS[name].default

    def test_every_format_and_tier_is_known(self) -> None:
        assert get_args(ExportFormat) == FORMATS
        assert get_args(Tier) == tuple(TIER_MAXZOOM)


class TestOperator:
    @pytest.mark.parametrize("format", FORMATS)
    def test_its_check_accepts_the_options_of_a_format_and_no_others(self, format: str) -> None:
        accepted = GEOJSON if format == "geojson" else OPTIONS

        check_format(format, dict.fromkeys(accepted))
        for name in ("unknown", *OPTIONS.keys() - accepted.keys()):
            with pytest.raises(ValueError, match=f"export has '{name}'"):
                check_format(format, {name: 1})

    def test_it_can_be_imported_without_heavy_packages(self) -> None:
        program = (
            "import sys, airflow_mapbox.export.options;"
            "print(*{'numpy', 'pandas', 'pyarrow', 'shapely', 'geopandas', 'pyproj', 'airflow'} & sys.modules.keys())"
        )

        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

        assert done.stdout.split() == []


def test_the_command_line_has_every_option_with_its_help_and_default() -> None:
    arguments = {
        argument.kwargs["dest"].removeprefix("export_"): argument.kwargs
        for argument in arguments_of("upload")
        if argument.kwargs.get("dest", "").startswith("export_")
    }

    assert list(arguments) == list(OPTIONS)
    for name, option in OPTIONS.items():
        default = "" if option.default in (None, False, ()) and name != "minzoom" else f" (default: {option.default})"
        assert arguments[name]["help"] == f"Export: {option.help}{default}"
        assert arguments[name].get("choices", option.choices) == option.choices or type(None) in option.choices


class TestDocumentation:
    def test_the_table_has_every_option_with_its_functions_and_default(self) -> None:
        rows = documented_options()

        assert [name for name, _, _ in rows] == [f"`{name}`" for name in OPTIONS]
        for (_, default, functions), option in zip(rows, OPTIONS.values(), strict=True):
            assert default == documented_default(option), option.name
            assert functions == ("" if option.for_tiles else "`write_geojson`, ") + "`write_mbtiles`, `write_auto`"


def documented_options() -> list[tuple[str, str, str]]:
    """The name, default and functions of each row below the mark."""
    table = (ROOT / "docs/how-to/export.md").read_text().split(MARK)[1].lstrip().split("\n\n")[0]
    header, _, *lines = [line.strip("|").split(" | ") for line in table.splitlines()]
    columns = [header.index(name) for name in ("default", "taken by")]
    return [(line[0].strip(), *(line[column].strip() for column in columns)) for line in lines]  # type: ignore[misc]


def documented_default(option: ExportOption) -> str:
    default = f'"{option.default}"' if isinstance(option.default, str) else str(option.default)
    return f"`{default}`" + (f" (`write_mbtiles`: `{MBTILES_LIMIT_BYTES}`)" if option.name == "limit_bytes" else "")


def union(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)
