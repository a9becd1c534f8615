from pathlib import Path

import numpy as np
import pytest

from edge.cells import Box
from edge.errors import UserError
from training.fields import Field, drawn, edges_of, free_strips, learnable, read_boxes, read_doubted


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
    (made_data / "fields.csv").write_text("split,source,file,object,x,y,w,h\n")
    assert {f.source for f in learnable(made_data, (), 1)} == {"pbc", "drawn"}
    assert {f.source for f in learnable(made_data, ("drawn",), 1)} == {"pbc"}


def test_a_folder_without_the_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fields.csv: not there"):
        read_boxes(tmp_path, "train")


def test_every_doubted_box_is_of_a_labelled_field(shared_data: Path) -> None:
    boxes = [read_boxes(shared_data, split) for split in ("train", "validation")]
    known = {file for part in boxes for files in part.values() for file in files}
    assert {file for file in read_doubted() if "/" not in file} <= known


@pytest.mark.parametrize("row", ["train,bccd,a.jpg,leukocyte,1,2,,4", "train,bccd,a.jpg"])
def test_a_bad_line_of_the_table_is_named(tmp_path: Path, row: str) -> None:
    (tmp_path / "fields.csv").write_text(f"split,source,file,object,x,y,w,h\n{row}\n")
    with pytest.raises(UserError, match=r"fields\.csv, line 2: a field is missing or wrong"):
        read_boxes(tmp_path, "train")
