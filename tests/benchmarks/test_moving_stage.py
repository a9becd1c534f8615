"""The judge of the count: what is a miss, a double, a false cell; and the overlap tracker beside it."""

from typing import Any

import pytest

from benchmarks.moving_stage import HEADING, OverlapTracker, Tally, score
from edge.cells import Box


def true_cell(number: int, x: float, seen_well: bool = True) -> dict[str, Any]:
    return {
        "number": number,
        "name": "monocyte",
        "x": x,
        "y": 500.0,
        "diameter": 80.0,
        "seen_well": seen_well,
    }


TRUTH = {
    "cells": [true_cell(0, 300.0), true_cell(1, 700.0), true_cell(2, 1100.0, seen_well=False)],
    "frames": [{"x": 0.0, "y": 0.0}, {"x": 600.0, "y": 400.0}],
}


def counted(source: int, x: float, y: float, name: str = "monocyte") -> dict[str, Any]:
    """A cell of the instrument with its box's centre at (x, y) of frame `source`."""
    return {"class": name, "source": source, "box": [x - 45, y - 40, 90, 80]}


@pytest.mark.parametrize(
    ("cells", "figures"),
    [
        # (counted, missed, twice, false, right)
        ([], (0, 2, 0, 0, 0)),
        ([counted(0, 300, 500), counted(1, 100, 100)], (2, 0, 0, 0, 2)),
        ([counted(0, 335, 500), counted(1, 100, 100, "basophil")], (2, 0, 0, 0, 1)),
        ([counted(0, 345, 500)], (1, 2, 0, 1, 0)),
        ([counted(0, 700, 500), counted(1, 100, 100)], (2, 1, 1, 0, 1)),
        ([counted(1, 500, 100), counted(1, 500, 100)], (0, 2, 0, 0, 0)),
        ([counted(0, 300, 500, "platelet")], (0, 2, 0, 0, 0)),
    ],
    ids=["none", "all", "one class wrong", "beside the cell", "twice", "never seen well", "rejected class"],
)
def test_score(cells: list[dict[str, Any]], figures: tuple[int, ...]) -> None:
    result = {"cells": cells, "differential": {"monocyte": {}, "basophil": {}}}
    tally = score(TRUTH, result, seconds=4.0)
    assert (tally.counted, tally.missed, tally.twice, tally.false, tally.right) == figures
    assert (tally.truth, tally.frames, tally.seconds) == (2, 2, 4.0)


def test_tallies_add_up() -> None:
    pooled = Tally(10, 11, 0, 1, 0, 9, 100, 5.0, 20) + Tally(10, 8, 2, 0, 0, 8, 100, 5.0, 13)
    assert pooled == Tally(20, 19, 2, 1, 0, 17, 200, 10.0, 33)
    assert pooled.error == pytest.approx(-0.05)
    assert pooled.alternative_error == pytest.approx(0.65)
    assert pooled.row("pooled").split() == [
        "pooled",
        "20",
        "19",
        "-5.0",
        "2",
        "1",
        "0",
        "94.4",
        "20.0",
        "33",
        "+65.0",
    ]
    assert len(pooled.row("pooled")) == len(HEADING)


def box(x: float) -> Box:
    return Box(x, 100, 80, 80)


@pytest.mark.parametrize(
    ("frames", "count"),
    [
        ([[box(0)], [box(10)]], 0),
        ([[box(0)], [box(10)], [box(20)]], 1),
        ([[box(0)], [box(60)], [box(120)]], 0),
        ([[box(0), box(200)]] * 3, 2),
        ([[box(0)]] * 3 + [[]] * 14 + [[box(0)]] * 3, 1),
        ([[box(0)]] * 3 + [[]] * 16 + [[box(0)]] * 3, 2),
        ([[box(0), box(30)]] * 6, 2),
    ],
    ids=["two hits", "three hits", "too fast", "two cells", "short gap", "long gap", "overlapping cells"],
)
def test_overlap_tracker(frames: list[list[Box]], count: int) -> None:
    tracker = OverlapTracker()
    assert sum(len(tracker.update(boxes)) for boxes in frames) == count
