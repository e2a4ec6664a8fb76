"""The check of a zipped shapefile: each rule, Mapbox's own files, broken and hostile archives."""

from __future__ import annotations

import io
import math
import random
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely

from airflow_mapbox.errors import SourceUnavailableError
from airflow_mapbox.limits import SHAPEFILE_BYTES
from airflow_mapbox.preflight.findings import Content, Finding
from airflow_mapbox.preflight.shapefile import check_archive
from airflow_mapbox.rules import shapefile as rules
from airflow_mapbox.rules.rule import Rule
from airflow_mapbox.sources.ranges import FileRanges
from tests.support.memory import peak_of
from tests.unit.preflight.binaries import FIXTURES, Failing, Memory, shapefile, zip_of, zipped
from tests.unit.preflight.support import KML, WGS84

FILES = shapefile()
SAMPLES = 150


def found(data: bytes, content: Content | None = None, *, whole: bool = True) -> list[Finding]:
    return list(check_archive(Memory(data), content or Content(), whole=whole))


def broken_rules(data: bytes) -> list[Rule]:
    return [item.rule for item in found(data)]


def archive(files: dict[str, Any] = FILES, method: int = zipfile.ZIP_DEFLATED, **changes: Any) -> bytes:
    """Return a zip of a shapefile. Changes are by suffix; None leaves a file out."""
    changed = {f"roads.{suffix}": content for suffix, content in changes.items()}
    return zip_of(((name, data) for name, data in (files | changed).items() if data is not None), method)


def with_flag(data: bytes, flag: int) -> bytes:
    """Set a flag in both headers of each member."""
    changed = bytearray(data)
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = changed.find(magic)
        while start >= 0:
            changed[start + at] |= flag
            start = changed.find(magic, start + 4)
    return bytes(changed)


def flipped(data: bytes, byte: bytes) -> bytes:
    """Flip one bit of an uncompressed zip at the given bytes."""
    at = data.index(byte)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def with_claimed_size(name: str, size: int) -> bytes:
    """Return a zip whose directory claims another size for one member."""
    data = bytearray(archive())
    at = data.rindex(name.encode()) - 46
    data[at + 24 : at + 28] = struct.pack("<I", size)
    return bytes(data)


def link(name: str, target: str) -> bytes:
    packed = io.BytesIO(archive())
    with zipfile.ZipFile(packed, "a") as opened:
        info = zipfile.ZipInfo(name)
        info.external_attr = 0o120777 << 16
        opened.writestr(info, target)
    return packed.getvalue()


def many(number: int) -> bytes:
    """Return an archive with so many empty members, written by hand because zipfile takes long for it."""
    directory = b"".join(
        struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, 0, 0, 0, 33, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
        + b"%07d" % index
        for index in range(number)
    )
    if number <= 0xFFFF:
        return directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number, number, len(directory), 0, 0)
    large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, number, number, len(directory), 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(directory), 1)
    return (
        directory + large + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    )


BREAKS = {
    rules.BROKEN_ZIP: flipped(archive(method=zipfile.ZIP_STORED), b"Greenwich"),
    rules.UNSAFE_NAMES: zip_of([*FILES.items(), ("../evil.txt", b"")]),
    rules.DUPLICATE_NAMES: zip_of([*FILES.items(), ("a.txt", b"1"), ("a.txt", b"2")]),
    rules.UNSUPPORTED: with_flag(archive(), 1),
    rules.SEVERAL: zip_of([*FILES.items(), *((f"b/{name}", data) for name, data in FILES.items())]),
    rules.TOO_MANY_MEMBERS: many(10_001),
    rules.MISSING: zip_of([("doc.kml", KML)]),
    rules.PARTS: archive(dbf=None),
    rules.NO_PROJECTION: archive(prj=None),
    rules.PROJECTION: archive(prj=""),
    rules.TOO_LARGE: with_claimed_size("roads.dbf", SHAPEFILE_BYTES + 1),
    rules.NOT_SHAPEFILE: archive(shp=b"hello"),
    rules.HEADER: archive(dbf=b"dbf"),
    rules.CUT_OFF: archive(dbf=FILES["roads.dbf"][:-1]),
    rules.MISMATCH: archive(shapefile(rows=2)),
    rules.RANGE: archive(shapefile(box=(400_000.0, 5e6, 500_000.0, 6e6))),
    rules.SOME_OUT_OF_RANGE: archive(shapefile(box=(170.0, 0.0, 190.0, 1.0))),
    rules.EMPTY: archive(shapefile(records=0)),
}
MESSAGES = {
    rules.PARTS: "Error creating Mapnik Datasource: could not create file mapping for …",
    rules.TOO_LARGE: "File is larger than 272.63 MB. Too big to process.",
}


class TestRules:
    def test_every_checked_rule_has_a_file_that_breaks_it(self) -> None:
        assert set(BREAKS) == {rule for rule in rules.RULES if rule.checked}

    @pytest.mark.parametrize("rule", BREAKS, ids=lambda rule: rule.name)
    def test_a_file_that_breaks_a_rule_has_a_finding_with_mapboxs_message(self, rule: Rule) -> None:
        findings = found(BREAKS[rule])

        assert {item.rule for item in findings} == {rule}
        assert findings[0].message == MESSAGES.get(rule, rule.message)
        assert findings[0].what.endswith(".")

    def test_all_problems_are_found_at_once(self) -> None:
        files = shapefile(rows=3, index_kind=5, prj="nonsense")

        assert broken_rules(archive(files)) == [rules.MISMATCH, rules.MISMATCH, rules.PROJECTION]

    @pytest.mark.parametrize(
        ("data", "rule"),
        [
            (archive(prj=" \n"), rules.PROJECTION),
            (archive(prj="EPSG:4326"), rules.PROJECTION),
            (archive(prj="<html>404</html>"), rules.PROJECTION),
            (archive(prj=b"\x00\xff\x00"), rules.PROJECTION),
            (archive(prj='GEOGCS["x"'), rules.PROJECTION),
            (archive(prj='PROJCS["x",' * 5_000), rules.PROJECTION),
            (archive(shp=b""), rules.NOT_SHAPEFILE),
            (archive(shp=FILES["roads.shx"][:28] + bytes(72)), rules.NOT_SHAPEFILE),
            (archive(shx=b"x" * 200), rules.HEADER),
            (archive(shp=FILES["roads.shp"][:-1]), rules.CUT_OFF),
            (archive(shx=FILES["roads.shx"][:-8]), rules.CUT_OFF),
            (archive(shapefile(index_kind=3)), rules.MISMATCH),
            (archive(shapefile(indexed=2)), rules.MISMATCH),
            (archive(shapefile(box=(math.nan, 0.0, 1.0, 1.0))), rules.EMPTY),
            (archive(shapefile(box=(8.0, 50.0, 7.0, 51.0))), rules.EMPTY),
            (archive(shapefile(box=(0.0, -95.1, 1.0, 1.0))), rules.RANGE),
            (archive(shapefile(box=(-180.1, 0.0, 1.0, 1.0))), rules.SOME_OUT_OF_RANGE),
            (archive(method=zipfile.ZIP_BZIP2), rules.UNSUPPORTED),
            (archive(method=zipfile.ZIP_LZMA), rules.UNSUPPORTED),
            (with_flag(archive(), 32), rules.UNSUPPORTED),
            (archive()[: len(archive()) // 2], rules.BROKEN_ZIP),
            (archive()[:-10], rules.BROKEN_ZIP),
            (b"PK\x03\x04garbage", rules.BROKEN_ZIP),
            (b"", rules.BROKEN_ZIP),
            (flipped(archive(method=zipfile.ZIP_STORED), FILES["roads.dbf"][-8:]), rules.BROKEN_ZIP),
            (link("roads.txt", "/etc/passwd"), rules.UNSAFE_NAMES),
        ],
    )
    def test_variants_of_a_broken_rule_are_found(self, data: bytes, rule: Rule) -> None:
        assert rule in broken_rules(data)

    @pytest.mark.parametrize("folder", ["../", "/", "a/../../", "C:\\", "..\\", "\\"])
    def test_members_outside_of_their_folder_are_one_problem(self, folder: str) -> None:
        findings = found(zip_of((f"{folder}{name}", data) for name, data in FILES.items()))

        assert [item.rule for item in findings].count(rules.UNSAFE_NAMES) == 1

    @pytest.mark.parametrize("folder", ["", "data/", "a/b c/", "a..b/"])
    def test_folders_capitals_and_files_of_macos_pass(self, folder: str) -> None:
        members = [(f"{folder}{name.upper()}", data) for name, data in FILES.items()]

        assert found(zip_of([("x/", b""), *members, ("__MACOSX/._ROADS.SHP", b"x"), ("a:b.txt", b"x")])) == []

    @pytest.mark.parametrize(
        "prj",
        [
            f"\ufeff{WGS84}\r\n",
            geopandas.GeoSeries(crs=25832).crs.to_wkt("WKT1_ESRI"),
            geopandas.GeoSeries(crs=2154).crs.to_wkt(),
            "Projection GEOGRAPHIC\nDatum WGS84\nUnits DD\n",
        ],
    )
    def test_any_projection_that_gdal_reads_passes(self, prj: str) -> None:
        assert found(archive(prj=prj)) == []

    def test_reprojected_coordinates_may_be_a_little_outside(self) -> None:
        assert found(archive(shapefile(box=(-180.0000000001, -90.0, 180.0000000001, 90.0)))) == []

    def test_an_archive_with_bytes_before_and_a_comment_behind_it_passes(self) -> None:
        packed = io.BytesIO(b"#!/bin/sh\n" + archive())
        with zipfile.ZipFile(packed, "a") as opened:
            opened.comment = b"made by hand " * 1000

        assert found(packed.getvalue()) == []


class TestContent:
    def test_layers_features_bounds_and_counted_bytes_are_read(self) -> None:
        content = Content()

        assert found(archive(shapefile(records=3)), content) == []
        assert (content.layers, content.features, content.bounds) == (("roads",), 3, (7.0, 50.0, 8.0, 51.0))
        assert content.counted_bytes == 100 + 3 * 28 + 65 + 3 * 9
        assert content.notes == []

    def test_a_projected_box_is_reprojected(self) -> None:
        content = Content()
        prj = geopandas.GeoSeries(crs=32632).crs.to_wkt("WKT1_ESRI")

        assert found(archive(shapefile(box=(5e5, 5e6, 6e5, 5.1e6), prj=prj)), content) == []
        assert content.bounds == pytest.approx((9.0, 45.1, 10.3, 46.1), abs=0.1)

    def test_a_box_that_cannot_be_reprojected_is_unknown(self) -> None:
        content = Content()
        prj = geopandas.GeoSeries(crs=32632).crs.to_wkt("WKT1_ESRI")

        found(archive(shapefile(box=(1e300, 1e300, 1e301, 1e301), prj=prj)), content)

        assert content.bounds is None

    @pytest.mark.parametrize("crs", [4326, 25832, 3857])
    def test_shapefiles_of_gdal_pass(self, tmp_path: Path, crs: int) -> None:
        frame = geopandas.GeoDataFrame({"n": [1, 2]}, geometry=[shapely.Point(7, 50), shapely.Point(8, 51)], crs=4326)
        frame.to_crs(crs).to_file(tmp_path / "places.shp")
        content = Content()

        assert found(zip_of((path.name, path.read_bytes()) for path in tmp_path.glob("places.*")), content) == []
        assert content.features == 2
        assert content.bounds == pytest.approx((7, 50, 8, 51), abs=0.05)


class TestRemoteArchives:
    def test_a_remote_archive_costs_few_requests_and_its_checksums_are_not_compared(self) -> None:
        data = (FIXTURES / "valid.shapefile.zip").read_bytes()
        file, content = Memory(data), Content()

        assert list(check_archive(file, content, whole=False)) == []
        assert file.requests <= 6
        assert file.bytes_read <= 6 * 16 * 1024
        assert (content.layers, content.features) == (("world_merc",), 245)
        assert "checksums" in content.notes[0]

    def test_headers_of_a_remote_archive_are_checked(self) -> None:
        assert [item.rule for item in found(archive(shapefile(rows=2)), whole=False)] == [rules.MISMATCH]

    @pytest.mark.parametrize("reads", range(1, 4))
    def test_an_error_of_the_source_is_passed_on(self, reads: int) -> None:
        data = (FIXTURES / "valid.shapefile.zip").read_bytes()

        with pytest.raises(SourceUnavailableError):
            list(check_archive(Failing(data, reads), Content(), whole=False))


class TestMapboxsFiles:
    def test_its_valid_archive_passes(self) -> None:
        assert found((FIXTURES / "valid.shapefile.zip").read_bytes()) == []

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("invalid.omnivore.bad-projection", "Error creating Mapnik Datasource: could not create file mapping for"),
            ("invalid.omnivore.scrambled-files", "Unknown filetype"),
        ],
    )
    def test_its_invalid_folders_are_refused_with_its_messages(self, name: str, message: str) -> None:
        assert str(found(zipped(name))[0].message).startswith(message)


class TestHostileArchives:
    @pytest.mark.parametrize("number", [10_001, 65_535, 300_000])
    def test_too_many_members_are_refused_before_zipfile_reads_them(self, number: int) -> None:
        data = many(number)
        started = time.process_time()
        (item,), peak = peak_of(lambda: found(data))

        assert item.rule is rules.TOO_MANY_MEMBERS
        assert time.process_time() - started < 1
        assert peak < 10_000_000

    def test_a_directory_that_hides_its_number_of_members_is_refused(self) -> None:
        data = bytearray(many(65_535))
        data[-14:-10] = struct.pack("<2H", 4, 4)

        assert broken_rules(bytes(data)) == [rules.TOO_MANY_MEMBERS]

    @pytest.mark.parametrize("suffix", ["shp", "shx", "dbf", "prj"])
    def test_a_zip_bomb_is_not_unzipped(self, suffix: str) -> None:
        data = with_bomb(suffix, SHAPEFILE_BYTES + 1)
        started = time.process_time()
        findings, peak = peak_of(lambda: found(data))

        assert rules.TOO_LARGE in [item.rule for item in findings]
        assert time.process_time() - started < 2
        assert peak < 50_000_000

    def test_a_member_that_is_larger_than_it_says_is_not_unzipped_further(self) -> None:
        data = with_bomb("dbf", 100_000_000, claimed=1000)
        findings, peak = peak_of(lambda: found(data))

        assert rules.BROKEN_ZIP in [item.rule for item in findings]
        assert peak < 20_000_000

    def test_unzipping_ends_at_its_deadline_with_a_note(self) -> None:
        ticks = iter(range(0, 10**9, 3))
        content = Content()

        assert list(check_archive(Memory(archive()), content, whole=True, clock=lambda: next(ticks))) == []
        assert "more than 4 seconds" in content.notes[0]

    def test_hundreds_of_shapefiles_are_checked_in_part(self) -> None:
        content = Content()
        members = [(f"{number}/{name}", data) for number in range(300) for name, data in FILES.items()]

        assert {item.rule for item in found(zip_of(members), content)} == {rules.SEVERAL}
        assert "first 50 of 300" in content.notes[0]

    def test_randomly_changed_archives_raise_nothing(self) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        wholes = [archive(), archive(method=zipfile.ZIP_STORED), many(50)]
        for _ in range(SAMPLES):
            data = bytearray(chance.choice(wholes))
            for _ in range(chance.randint(1, 6)):
                at = chance.randrange(len(data))
                data[at : at + chance.choice((0, 1, 2, 4))] = chance.choice((b"\0", b"\xff\xff", chance.randbytes(3)))
            for whole in (True, False):
                for item in found(bytes(data), whole=whole):
                    assert item.rule in rules.RULES


def with_bomb(suffix: str, size: int, claimed: int | None = None) -> bytes:
    """Return a zip with a member of zeros, whose directory may claim another size."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in FILES.items():
            if name != f"roads.{suffix}":
                opened.writestr(name, content)
        with opened.open(f"roads.{suffix}", "w") as member:
            for _ in range(0, size, 1 << 20):
                member.write(bytes(min(1 << 20, size)))
    data = bytearray(packed.getvalue())
    if claimed is not None:
        at = data.rindex(f"roads.{suffix}".encode()) - 46
        data[at + 24 : at + 28] = struct.pack("<I", claimed)
    return bytes(data)


def test_a_quarter_of_a_gigabyte_is_checked_with_its_checksums(tmp_path: Path) -> None:
    rows = 25_000_000
    files = shapefile(rows=0)
    path = tmp_path / "roads.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
        for name, content in files.items():
            if not name.endswith(".dbf"):
                opened.writestr(name, content)
        with opened.open("roads.dbf", "w") as member:
            head = bytearray(files["roads.dbf"])
            head[4:8] = struct.pack("<I", rows)
            member.write(head)
            for _ in range(rows // 250_000):
                member.write(b"        1" * 250_000)
    with FileRanges(path) as file:
        findings, peak = peak_of(lambda: list(check_archive(file, Content(), whole=True)))

    assert [item.rule for item in findings] == [rules.MISMATCH]
    assert peak < 20_000_000
