"""The check of a GeoTIFF: each rule, both byte orders, real files of GDAL, broken and hostile ones."""

from __future__ import annotations

import math
import random
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_mapbox.errors import SourceUnavailableError
from airflow_mapbox.preflight.findings import Content, Finding
from airflow_mapbox.preflight.tiff import check_tiff
from airflow_mapbox.rules import tiff as rules
from airflow_mapbox.rules.rule import Rule
from airflow_mapbox.sources.ranges import FileRanges
from tests.unit.preflight.binaries import FIXTURES, MATRIX, TIFF_TAGS, Failing, Memory, tiff

WITHOUT_POSITION = {33550: None, 33922: None}
WITH_MATRIX = WITHOUT_POSITION | {34264: (12, MATRIX)}
SAMPLES = 500


def found(data: bytes, content: Content | None = None) -> list[Finding]:
    return list(check_tiff(Memory(data), content or Content()))


def broken_rules(data: bytes) -> set[Rule]:
    return {item.rule for item in found(data)}


def with_matrix(**changes: float) -> dict[int, Any]:
    matrix = list(MATRIX)
    for name, value in changes.items():
        matrix[int(name[1:])] = value
    return WITHOUT_POSITION | {34264: (12, matrix)}


def utm(code: int, x: float, y: float) -> dict[int, Any]:
    return {
        33550: (12, [10.0, 10.0, 0.0]),
        33922: (12, [0.0, 0.0, 0.0, x, y, 0.0]),
        34735: (3, [1, 1, 0, 1, 3072, 0, 1, code]),
    }


BREAKS = {
    rules.BROKEN: tiff({256: None}),
    rules.BITS: tiff({258: (3, [16, 16, 16])}),
    rules.NOT_REFERENCED: tiff(WITHOUT_POSITION),
    rules.PIXELS: tiff({33550: (12, [0.5, 1.1, 0.0])}),
    rules.ROTATED: tiff(with_matrix(_1=0.1)),
    rules.BOUNDS: tiff({33922: (12, [0.0, 0.0, 0.0, 7.0, 95.0, 0.0])}),
    rules.NO_CRS: tiff({34735: None}),
    rules.BIG_ENDIAN_BIGTIFF: tiff(order=">", big=True),
}


class TestRules:
    def test_every_checked_rule_has_a_file_that_breaks_it(self) -> None:
        assert set(BREAKS) == {rule for rule in rules.RULES if rule.checked}

    @pytest.mark.parametrize("rule", BREAKS, ids=lambda rule: rule.name)
    def test_a_file_that_breaks_one_rule_has_one_finding_with_mapboxs_message(self, rule: Rule) -> None:
        (item,) = found(BREAKS[rule])

        assert (item.rule, item.message) == (rule, rule.message)
        assert item.what.endswith(".")

    def test_all_problems_are_found_at_once(self) -> None:
        data = tiff(WITHOUT_POSITION | {258: (3, [16, 16, 16]), 34735: None, 273: (4, [9999])})

        assert broken_rules(data) == {rules.BROKEN, rules.BITS, rules.NOT_REFERENCED, rules.NO_CRS}

    @pytest.mark.parametrize(
        ("changes", "rule"),
        [
            ({258: None}, rules.BITS),  # one bit by default
            ({258: (3, [8, 8, 16])}, rules.BITS),
            ({339: (3, [2, 2, 2])}, rules.BITS),
            ({339: (3, [1, 1, 3])}, rules.BITS),
            ({33922: None}, rules.NOT_REFERENCED),
            ({33550: None}, rules.NOT_REFERENCED),  # a tiepoint alone is a ground control point
            ({33550: (12, [0.0, 0.0, 0.0])}, rules.NOT_REFERENCED),
            ({33550: (12, [-0.5, 0.5, 0.0])}, rules.PIXELS),
            ({33550: (12, [math.nan, 0.5, 0.0])}, rules.PIXELS),
            (with_matrix(_5=0.5), rules.PIXELS),
            (with_matrix(_4=-0.1), rules.ROTATED),
            ({34735: (3, [1, 1, 0, 1, 1024, 0, 1, 1])}, rules.NO_CRS),  # a kind of system, but none by name
            ({34735: (3, [1, 1, 0, 1, 2048, 0, 1, 0])}, rules.NO_CRS),
            # GDAL reads no system from a code alone, if nothing says that it is geographic.
            ({34735: (3, [1, 1, 0, 1, 2048, 0, 1, 4326])}, rules.NO_CRS),
            ({34735: (3, [1, 1, 0, 2, 1024, 0, 1, 0, 2048, 0, 1, 4326])}, rules.NO_CRS),
            ({34735: (3, [1, 1, 0, 9])}, rules.NO_CRS),
            (utm(3857, -5e7, 0.0), rules.BOUNDS),
            ({33922: (12, [0.0, 0.0, 0.0, 400.0, 50.0, 0.0])}, rules.BOUNDS),
        ],
    )
    def test_variants_of_a_broken_rule_are_found(self, changes: dict[int, Any], rule: Rule) -> None:
        assert rule in broken_rules(tiff(changes))

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            WITH_MATRIX,
            {339: (3, [1, 1, 1])},
            {339: (3, [4, 4, 4])},  # undefined
            {33550: (12, [0.5, 1.0, 0.0])},
            {33550: (12, [0.5, -0.5, 0.0])},  # GDAL ignores the sign
            {34735: (3, [1, 1, 0, 1, 3072, 0, 1, 32767])},  # user-defined
            {34735: (3, [1, 1, 0, 1, 1024, 0, 1, 2])},  # geographic, for which GDAL takes WGS 84
            {33922: (12, [0.0, 0.0, 0.0, -180.25, 90.25, 0.0])},  # pixel centres at the edges
            {273: (4, [0]), 279: (4, [0])},  # sparse
            {279: (4, [2**32 - 1])},  # uncompressed: the rows say how long the strip is
            {273: None, 279: None, 322: (3, [16]), 323: (3, [16]), 324: (4, [8]), 325: (4, [12])},
            {273: (16, [8]), 279: (16, [12])},
        ],
    )
    def test_right_files_pass(self, changes: dict[int, Any]) -> None:
        big = any(tag is not None and tag[0] == 16 for tag in changes.values())

        assert found(tiff(changes, big=big)) == []

    @pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
    def test_bounds_are_read_in_each_form_of_the_file(self, order: str, big: bool) -> None:
        content = Content()

        assert found(tiff(order=order, big=big), content) == []
        assert (content.bounds, content.features) == ((7.0, 49.0, 8.0, 50.0), None)

    @pytest.mark.parametrize(
        ("changes", "bounds"),
        [
            (utm(3857, 0.0, 0.0), (0.0, -0.0001797, 0.0001797, 0.0)),
            (utm(32632, 500_000.0, 5_538_630.0), (9.0, 49.99982, 9.00028, 50.0)),
        ],
    )
    def test_bounds_are_in_degrees(self, changes: dict[int, Any], bounds: tuple[float, ...]) -> None:
        content = Content()

        assert found(tiff(changes), content) == []
        assert content.bounds == pytest.approx(bounds, abs=1e-4)

    @pytest.mark.parametrize("code", [32767, 1025, 9999])
    def test_bounds_of_an_unknown_system_are_unknown(self, code: int) -> None:
        content = Content()

        assert found(tiff(utm(code, 0.0, 0.0)), content) == []
        assert content.bounds is None


class TestCutFiles:
    @pytest.mark.parametrize("big", [False, True])
    def test_a_file_cut_anywhere_is_a_problem(self, big: bool) -> None:
        whole = tiff(big=big)

        for size in range(len(whole)):
            assert rules.BROKEN in broken_rules(whole[:size]), size

    def test_a_file_whose_data_is_behind_the_directory_is_a_problem_when_cut(self) -> None:
        changes = {273: (4, [1000]), 279: (4, [12])}
        whole = tiff(changes).ljust(1012, b"\7")

        assert found(whole) == []
        (item,) = found(whole[:1011])
        assert "1,011 bytes" in item.what
        assert "ends at byte 1,012" in item.what

    def test_a_missing_second_directory_is_a_problem(self) -> None:
        (item,) = found(tiff(following=100_000))

        assert "next directory is at byte 100,000" in item.what

    def test_a_directory_that_follows_itself_ends_the_check(self) -> None:
        assert found(tiff(following=32)) == []


class TestRealFiles:
    """rasterio writes them with GDAL."""

    @pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:25832"])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"tiled": True},
            {"driver": "COG"},
            {"compress": "JPEG", "photometric": "YCBCR", "tiled": True},
            {"BIGTIFF": "YES"},
            {"ENDIANNESS": "BIG"},
            {"interleave": "band"},
            {"compress": "LZW"},
            {"SPARSE_OK": "TRUE"},
            {"GEOTIFF_VERSION": "1.1"},
        ],
        ids=str,
    )
    def test_files_of_gdal_pass_whole_and_are_a_problem_cut_in_half(
        self, tmp_path: Path, crs: str, options: dict[str, Any]
    ) -> None:
        path = tmp_path / "a.tif"
        _write(path, crs, with_pixels="SPARSE_OK" not in options, **options)
        whole, content = path.read_bytes(), Content()
        file = Memory(whole)

        assert list(check_tiff(file, content)) == []
        assert content.bounds == pytest.approx((7.0, 49.4, 7.6, 50.0), abs=0.5)
        assert file.requests <= 3
        assert file.bytes_read <= 3 * 16 * 1024
        if "SPARSE_OK" not in options:
            assert rules.BROKEN in broken_rules(whole[: len(whole) // 2])

    def test_a_file_with_overviews_and_a_mask_passes(self, tmp_path: Path) -> None:
        import numpy
        import rasterio

        path = tmp_path / "a.tif"
        _write(path, "EPSG:3857", tiled=True)
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2, 4])
            dataset.write_mask(numpy.ones((600, 600), bool))

        assert found(path.read_bytes()) == []

    @pytest.mark.parametrize("kind", ["int8", "int16", "uint16", "float32", "complex64"])
    def test_other_samples_than_unsigned_bytes_are_a_problem(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "a.tif"
        _write(path, "EPSG:3857", with_pixels=False, dtype=kind, SPARSE_OK="TRUE")

        assert broken_rules(path.read_bytes()) == {rules.BITS}

    def test_ten_gigabytes_cost_a_few_reads(self, tmp_path: Path) -> None:
        size = 10_000_000_000
        path = tmp_path / "a.tif"
        changes = {256: (4, [100_000]), 257: (4, [33_333]), 278: (4, [33_333]), 273: (4, [1000])}
        changes |= {33550: (12, [0.001, 0.001, 0.0])}
        path.write_bytes(tiff(changes | {279: (4, [2**32 - 1]), 259: (3, [5])}))
        with path.open("r+b") as stream:
            stream.truncate(size)
        started = time.process_time()

        with FileRanges(path) as file:
            assert list(check_tiff(file, Content())) == []
        assert time.process_time() - started < 0.5


def _write(path: Path, crs: str, *, with_pixels: bool = True, **options: Any) -> None:
    import numpy
    import rasterio
    from rasterio.transform import from_bounds
    from rasterio.warp import transform_bounds

    box = transform_bounds("EPSG:4326", crs, 7.0, 49.6, 7.6, 50.0)
    profile = {"driver": "GTiff", "width": 600, "height": 600, "count": 3, "dtype": "uint8", "crs": crs}
    profile["transform"] = from_bounds(*box, 600, 600)
    with rasterio.open(path, "w", **(profile | options)) as dataset:
        if with_pixels:
            dataset.write(numpy.random.default_rng(1).integers(0, 255, (3, 600, 600), "uint8"))


class TestHostileFiles:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"II",
            b"II*\0",
            b"II*\0\x08\0\0\0\xff\xff",
            b"II+\0\x08\0\0\0" + (2**64 - 1).to_bytes(8, "little") + bytes(100),
            b"II+\0\x08\0\0\0" + (16).to_bytes(8, "little") + (2**64 - 1).to_bytes(8, "little") + bytes(100),
            tiff({258: (1, [8] * 70_000)})[:400],
        ],
        ids=lambda data: f"{len(data)} bytes {data[:8]!r}",
    )
    def test_a_broken_head_is_a_problem(self, data: bytes) -> None:
        assert broken_rules(data) == {rules.BROKEN}

    @pytest.mark.parametrize("code", sorted(TIFF_TAGS))
    @pytest.mark.parametrize("count", [0, 5, 2**31, 2**32 - 1])
    def test_a_tag_with_any_count_costs_little(self, code: int, count: int) -> None:
        data = bytearray(tiff())
        at = 34 + 12 * sorted(TIFF_TAGS).index(code)
        data[at + 4 : at + 8] = struct.pack("<I", count)
        file = Memory(bytes(data), size=10**10)

        list(check_tiff(_Padded(file), Content()))

        assert file.requests <= 12

    @pytest.mark.parametrize("kind", range(20))
    def test_tags_of_any_type_raise_nothing(self, kind: int) -> None:
        for index in range(len(TIFF_TAGS)):
            data = bytearray(tiff())
            data[34 + 12 * index + 2 : 34 + 12 * index + 4] = struct.pack("<H", kind)

            found(bytes(data))

    @pytest.mark.parametrize("form", [("<", False), (">", False), ("<", True)], ids=str)
    def test_randomly_changed_heads_raise_nothing(self, form: tuple[str, bool]) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        whole = tiff(order=form[0], big=form[1])
        for _ in range(SAMPLES):
            data = bytearray(whole)
            for _ in range(chance.randint(1, 6)):
                at = chance.randrange(len(data))
                data[at : at + chance.choice((1, 2, 4, 8))] = chance.choice(
                    (b"\0", b"\xff", b"\xff" * 8, b"\x7f\xf0\0\0\0\0\0\0", chance.randbytes(4), b"")
                )
            for item in found(bytes(data)):
                assert item.rule in rules.RULES


def test_an_error_of_the_source_is_passed_on() -> None:
    with pytest.raises(SourceUnavailableError):
        list(check_tiff(Failing(tiff()), Content()))


class _Padded:
    """A file that claims to be larger than its data, and is zero there."""

    def __init__(self, file: Memory) -> None:
        self._file = file
        self.size = file.size

    def read(self, start: int, length: int) -> bytes:
        return self._file.read(start, length).ljust(min(length, self.size - start), b"\0")

    def close(self) -> None: ...

    def __enter__(self) -> _Padded:
        return self

    def __exit__(self, *exc_info: object) -> None: ...


def test_mapboxs_own_broken_tiff_is_refused() -> None:
    assert broken_rules((FIXTURES / "invalid.omnivore.tif").read_bytes()) == {rules.BROKEN}
