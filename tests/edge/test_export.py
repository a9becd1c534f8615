from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box, Cell
from edge.export import main
from edge.store import Store


def counted(database: Path, specimen: str, *names: str) -> None:
    """A specimen with a cell for each name that a person gave; "" for none."""
    with Store(database) as store:
        row = store.open_specimen(specimen, "m", "images", moving=False).specimen
        for number, name in enumerate(names, 1):
            grey = np.full((64, 64, 3), 9 * number + len(specimen), np.uint8)
            jpeg = cv2.imencode(".jpg", grey)[1].tobytes()
            shares = np.array([0.75, 0.25], np.float32)
            place = (specimen, Box(0, 0, 9, 9), (5.0, 5.0))
            store.add(row, cells=[Cell(number, "neutrophil", 0.75, shares, 0, *place, True, jpeg, shares)])
            if name:
                store.name_cell(row, number, name)


def files(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.rglob("*.jpg"))


def test_cells_that_were_named_become_images_in_folders_of_their_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database, folder = tmp_path / "c.sqlite", tmp_path / "out"
    counted(database, "PATIENT-7", "monocyte", "", "basophil", "monocyte")
    counted(database, "OTHER", "monocyte")
    assert main([str(folder), "--database", str(database)]) == 0
    assert capsys.readouterr().out == "basophil: 1\nmonocyte: 3\n"
    assert files(folder) == ["basophil", "monocyte", "monocyte", "monocyte"]
    assert all(cv2.imread(str(path)).shape == (64, 64, 3) for path in folder.rglob("*.jpg"))
    assert "PATIENT" not in "".join(map(str, folder.rglob("*")))
    with Store(database) as store:
        row = store.open_specimen("PATIENT-7", "m", "images", moving=False).specimen
        store.name_cell(row, 1, "basophil")
    assert main([str(folder), "--database", str(database)]) == 0
    assert files(folder) == ["basophil", "basophil", "monocyte", "monocyte"]
    assert main([str(tmp_path / "one"), "--database", str(database), "--specimen", "OTHER"]) == 0
    assert files(tmp_path / "one") == ["monocyte"]


def test_what_cannot_be_exported_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database, blocked = tmp_path / "c.sqlite", tmp_path / "file"
    assert main([str(tmp_path / "out"), "--database", str(database)]) == 1
    assert "there is no such file" in capsys.readouterr().err
    counted(database, "S", "")
    assert main([str(tmp_path / "out"), "--database", str(database)]) == 1
    assert "no cell here was named" in capsys.readouterr().err
    counted(database, "T", "monocyte")
    assert main([str(tmp_path / "out"), "--database", str(database), "--specimen", "S"]) == 1
    assert "no cell of this specimen was named" in capsys.readouterr().err
    blocked.write_text("a file")
    assert main([str(blocked), "--database", str(database)]) == 1
    assert "name another folder" in capsys.readouterr().err
