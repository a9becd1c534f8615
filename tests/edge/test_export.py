from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box, Cell
from edge.export import main
from edge.preprocess import crop
from edge.store import Store
from training import data


def counted(database: Path, specimen: str, *names: str, source: str = "images") -> None:
    """A specimen with a cell for each name that a person gave; "" for none."""
    with Store(database) as store:
        row = store.open_specimen(specimen, "m", source, moving=False).specimen
        for number, name in enumerate(names, 1):
            grey = np.full((64, 64, 3), 9 * number + len(specimen), np.uint8)
            grey[16:48, 16:48] = 200
            jpeg = cv2.imencode(".jpg", grey)[1].tobytes()
            shares = np.array([0.75, 0.25], np.float32)
            place = (specimen, Box(0, 0, 9, 9), (5.0, 5.0))
            store.add(row, cells=[Cell(number, "neutrophil", 0.75, shares, 0, *place, True, jpeg, shares)])
            if name:
                store.name_cell(row, number, name)


def named(folder: Path) -> list[str]:
    return sorted(sample.name for sample in data.load(folder))


def test_cells_that_were_named_become_images_that_training_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database, folder = tmp_path / "c.sqlite", tmp_path / "out"
    counted(database, "PATIENT-7", "monocyte", "", "basophil", "monocyte")
    counted(database, "OTHER", "monocyte")
    counted(database, "DRAWN", "monocyte", source="demo")
    assert main([str(folder), "--database", str(database)]) == 0
    told = f"basophil: 1\nmonocyte: 3\n4 cells, specimens 2: written to {folder}\n"
    assert capsys.readouterr().out == told
    samples = data.load(folder)
    assert sorted(sample.name for sample in samples) == ["basophil", "monocyte", "monocyte", "monocyte"]
    assert len({sample.origin for sample in samples}) == 2
    for sample in samples:
        assert sample.box is not None
        picture = data.read_image(sample.path)
        assert crop(picture, sample.box, 64) == pytest.approx(picture, abs=2), "what the instrument saw"
    everything = "".join(map(str, folder.rglob("*"))) + (folder / "cells.csv").read_text()
    assert "PATIENT" not in everything
    with Store(database) as store:
        row = store.open_specimen("PATIENT-7", "m", "images", moving=False).specimen
        store.name_cell(row, 1, "basophil")
    assert main([str(folder), "--database", str(database)]) == 0
    assert named(folder) == ["basophil", "basophil", "monocyte", "monocyte"]
    assert main([str(tmp_path / "one"), "--database", str(database), "--specimen", "OTHER"]) == 0
    assert named(tmp_path / "one") == ["monocyte"]


def test_a_picture_that_was_named_differently_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "c.sqlite"
    counted(database, "A", "monocyte", "monocyte")
    counted(database, "B", "basophil", "monocyte")
    counted(database, "C", "monocyte")
    assert main([str(tmp_path / "out"), "--database", str(database)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("monocyte: 1\nleft out, as they were named differently in two specimens: 1\n")
    assert "two specimens at least" in told
    assert named(tmp_path / "out") == ["monocyte"]
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 1


@pytest.mark.parametrize("content", [b"file,class,source,split\n", b"\xff\xfe"])
def test_another_list_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    counted(tmp_path / "c.sqlite", "A", "monocyte")
    (tmp_path / "cells.csv").write_bytes(content)
    assert main([str(tmp_path), "--database", str(tmp_path / "c.sqlite")]) == 1
    assert "there already, and no export's" in capsys.readouterr().err
    assert (tmp_path / "cells.csv").read_bytes() == content


def test_no_folder_is_not_the_current_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([""])
    assert "a path expected" in capsys.readouterr().err


def test_what_cannot_be_exported_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database, blocked = tmp_path / "c.sqlite", tmp_path / "file"
    assert main([str(tmp_path / "out"), "--database", str(database)]) == 1
    assert "there is no such file" in capsys.readouterr().err
    counted(database, "S", "")
    assert main([str(tmp_path / "out"), "--database", str(database)]) == 1
    assert "no cell of a real smear was named" in capsys.readouterr().err
    counted(database, "T", "monocyte")
    assert main([str(tmp_path / "out"), "--database", str(database), "--specimen", "S"]) == 1
    assert "no cell of a specimen of this name was named" in capsys.readouterr().err
    blocked.write_text("a file")
    assert main([str(blocked), "--database", str(database)]) == 1
    assert "name another folder" in capsys.readouterr().err
