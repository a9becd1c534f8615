from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box
from training import inspection, layouts
from training.data import Sample


def cell(seed: int) -> np.ndarray:
    """A picture with large and small detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 220, (12, 12, 3)).astype(np.uint8)
    return cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC)


def write(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), image)


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    for seed in range(6):
        write(tmp_path / f"train/monocyte/{seed}.png", cell(seed))
    write(tmp_path / "train/monocyte/copy.png", cell(0))
    noisy = np.clip(cell(1) + np.random.default_rng(9).normal(0, 2, (96, 96, 3)), 0, 255).astype(np.uint8)
    write(tmp_path / "test/lymphocyte/noisy.png", cv2.resize(noisy, (80, 80)))
    (tmp_path / "train/monocyte/broken.png").write_bytes(b"no image")
    return tmp_path


def test_each_flaw_is_found_and_nothing_else(flawed: Path) -> None:
    found = inspection.inspect(layouts.read(flawed).samples)
    assert found.unreadable == ["train/monocyte/broken.png"]
    assert found.duplicates == [["train/monocyte/0.png", "train/monocyte/copy.png"]]
    near = [("test/lymphocyte/noisy.png", "train/monocyte/1.png")]
    assert found.near_duplicates == found.conflicts == found.leaks == near
    assert found.sizes == {(96, 96): 7, (80, 80): 1}


def test_a_row_that_a_list_has_twice_is_a_duplicate(tmp_path: Path) -> None:
    write(tmp_path / "a.png", cell(0))
    one, other = (
        Sample(tmp_path / "a.png", "a.png", "monocyte", "made", "", box=Box(x, 10, 30, 30)) for x in (10, 50)
    )
    assert inspection.inspect([one, other]).duplicates == []
    assert inspection.inspect([one, other, one]).duplicates == [["a.png", "a.png"]]


def test_plain_images_and_masks_are_named_with_the_unreadable(tmp_path: Path) -> None:
    mask = np.zeros((40, 40, 3), np.uint8)
    mask[10:30, 10:30] = 255
    for name, image in (("plain", np.full_like(mask, 128)), ("mask", mask), ("cell", cell(0))):
        write(tmp_path / f"monocyte/{name}.png", image)
    found = inspection.inspect(layouts.read(tmp_path).samples)
    assert found.unreadable == ["monocyte/mask.png", "monocyte/plain.png"]


def test_boxes_that_show_no_cell_are_found(tmp_path: Path) -> None:
    write(tmp_path / "a.png", cell(0))
    boxes = (Box(10, 10, 30, 30), Box(96, 10, 30, 30), Box(10, 10, 0, 30))
    samples = [Sample(tmp_path / "a.png", "a.png", "monocyte", "made", "", box=box) for box in boxes]
    assert inspection.inspect(samples[:1]).astray == []
    assert inspection.inspect(samples).astray == ["a.png", "a.png"]


def test_the_command_lists_boxes_that_show_no_cell(tmp_path: Path, capsys) -> None:
    write(tmp_path / "images/a.png", cell(0))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 1.5 0.5 0.2 0.2\n")
    assert inspection.main([str(tmp_path)]) == 1
    assert "boxes of no size or outside the image: 1\n  a.png" in capsys.readouterr().out


def test_a_file_that_a_list_names_twice_is_a_conflict_and_a_leak(tmp_path: Path) -> None:
    write(tmp_path / "a.png", cell(0))
    (tmp_path / "cells.csv").write_text(
        "file,class,split\na.png,monocyte,train\na.png,lymphocyte,test\n", encoding="utf-8"
    )
    found = inspection.inspect(layouts.read(tmp_path).samples)
    assert found.conflicts == found.leaks == [("a.png", "a.png")]


def test_the_command_prints_the_tables_and_fails_where_labels_conflict(flawed: Path, capsys) -> None:
    assert inspection.main([str(flawed)]) == 1
    text = capsys.readouterr().out
    assert "recognised as: a folder for each class" in text
    assert ["Raabin-WBC", "301", "1066", "3609", "795", "10862", "16633"] in [
        line.split() for line in text.splitlines()
    ]
    assert "conflicting labels: 1" in text


def test_the_real_images_are_inspected(shared_data: Path) -> None:
    """Zheng's set shows a cell twice as it is, and ten cut wider and tighter; of one the labels differ."""
    samples = [s for s in layouts.read(shared_data).samples if s.source == "zheng1"]
    found = inspection.inspect(samples)
    assert found.duplicates == [["zheng1/112.png", "zheng1/139.png"]]
    assert len(found.near_duplicates) == 10
    assert found.conflicts == [("zheng1/060.png", "zheng1/090.png")]
    assert not found.unreadable


def test_an_error_is_one_line(tmp_path: Path, capsys) -> None:
    assert inspection.main([str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_cells_on_bare_ground_are_no_copies_of_each_other(tmp_path: Path) -> None:
    for seed in range(8):
        ground = np.full((96, 96, 3), 255, np.uint8)
        ground[36:60, 36:60] = cell(seed)[36:60, 36:60]
        write(tmp_path / f"monocyte/{seed}.png", ground)
    write(tmp_path / "monocyte/again.jpg", cv2.imread(str(tmp_path / "monocyte/3.png")))
    found = inspection.inspect(layouts.read(tmp_path).samples)
    assert found.near_duplicates == [("monocyte/3.png", "monocyte/again.jpg")]


def test_a_cell_that_is_cut_otherwise_is_a_copy_but_no_field_with_boxes(
    shared_data: Path, tmp_path: Path
) -> None:
    image = cv2.imread(str(shared_data / "cells/pbc/monocyte/MO_100695.jpg"))
    write(tmp_path / "monocyte/wide.png", image[20:, 10:])
    write(tmp_path / "neutrophil/tight.png", image[30:-25, 25:-30])
    samples = layouts.read(tmp_path).samples
    found = inspection.inspect(samples)
    assert found.near_duplicates == found.conflicts == [("monocyte/wide.png", "neutrophil/tight.png")]
    boxed = inspection.inspect([replace(sample, box=Box(90, 90, 100, 100)) for sample in samples])
    assert boxed.near_duplicates == boxed.conflicts == []
