"""Compressed files, archives, and names of files that look like parts of a URL."""

from __future__ import annotations

import gzip
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from shapely.geometry import Point

from airflow_mapbox.export.errors import UnreadableSourceError
from tests.unit.export.support import features, frame

ROWS = frame([Point(1, 2), Point(3, 4)], name=["a", "b"])
OTHERS = frame([Point(5, 6)], name=["c"])
TABLE = "lon,lat,name\n1,2,a\n3,4,b\n"


def written(folder: Path, ending: str, stem: str = "x", rows: Any = ROWS) -> Path:
    path = folder / f"{stem}{ending}"
    if ending == ".csv":
        path.write_text(TABLE)
    elif ending == ".parquet":
        rows.to_parquet(path)
    else:
        rows.to_file(path, **({"driver": "KML"} if ending == ".kml" else {}))
    return path


def packed(path: Path, *files: Path, folder: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.txt", "about")
        for file in files:
            for each in file.parent.glob(f"{file.stem}.*"):
                archive.write(each, f"{folder}{each.name}")
                archive.writestr(f"__MACOSX/{folder}._{each.name}", "of a Mac")
    return path


def names(source: Path, **options: Any) -> list[str]:
    if ".csv" in source.name:
        options = {"crs": 4326} | options
    found = [feature["properties"] for feature in features(source, **options)]
    return sorted(one.get("name") or one.get("Name") for one in found)


ENDINGS = [".geojson", ".geojsonl", ".gpkg", ".fgb", ".kml", ".gml", ".csv"]


class TestArchives:
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_a_gzipped_file_is_read(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"y{ending}.gz"
        path.write_bytes(gzip.compress(written(tmp_path, ending).read_bytes()))

        assert names(path) == ["a", "b"]

    @pytest.mark.parametrize("folder", ["", "data/of/today/"])
    @pytest.mark.parametrize("ending", [*ENDINGS, ".shp"])
    def test_a_file_in_any_folder_of_a_zip_is_read(self, tmp_path: Path, ending: str, folder: str) -> None:
        path = packed(
            tmp_path / f"archive{'.csv' if ending == '.csv' else ''}.zip", written(tmp_path, ending), folder=folder
        )

        assert names(path) == ["a", "b"]

    @pytest.mark.parametrize("name", ["x.shp.zip", "x.shz", "x.ZIP", "archive"])
    def test_a_zipped_shapefile_may_have_any_name(self, tmp_path: Path, name: str) -> None:
        assert names(packed(tmp_path / name, written(tmp_path, ".shp", "roads"))) == ["a", "b"]

    def test_a_large_gzipped_file_of_random_access_is_read_whole(self, tmp_path: Path) -> None:
        points = frame(shapely.points(np.linspace(-170, 170, 50_000), 0), name=np.arange(50_000).astype(str))
        (tmp_path / "y.fgb.gz").write_bytes(gzip.compress(written(tmp_path, ".fgb", rows=points).read_bytes(), 1))

        assert len({feature["properties"]["name"] for feature in features(tmp_path / "y.fgb.gz")}) == 50_000

    @pytest.mark.parametrize("zipped", [False, True])
    def test_columns_of_coordinates_of_a_packed_csv_can_be_named(self, tmp_path: Path, zipped: bool) -> None:
        plain, path = tmp_path / "x.csv", tmp_path / ("x.zip" if zipped else "x.csv.gz")
        plain.write_text("id,east,north\n1,500000,0\n")
        if zipped:
            packed(path, plain)
        else:
            path.write_bytes(gzip.compress(plain.read_bytes()))

        (only,) = features(path, crs=32633, x="east", y="north")

        assert only["geometry"]["coordinates"] == [15, 0]
        assert only["properties"] == {"id": 1}

    def test_geodata_is_chosen_before_tables_that_accompany_it(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text('{"licence": "open"}')
        (tmp_path / "x.csv").write_text("code,meaning\n1,road\n")

        assert names(packed(tmp_path / "y.zip", written(tmp_path, ".shp"))) == ["a", "b"]

    def test_several_files_are_listed_and_one_is_chosen_by_its_name(self, tmp_path: Path) -> None:
        files = [written(tmp_path, ".geojson", "roads"), written(tmp_path, ".gpkg", "trees", OTHERS)]
        path = packed(tmp_path / "y.zip", *files, folder="in/")

        with pytest.raises(
            UnreadableSourceError, match=r"(?s)files of geodata: in/roads\.geojson, in/trees\.gpkg.*layer="
        ):
            features(path)
        with pytest.raises(UnreadableSourceError, match=r"(?s)in/roads\.geojson, in/trees\.gpkg.*layer="):
            features(path, layer="paths")
        for layer in ("roads", "roads.geojson", "in/roads.geojson", 0):
            assert names(path, layer=layer) == ["a", "b"]
        assert names(path, layer="trees") == ["c"]

    def test_several_shapefiles_are_layers(self, tmp_path: Path) -> None:
        files = [written(tmp_path, ".shp", "roads"), written(tmp_path, ".shp", "trees", OTHERS)]
        path = packed(tmp_path / "y.zip", *files, folder="in/")

        with pytest.raises(
            UnreadableSourceError, match=r"(?s)several layers: roads, trees|several layers: trees, roads"
        ):
            features(path)
        assert names(path, layer="trees") == ["c"]

    def test_a_geodatabase_in_a_zip_is_read(self, tmp_path: Path) -> None:
        ROWS.to_file(tmp_path / "x.gdb", driver="OpenFileGDB")
        shutil.make_archive(str(tmp_path / "y"), "zip", tmp_path, "x.gdb")
        shutil.make_archive(str(tmp_path / "z.gdb"), "zip", tmp_path / "x.gdb")

        assert names(tmp_path / "y.zip") == ["a", "b"]
        assert names(tmp_path / "z.gdb.zip") == ["a", "b"]

    @pytest.mark.parametrize(
        ("make", "problem"),
        [
            (lambda folder: packed(folder / "y.zip"), r"y\.zip has no file of geodata.*README\.txt"),
            (lambda folder: packed(folder / "y.zip", written(folder, ".parquet")), "GeoParquet in an archive"),
            (lambda folder: cut(packed(folder / "y.zip", written(folder, ".gpkg")), 90), "as a zip archive"),
            (lambda folder: gzipped(folder / "y.geojson.gz", b"{}", 12), r"y\.geojson\.gz cannot be read.*damaged"),
            (lambda folder: gzipped(folder / "y.parquet.gz", b"PAR1"), "GeoParquet in an archive"),
            (lambda folder: gzipped(folder / "y.tar.gz", b"x"), "tar archive"),
        ],
        ids=["nothing", "Parquet", "cut zip", "cut gzip", "gzipped Parquet", "tar"],
    )
    def test_an_unreadable_archive_is_an_error_of_one_sentence(
        self, tmp_path: Path, make: Callable[[Path], Path], problem: str
    ) -> None:
        with pytest.raises(UnreadableSourceError, match=problem) as failed:
            features(make(tmp_path))
        assert len(str(failed.value).splitlines()) == 2


def cut(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def gzipped(path: Path, content: bytes, size: int | None = None) -> Path:
    path.write_bytes(gzip.compress(content)[:size])
    return path


@pytest.mark.parametrize(
    "stem",
    ["a!b", "a;b", "a?b", "a#b", "a%20b", 'a "b"', "a\nb", "zip:a", "a{b}", "a&b=c|d", "größe", "a.zip!b", "a\\b"],
)
@pytest.mark.parametrize("ending", [".geojson", ".shp", ".gpkg", ".csv", ".zip", ".parquet", ".geojson.gz"])
def test_names_of_files_may_have_any_character(tmp_path: Path, stem: str, ending: str) -> None:
    (tmp_path / "plain").mkdir()
    plain = written(tmp_path / "plain", {".zip": ".shp", ".geojson.gz": ".geojson"}.get(ending, ending))
    path = tmp_path / f"{stem}{ending}"
    if ending == ".zip":
        packed(path, plain)
    elif ending == ".geojson.gz":
        gzipped(path, plain.read_bytes())
    else:
        for each in plain.parent.iterdir():
            shutil.copy(each, tmp_path / f"{stem}{each.suffix}")

    assert names(path) == ["a", "b"]


def test_folders_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "of!today;all"
    folder.mkdir()
    shutil.copy(written(tmp_path, ".gpkg"), folder)  # what writes it takes no such name
    (folder / "c.csv").write_text('n,WKT\n1,"CIRCULARSTRING(0 0,1 1,2 0)"\n')
    monkeypatch.chdir(folder)

    assert names(folder / "x.gpkg") == names(Path("x.gpkg"), where="name <> 'x'") == ["a", "b"]
    assert len(features("c.csv", crs=4326)[0]["geometry"]["coordinates"]) > 3
