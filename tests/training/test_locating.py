from collections.abc import Callable
from pathlib import Path

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


def test_a_field_counts_as_empty_only_without_a_leukocyte(shared_data: Path) -> None:
    parts = list(empty_fields(shared_data, "validation"))
    assert {source for source, _ in parts} == {"raabin", "pbc", "bccd", "platelets"}
    assert len(parts) > sum(len(files) for files in read_boxes(shared_data, "validation").values())
