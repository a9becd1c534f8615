import concurrent.futures
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.cells import Box, Cell, CellClass, Role
from edge.errors import UserError
from edge.report import whys, write_json

CLASSES = (
    CellClass("neutrophil", Role.COUNTED),
    CellClass("immature_granulocyte", Role.COUNTED),
    CellClass("platelet", Role.REJECTED),
)


def test_a_size_that_leaves_a_platelet_the_likeliest_is_not_taken_for_a_missing_nucleus() -> None:
    def why(shares: list[float], alone: list[float]) -> list[str]:
        decided, looks = (np.array(p, np.float32) for p in (shares, alone))
        name = CLASSES[int(decided.argmax())].name
        cell = Cell(1, name, 0.9, decided, 0.5, 3, Box(0, 0, 9, 9), (0, 0), True, b"", looks)
        return whys(cell, CLASSES)

    assert why([0.3, 0.3, 0.4], [0.55, 0.05, 0.4]) == ["by its size; it looks like neutrophil"]
    assert why([0.0, 0.0, 1.0], [0.1, 0.2, 0.7]) == ["too pale for a nucleus"]
    assert why([0.3, 0.6, 0.1], [0.3, 0.6, 0.1]) == ["unsure: it may be neutrophil"]
    assert why([0.6, 0.39, 0.01], [0.6, 0.39, 0.01]) == ["unsure: it may be immature granulocyte"]
    assert why([0.98, 0.01, 0.01], [0.98, 0.01, 0.01]) == ["unsure"]


@pytest.mark.parametrize(
    ("decided", "looks", "strangeness", "why"),
    [
        (0, 0, 0.5, ["seen too briefly, perhaps no leukocyte, or not the same on every image"]),
        (0, 1, 0.5, ["by its size; it looks like immature granulocyte"]),
        (2, 1, 0.5, ["too pale for a nucleus; it looks like immature granulocyte"]),
        (0, 0, 1.1, ["unlike the cells that the model learned from"]),
        (2, 2, 0.5, ["seen too briefly, perhaps no leukocyte, or not the same on every image"]),
    ],
)
def test_the_result_says_why_a_cell_is_reviewed(
    decided: int, looks: int, strangeness: float, why: list[str]
) -> None:
    shares, alone = np.eye(3, dtype=np.float32)[[decided, looks]]
    box, name = Box(0, 0, 9, 9), CLASSES[decided].name
    cell = Cell(1, name, 1.0, shares, strangeness, 3, box, (0, 0), True, b"", alone)
    assert whys(cell, CLASSES) == why
    assert whys(replace(cell, review=False), CLASSES) == []


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("old")
    write_json(file, {"a": [1, 2]})
    assert json.loads(file.read_text()) == {"a": [1, 2]}
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": float("nan")})
    assert file.read_text() == "old"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        write_json(tmp_path / "nowhere" / "result.json", {})


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "result.json"
    file.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device; name another file"):
        write_json(file, {"a": 1})
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        write_json(pipe, {"a": 1})
    assert json.loads(read.result()) == {"a": 1}
    assert pipe.is_fifo()
