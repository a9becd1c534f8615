from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box
from training.fields import read_boxes
from training.locating import empty_fields, measure, overlap


def test_overlap_is_intersection_over_union() -> None:
    assert overlap(Box(0, 0, 10, 10), Box(5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap(Box(0, 0, 10, 10), Box(20, 0, 10, 10)) == 0


@pytest.mark.parametrize(
    ("locate", "recall"), [(lambda image: [], 0.0), (lambda image: [Box(0, 0, *image.shape[1::-1])], 0.2)]
)
def test_a_locator_that_does_not_look_finds_next_to_nothing(
    shared_data: Path, locate: Callable[..., list[Box]], recall: float
) -> None:
    for all_labels, undoubted in measure(shared_data, "validation", locate).values():
        assert all_labels.recall <= recall
        assert all_labels.labelled >= undoubted.labelled


def test_what_is_found_of_a_field_is_counted(tmp_path: Path) -> None:
    (tmp_path / "fields").mkdir()
    cv2.imwrite(str(tmp_path / "fields" / "a.png"), np.full((200, 300, 3), 200, np.uint8))
    rows = [(20, 20, 40, 40), (100, 20, 40, 40), (200, 20, 40, 40), (100, 160, 40, 40)]  # the last is cut
    lines = [f"a.png,raabin,validation,300,200,leukocyte,{x},{y},{w},{h}," for x, y, w, h in rows]
    heading = "file,source,split,width,height,object,x,y,w,h,class"
    (tmp_path / "fields.csv").write_text("\n".join([heading, *lines]))
    seen = [Box(x, y, 40, 40) for x, y in ((20, 20), (112, 20), (216, 20), (20, 120), (100, 160))]
    (found, _) = measure(tmp_path, "validation", lambda image: seen)["raabin"]
    # IoU 1, 0.54, 0.43, nothing, 1.
    assert (found.fields, found.labelled, found.located) == (1, 4, 5)
    assert (found.right, found.near, found.whole, found.whole_right) == (3, 4, 3, 2)
    assert (found.recall, found.precision) == (0.75, 0.6)


def test_a_field_counts_as_empty_only_without_a_leukocyte(shared_data: Path) -> None:
    parts = list(empty_fields(shared_data, "validation"))
    assert {source for source, _ in parts} == {"raabin", "pbc", "bccd", "platelets"}
    assert len(parts) > sum(len(files) for files in read_boxes(shared_data, "validation").values())
