from pathlib import Path

import numpy as np
import pytest

from edge.cells import Box
from edge.errors import UserError
from training.data import write_image
from training.fields import Field, drawn, edges_of, free_strips, learnable, read_boxes, read_doubted

HEADING = "split,source,file,object,x,y,w,h"


def a_field(*boxes: Box) -> Field:
    return Field("a.png", "pbc", np.zeros((100, 200, 3), np.uint8), 20.0, edges_of(boxes))


def test_boxes_that_end_at_the_border_are_open_there() -> None:
    cells = a_field(Box(1, 40, 30, 30), Box(60, 20, 40, 80), Box(50, 50, 20, 20))
    assert cells.open_ends.tolist() == [[True, False, False, False], [False, False, False, True], [False] * 4]


def test_the_parts_beside_the_leukocytes_are_fields_without_any() -> None:
    parts = list(free_strips(a_field(Box(10, 30, 40, 40))))
    assert [part.image.shape[:2] for part in parts] == [(100, 148)]
    assert len(parts[0].leukocytes) == 0


def test_a_field_without_leukocytes_needs_no_cutting() -> None:
    assert list(free_strips(a_field())) == []


def test_drawn_views_show_leukocytes_that_the_border_may_cut() -> None:
    views = list(drawn(6, np.random.default_rng(0)))
    assert sum(len(view.leukocytes) for view in views) > 8
    for view in views:
        assert (view.leukocytes[:, 2:] > 0).all()


def test_the_drawn_smear_can_be_left_out(made_data: Path) -> None:
    (made_data / "fields").mkdir()
    write_image(made_data / "fields" / "a.png", np.full((100, 200, 3), 200, np.uint8))
    (made_data / "fields.csv").write_text(f"{HEADING}\ntrain,raabin,a.png,leukocyte,10,10,50,50\n")
    assert {f.source for f in learnable(made_data, (), 1)} == {"raabin", "pbc", "drawn"}
    assert {f.source for f in learnable(made_data, ("drawn",), 1)} == {"raabin", "pbc"}
    with pytest.raises(UserError, match="no box of split train, of another source than those left out"):
        learnable(made_data, ("raabin",), 1)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("train,raabin,a.png,leukocyte,10,10,nan,50", "line 2: a box without a place or a size"),
        ("train,raabin,a.png,leukocyte,10,10,0,50", "line 2: a box without a place or a size"),
        ("train,raabin,a.png,leukocyte,10,10,,50", "line 2: a number is missing or wrong"),
        ("train,raabin,a.png", "line 2: fewer fields than columns"),
    ],
)
def test_a_box_that_is_none_is_told_with_its_line(tmp_path: Path, row: str, told: str) -> None:
    (tmp_path / "fields.csv").write_text(f"{HEADING}\n{row}\n")
    with pytest.raises(UserError, match=rf"fields\.csv, {told}"):
        read_boxes(tmp_path, "train")


def test_a_folder_without_the_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fields.csv: not there"):
        read_boxes(tmp_path, "train")


def test_every_doubted_box_is_of_a_labelled_field(shared_data: Path) -> None:
    boxes = [read_boxes(shared_data, split) for split in ("train", "validation")]
    known = {file for part in boxes for files in part.values() for file in files}
    assert {file for file in read_doubted() if "/" not in file} <= known
