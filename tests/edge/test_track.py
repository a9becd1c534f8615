import gc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.cells import Box, CellClass, Detection, Frame, Image, Role
from edge.fields import StillFields
from edge.pose import Pose
from edge.sightings import Decision, Known, Sightings, one_cell, weight_of
from edge.stage import Place, Stage
from edge.store import Store
from edge.track import MovingStage

CLASSES = (CellClass("neutrophil", Role.COUNTED), CellClass("lymphocyte", Role.COUNTED))
DECISION = Decision(CLASSES, review_below=0.8)
RNG = np.random.default_rng(1)
SLIDE = np.kron(RNG.integers(40, 230, (90, 160), np.uint8), np.ones((12, 12), np.uint8))
WIDTH, HEIGHT = 320, 240


def frame(index: int, x: int, y: int) -> Frame:
    view = np.repeat(SLIDE[y : y + HEIGHT, x : x + WIDTH, None], 3, axis=2)
    return Frame(index, index / 15, view)


def detection(
    x: float, y: float, neutrophil: float = 0.95, sharpness: float = 100.0, *, sure: bool = True
) -> Detection:
    """A cell 40 px wide whose centre is at (x, y) of the frame."""
    probabilities = np.array([neutrophil, 1 - neutrophil], np.float32)
    crop = np.zeros((8, 8, 3), np.uint8)
    return Detection(Box(x - 20, y - 20, 40, 40), probabilities, crop, sharpness, 0.0, sure)


def walk(
    counter: MovingStage, places: list[tuple[int, int]], cells: list[tuple[int, int]], first: int = 0
) -> list:
    """Show the cells (slide coordinates) to the counter along a walk; return what it counts."""
    counted = []
    for index, (x, y) in enumerate(places, first):
        seen = [
            detection(cx - x, cy - y)
            for cx, cy in cells
            if 20 < cx - x < WIDTH - 20 and 20 < cy - y < HEIGHT - 20
        ]
        counted += counter.update(frame(index, x, y), seen).cells
    return counted


ROW = [(x, 100) for x in range(0, 900, 12)]
CELLS = [(150 + 130 * i, 190 + 20 * (i % 3)) for i in range(7)]


def test_a_cell_beside_its_place_on_a_bent_map_is_the_same() -> None:
    counter = MovingStage(DECISION)
    counted = walk(counter, ROW, CELLS) + list(counter.settle())
    assert len(counted) == len(CELLS)
    bent = [(x + 30, y) for x, y in CELLS]
    assert walk(counter, ROW[::-1], bent) == []
    assert counter.settle() == ()


def test_a_cell_that_touches_a_counted_one_is_another() -> None:
    counter = MovingStage(DECISION)
    pairs = [cell for x, y in CELLS for cell in ((x, y), (x + 30, y))]
    counted = walk(counter, ROW + ROW[::-1], pairs)
    assert len(counted) + len(counter.settle()) == len(pairs)


@pytest.mark.parametrize("dusty", [True, False])
def test_a_glimpse_of_known_dust_is_no_cell(dusty: bool) -> None:
    counter, spot = MovingStage(DECISION), (300, 170)

    def look(index: int, x: int, y: int, seen: list[Detection]) -> int:
        shown = frame(index, x, y)
        if dusty:
            cv2.circle(shown.image, spot, 16, (10, 10, 10), -1)
        return len(counter.update(shown, seen).cells)

    for index, place in enumerate(ROW):
        look(index, *place, [])
    assert counter.fields >= 6
    glimpsed = [look(100 + x, 880 - x, 100, [detection(*spot)] * (x % 96 == 0)) for x in range(0, 600, 24)]
    assert sum(glimpsed) + len(counter.settle()) == (0 if dusty else 7)


def test_a_cell_that_rests_where_dust_is_known_is_one() -> None:
    counter, spot = MovingStage(DECISION), (160, 120)
    for index, (x, y) in enumerate(ROW):
        shown = frame(index, x, y)
        cv2.circle(shown.image, spot, 16, (10, 10, 10), -1)
        counter.update(shown, [])
    for index in range(5):
        counter.update(frame(200 + index, 800, 100), [detection(*spot)])
    assert len(counter.settle()) == 1


def test_a_pair_that_was_once_seen_together_stays_two() -> None:
    counter = MovingStage(DECISION)
    left, right = detection(150, 120), detection(180, 120)
    counted = list(counter.update(frame(0, 0, 100), [left, right]).cells)
    for index in range(1, 41):
        counted += counter.update(frame(index, 0, 100), [left]).cells
    for index in range(41, 121):
        counted += counter.update(frame(index, 0, 100), [right]).cells
    assert len(counted) + len(counter.settle()) == 2


def test_a_cell_beside_a_counted_one_whose_place_is_out_of_view_is_another() -> None:
    counter = MovingStage(DECISION)
    counted = []
    for index in range(40):
        counted += counter.update(frame(index, 0, 100), [detection(150, 120)]).cells
    for index in range(40, 80):  # the place of the first lies at the border
        counted += counter.update(frame(index, 130, 100), [detection(50, 120)]).cells
    assert len(counted) + len(counter.settle()) == 2


def shown(counter: MovingStage, *seen: tuple[int, int, int]) -> int:
    """Show single cells, each (x of the stage, x and y in the frame); return how many are counted."""
    cells = [
        cell
        for index, (stage, x, y) in enumerate(seen)
        for cell in counter.update(frame(index, stage, 100), [detection(x, y)]).cells
    ]
    return len(cells) + len(counter.settle())


def test_a_bent_map_makes_one_cell_of_two_that_are_still_gathering() -> None:
    assert shown(MovingStage(DECISION), *[(0, 150, 120)] * 5, *[(0, 180, 120)] * 5) == 1


def test_what_was_glimpsed_beside_another_glimpse_is_not_lost_with_it() -> None:
    assert shown(MovingStage(DECISION), (0, 150, 120), (0, 150, 120), (0, 180, 120)) == 1


def test_two_that_were_seen_together_farther_apart_stay_two() -> None:
    counter = MovingStage(DECISION)
    counter.update(frame(0, 300, 100), [detection(200, 120), detection(242, 120)])
    assert shown(counter, *[(208, 292, 120)] * 6) == 2


def test_a_cell_at_the_border_is_the_counted_one_that_lies_no_nearer_to_it() -> None:
    assert shown(MovingStage(DECISION), *[(0, 150, 120)] * 40, *[(130, 18, 144)] * 8) == 1
    assert shown(MovingStage(DECISION), *[(0, 150, 120)] * 40, *[(126, 50, 124)] * 8) == 2


def test_all_cells_of_a_crowded_view_are_counted_while_in_view() -> None:
    counter = MovingStage(DECISION)
    row = [detection(12 + 17 * (i % 18), 12 + 15 * (i // 18)) for i in range(250)]
    small = [replace(d, box=Box(d.box.centre[0] - 6, d.box.centre[1] - 6, 12, 12)) for d in row]
    counted = [cell for i in range(34) for cell in counter.update(frame(i, 0, 100), small).cells]
    assert len(counted) == len(small)


def test_cells_in_a_row_do_not_hold_each_other_in_memory() -> None:
    def alive() -> int:
        gc.collect()
        return sum(type(thing) is Sightings for thing in gc.get_objects())

    before, counter = alive(), MovingStage(DECISION, decide_after=8)
    row = [(60 + 45 * i, 220) for i in range(18)]
    counted = walk(counter, ROW, row)
    assert len(counted) + len(counter.settle()) == len(row)
    counter._gathering = dict(list(counter._gathering.items())[-1:])  # as after many cells more
    assert alive() - before == len(counter._gathering) + len(counter._open) <= 1


def test_a_cell_of_another_size_beside_a_glimpse_is_another() -> None:
    counter = MovingStage(DECISION)
    counter.update(frame(0, 0, 100), [detection(150, 120)])
    large = replace(detection(180, 120), box=Box(150, 90, 60, 60))
    counted = [c for i in range(1, 45) for c in counter.update(frame(i, 0, 100), [large]).cells]
    assert len(counted) == 1
    assert counted[0].box == large.box


def test_a_glimpsed_cell_is_where_it_is_seen_better() -> None:
    """The border cut it, so that its middle was not known."""
    counter = MovingStage(DECISION)
    counted = [c for i in range(2) for c in counter.update(frame(i, 0, 100), [detection(150, 215)]).cells]
    away = [(60 * i, 100) for i in range(1, 5)]
    around = [(240, y) for y in range(140, 300, 30)] + [(240 - 60 * i, 290) for i in range(5)]
    for i, place in enumerate(away + around, 2):
        counted += counter.update(frame(i, *place), []).cells
    assert len(counted) == 1
    for i, y in enumerate([331, 331, 331, *[340] * 40], 20):
        tracked = counter.update(frame(i, 0, 290), [detection(150, y - 290)])
        assert (tracked.cells, tracked.numbers) == ((), (1,))


def test_what_is_seen_of_a_cell_beside_its_place_counts_for_its_class() -> None:
    counter = MovingStage(DECISION)
    away = [frame(50 + i, 40 * i, 100) for i in range(12)]
    for i in range(4):
        counter.update(frame(i, 0, 100), [detection(150, 120, 0.05)])
    (cell,) = (c for f in away for c in counter.update(f, []).cells)
    assert cell.name == "lymphocyte"
    for f in away[::-1]:
        counter.update(f, [])
    # The map was bent: it lies beside its place.
    tracked = [counter.update(frame(80 + i, 0, 100), [detection(180, 120, 0.99)]) for i in range(20)]
    tracked += [counter.update(f, []) for f in away]
    assert not any(t.cells for t in tracked)
    assert [(c.number, c.name) for t in tracked for c in t.revised] == [(1, "neutrophil")]


def test_a_glimpse_beside_a_cell_that_was_never_seen_with_it_is_that_cell() -> None:
    counted, seen_better = [(0, 150, 120)] * 40, [(0, 150, 120)] * 5
    for first in (counted, seen_better):
        assert shown(MovingStage(DECISION), *first, (130, 50, 120)) == 1
    counter = MovingStage(DECISION)
    counter.update(frame(0, 300, 100), [detection(200, 120), detection(230, 120)])
    assert shown(counter, *[(210, 290, 120)] * 5) == 2


def test_a_pause_leaves_a_glimpse_open() -> None:
    counter = MovingStage(DECISION)
    counter.update(frame(0, 0, 100), [detection(150, 120)])
    assert counter.settle(paused=True) == ()
    assert len(counter.settle()) == 1


def test_each_cell_of_a_row_is_counted_once_also_on_the_way_back() -> None:
    counter = MovingStage(DECISION)
    counted = walk(counter, ROW + ROW[::-1], CELLS)
    counted += counter.settle()
    assert [c.number for c in counted] == list(range(1, len(CELLS) + 1))
    found = sorted(c.slide for c in counted)
    assert np.allclose(found, [(x, y - 100) for x, y in CELLS], atol=4)


def test_a_cell_seen_seldom_goes_to_review_and_one_that_was_not_there_again_is_none() -> None:
    for later, counted in (([], 0), ([detection(101, 100)], 1)):
        counter = MovingStage(DECISION)
        counter.update(frame(0, 0, 0), [detection(100, 100)])
        counter.update(frame(1, 0, 0), later)
        assert [cell.review for cell in counter.settle()] == [True] * counted


def test_a_camera_so_slow_that_each_cell_is_seen_once_or_twice_misses_none() -> None:
    counter = MovingStage(DECISION)
    counted = walk(counter, ROW[::11], CELLS) + list(counter.settle())
    assert len(counted) == len(CELLS)
    assert all(cell.review for cell in counted)
    assert walk(counter, ROW[::-11], CELLS) == []


def test_what_is_taken_for_a_cell_now_and_then_only_is_none() -> None:
    frames = [[detection(100, 100)] if i % 3 == 0 else [] for i in range(60)]
    assert counted_of(frames) == []


def test_a_cell_that_is_overlooked_now_and_then_is_one() -> None:
    frames = [[] if i % 3 == 0 else [detection(100, 100)] for i in range(60)]
    assert len(counted_of(frames)) == 1


@pytest.mark.parametrize(
    ("seen", "sure", "counted"),
    [
        ("110110110", True, [False]),
        ("110110110", False, []),
        ("111111111", False, [True]),
        ("111111112", False, [False]),
        ("211111111", False, [False]),
        ("111011101110", False, [True]),
        ("100000000", True, []),
        ("1", True, [True]),
        ("1", False, []),
        ("11", False, [True]),
    ],
)
def test_what_is_doubted_each_time_must_be_there_steadily_and_goes_to_review(
    seen: str, sure: bool, counted: list[bool]
) -> None:
    """In each frame: 0 nothing, 1 the cell, 2 the cell for sure; counted, and whether to review."""
    counter = MovingStage(DECISION)
    for index, there in enumerate(seen):
        shown = [detection(100, 100, sure=sure or there == "2")] if there != "0" else []
        assert not counter.update(frame(index, 0, 0), shown).cells
    assert [cell.review for cell in counter.settle()] == counted


def test_what_was_seen_steadily_stays_a_cell_while_the_lamp_is_dim() -> None:
    counter = MovingStage(DECISION, decide_after=64, most_sightings=64)
    shown = [[detection(100, 100)]] * 20 + [[]] * 60
    assert not any(counter.update(frame(i, 0, 0), seen).cells for i, seen in enumerate(shown))
    assert len(counter.settle()) == 1


def test_a_frame_that_the_gates_refuse_misses_no_cell() -> None:
    counter = MovingStage(DECISION)
    for i in range(24):
        counter.update(frame(i, 0, 0), [detection(100, 100)] if i < 4 else [], refused=i >= 4)
    assert len(counter.settle()) == 1


def test_no_cell_is_missed_where_the_border_cuts_it() -> None:
    places = [(0, 0)] * 3 + [(85, 0)] * 12
    assert len(walk(MovingStage(DECISION, decide_after=3), places[:3], [(100, 100)])) == 1
    counter = MovingStage(DECISION)
    assert walk(counter, places, [(100, 100)]) == []
    assert len(counter.settle()) == 1


def test_a_frame_of_another_size_is_told_from_a_strange_place() -> None:
    counter = MovingStage(DECISION)
    walk(counter, ROW[:40], CELLS)
    small = frame(40, 100, 100).image[:200]
    assert counter.update(Frame(40, 0.0, small), []).map_size == (WIDTH, HEIGHT)
    elsewhere = counter.update(frame(42, 1500, 800), [])
    assert elsewhere.lost
    assert elsewhere.map_size is None


def test_the_class_is_that_of_all_sightings_sharp_ones_first() -> None:
    counter = MovingStage(DECISION, decide_after=4, most_sightings=4)
    sightings = [detection(100, 100, 0.2, 10.0)] * 3 + [detection(100, 100, 0.95, 500.0)]
    (cell,) = (c for i, d in enumerate(sightings) for c in counter.update(frame(i, 0, 0), [d]).cells)
    assert cell.name == "neutrophil"
    assert cell.source == 3
    expected = (3 * 10**2 * 0.2 + 500**2 * 0.95) / (3 * 10**2 + 500**2)
    assert cell.confidence == pytest.approx(expected, abs=1e-3)
    assert not cell.review


def test_an_unsure_cell_is_looked_at_for_longer() -> None:
    counter = MovingStage(DECISION, decide_after=3, most_sightings=20)
    blurred = [counter.update(frame(i, 0, 0), [detection(100, 100, 0.4, 10.0)]) for i in range(10)]
    assert not any(tracked.cells for tracked in blurred)
    sharp = [counter.update(frame(10 + i, 0, 0), [detection(100, 100, 0.99, 900.0)]) for i in range(3)]
    (cell,) = (c for tracked in sharp for c in tracked.cells)
    assert cell.name == "neutrophil"
    assert not cell.review


def test_a_contradictory_cell_goes_to_review() -> None:
    counter = MovingStage(DECISION, most_sightings=2, least_sightings=2)
    counter.update(frame(0, 0, 0), [detection(100, 100, 0.95)])
    (cell,) = counter.update(frame(1, 0, 0), [detection(100, 100, 0.1)]).cells
    assert cell.review


def boxed(x: float, y: float, side: float) -> Detection:
    return replace(detection(x, y), box=Box(x - side / 2, y - side / 2, side, side))


def counted_of(frames: list[list[Detection]]) -> list:
    counter = MovingStage(DECISION)
    cells = [c for i, seen in enumerate(frames) for c in counter.update(frame(i, 0, 0), seen).cells]
    return cells + list(counter.settle())


def test_two_cells_that_touch_stay_two() -> None:
    assert len(counted_of([[boxed(100, 100, 40), boxed(138, 100, 40)]] * 12)) == 2


def test_two_cells_that_were_first_boxed_as_one_are_two() -> None:
    merged, apart = [boxed(119, 100, 78)], [boxed(100, 100, 40), boxed(138, 100, 40)]
    assert len(counted_of([merged] * 3 + [apart] * 20)) == 2
    assert len(counted_of([merged] * 12 + [apart] * 20)) == 2


def test_one_cell_whose_box_jitters_stays_one() -> None:
    rng = np.random.default_rng(0)
    frames = [[boxed(*(100 + rng.normal(0, 4, 2)), 40 + rng.normal(0, 5))] for _ in range(60)]
    assert len(counted_of(frames)) == 1


def test_two_boxes_on_one_cell_are_one_cell() -> None:
    assert len(counted_of([[boxed(100, 100, 40), boxed(106, 104, 30)]] * 12)) == 1


def test_a_box_within_another_is_of_one_cell_and_one_at_its_corner_is_not() -> None:
    large = Box(100, 100, 40, 40)
    for box, one in ((Box(110, 110, 15, 15), True), (Box(130, 130, 15, 15), False)):
        assert one_cell(large, box) is one_cell(box, large) is one


def test_sightings_of_one_cell_that_are_joined_are_all_of_them() -> None:
    """As if each had been added."""
    blurred, sharp = detection(100, 100, 0.9, sure=False), replace(boxed(100, 100, 60), strangeness=1.0)
    sharp = replace(sharp, crop=stained(40, 1, 0).best.crop)
    one, together = (Sightings(blurred, 0, (100, 100)) for _ in "ab")
    other = Sightings(sharp, 1, (120, 100), 2.0)
    other.add(detection(120, 100, 0.1), 2, (120, 100), 1.0)
    one.absences, other.instead[one.key] = 3, 2
    together.add(sharp, 1, (100, 100), 2.0)
    together.add(detection(120, 100, 0.1), 2, (100, 100), 1.0)
    one.join(other)
    for joined in (one, together):
        assert (joined.number, joined.weight, joined.sure) == (3, 4.0, True)
        assert joined.agreement(0) == pytest.approx(3 / 4)
        assert (joined.best, joined.source) == (sharp, 1)
        assert joined.side == pytest.approx((40 + 2 * 60 + 40) / 4)
        assert joined.strangeness == pytest.approx(2 / 4)
        assert joined.dark == other.dark > 1
        assert joined.probabilities == pytest.approx(together.probabilities)
    assert (one.x, one.y) == (100, 100)
    assert one.absences == 1, "twice it was beside its place"


def test_sightings_at_the_border_weigh_less() -> None:
    size = (WIDTH, HEIGHT)
    assert weight_of(boxed(21, 100, 40), size) < 0.4 * weight_of(boxed(160, 100, 40), size)
    assert weight_of(boxed(60, 100, 40), size) == weight_of(boxed(160, 100, 40), size)


def test_sightings_that_disagree_go_to_review_however_sure_the_mean_is() -> None:
    seen = Sightings(detection(50, 50, 0.99), 0, (50, 50))
    for _ in range(2):
        seen.add(detection(50, 50, 0.45), 1, (50, 50), 1.0)
    assert seen.agreement(0) == pytest.approx(1 / 3)
    assert Decision(CLASSES, review_below=0.5).cell(1, seen).review


class Told(Stage):
    """A stage that is told where each frame lies, a pixel off."""

    def __init__(self) -> None:
        super().__init__()
        self.next = Place(0, 0, 0, None)

    def place(self, image: Image) -> Place | None:
        return self.next


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=12, unique=True),
    st.integers(0, 2**32 - 1),
)
def test_however_the_stage_wanders_and_turns_each_cell_is_counted_once(
    squares: list[tuple[int, int]], seed: int
) -> None:
    """Cells touch; boxes jitter, and one in ten is not found."""
    rng = np.random.default_rng(seed)
    cells = [(120 + 44 * column, 110 + 44 * row) for column, row in squares]
    counter, stage, counted, seen = MovingStage(DECISION), Told(), [], set()
    counter._stage = stage
    pose = np.array([100.0, 100.0, 0.0])
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for index in range(80):
        pose += rng.normal(0, (30, 30, 0.3))
        pose[:2] = np.clip(pose[:2], -100, 300)
        stage.next = Place(*(pose + rng.normal(0, (1, 1, 0.005))), None)
        found = []
        for i, cell in enumerate(cells):
            x, y = Pose(*pose).to_frame(*cell)
            if 25 < x < WIDTH - 25 and 25 < y < HEIGHT - 25 and rng.random() < 0.9:
                found.append(detection(*(np.array([x, y]) + rng.normal(0, 2, 2))))
                seen.add(i)
        counted += counter.update(Frame(index, 0.0, image), found).cells
    counted += counter.settle()
    whose = [int(np.argmin([np.hypot(c.slide[0] - x, c.slide[1] - y) for x, y in cells])) for c in counted]
    assert len(set(whose)) == len(whose)
    assert set(whose) <= seen


def test_nothing_is_counted_while_lost() -> None:
    counter = MovingStage(DECISION, decide_after=1)
    counter.update(frame(0, 0, 0), [])
    tracked = counter.update(frame(1, 1500, 800), [detection(100, 100)])
    assert tracked.lost
    assert tracked.cells == ()
    assert tracked.numbers == (None,)


def test_a_resumed_count_knows_its_cells() -> None:
    first = MovingStage(DECISION)
    keys, counted = [], []
    for index, (x, y) in enumerate(ROW[:40]):
        tracked = first.update(
            frame(index, x, y), [detection(cx - x, cy - y) for cx, cy in CELLS[:3] if 20 < cx - x < 300]
        )
        counted += tracked.cells
        keys += [tracked.place.new_key] if tracked.place and tracked.place.new_key else []
    known = [Known(c.number, *c.slide, c.box.side) for c in counted]
    assert known
    later = MovingStage(DECISION, known, keys)
    again = walk(later, ROW, CELLS) + list(later.settle())
    assert [c.number for c in again] == list(range(len(known) + 1, len(CELLS) + 1))


def test_still_fields_count_everything_at_once() -> None:
    seen = detection(60, 60)
    counter = StillFields(DECISION, {("a.png", seen.box): 1}, count=1, fields=2)
    still = Frame(0, 0.0, np.zeros((9, 9, 3), np.uint8), "a.png")
    tracked = counter.update(still, [detection(30, 30), seen, detection(90, 30, 0.3)])
    assert [c.number for c in tracked.cells] == [2, 3]
    assert tracked.numbers == (2, 1, 3)
    assert [c.name for c in tracked.cells] == ["neutrophil", "lymphocyte"]
    assert tracked.cells[1].source == "a.png"
    assert tracked.cells[1].review
    assert counter.fields == 3
    assert counter.settle() == ()


def test_a_strange_cell_goes_to_review_however_sure_the_class_is() -> None:
    seen = Sightings(replace(detection(50, 50), strangeness=1.5), 0, (50, 50))
    assert DECISION.cell(1, seen).review
    for _ in range(4):
        seen.add(replace(detection(50, 50), strangeness=0.5), 1, (50, 50), 1.0)
    assert seen.strangeness == pytest.approx(0.7)
    assert not DECISION.cell(1, seen).review


def test_numbers_go_on_behind_a_gap() -> None:
    counter = MovingStage(DECISION, [Known(3, 900, 900, 40)], decide_after=8)
    assert [c.number for c in walk(counter, [(0, 0)] * 8, [(100, 100)])] == [4]


def test_what_lay_there_before_the_slide_does_not_keep_the_count_lost() -> None:
    counter = MovingStage(DECISION, decide_after=8)
    hand = np.kron(RNG.integers(40, 230, (20, 27), np.uint8), np.ones((12, 12), np.uint8))[:HEIGHT, :WIDTH]
    hand_frame = Frame(0, 0.0, np.repeat(hand[..., None], 3, axis=2))
    assert counter.update(hand_frame, []).place
    tracked = [counter.update(frame(i, 12 * i, 100), []) for i in range(30)]
    assert [t.lost for t in tracked] == [True] * 14 + [False] * 16
    assert [t.anew for t in tracked] == [False] * 14 + [True] + [False] * 15
    assert len(walk(counter, ROW[30:40], [(500, 200)])) == 1
    # Now there is something to lose: the map stays.
    assert all(counter.update(hand_frame, []).lost for _ in range(40))
    assert counter.update(frame(0, 450, 100), []).place


def test_cells_that_are_seen_but_not_counted_yet_hold_the_map() -> None:
    counter = MovingStage(DECISION)
    for i in range(5):
        counter.update(frame(i, 0, 0), [detection(100, 100)])
    hand = np.kron(RNG.integers(40, 230, (20, 27), np.uint8), np.ones((12, 12), np.uint8))[:HEIGHT, :WIDTH]
    other = Frame(30, 0.0, np.repeat(hand[..., None], 3, axis=2))
    assert all(counter.update(other, []).lost for _ in range(20))
    assert len(counter.settle()) == 1


def sized(side: float, *shares: float) -> Sightings:
    crop = np.zeros((8, 8, 3), np.uint8)
    seen = Detection(Box(100, 100, side, side), np.array(shares, np.float32), crop, 1.0, 0.0, True)
    return Sightings(seen, 0, (100, 100))


def test_the_size_of_a_doubtful_cell_decides_also_after_a_restart() -> None:
    classes = tuple(CellClass(name, Role.COUNTED) for name in ("neutrophil", "lymphocyte", "monocyte"))
    decision = Decision(classes, review_below=0.8)
    doubtful = sized(120, 0.0, 0.55, 0.45)
    first = decision.cell(1, doubtful)
    assert first.name == "lymphocyte", "nothing is known of the scale yet"
    seen = [(100, 1, 0, 0)] * 14 + [(79, 0, 1, 0)] * 7 + [(100, 0.6, 0.2, 0.2)] * 8
    counted = [decision.cell(i, sized(*cell)) for i, cell in enumerate(seen, 2)]
    told = decision.cell(40, doubtful)
    assert told.name == "monocyte"
    assert told.review, "the network by itself says another class"
    again = Decision(classes, 0.8, [first, *counted]).cell(40, doubtful)
    assert again.name == told.name
    assert again.confidence == told.confidence


def test_a_cell_whose_class_its_size_changed_is_reviewed_though_its_sightings_agree() -> None:
    classes = tuple(CellClass(name, Role.COUNTED) for name in ("neutrophil", "lymphocyte", "monocyte"))
    decision = Decision(classes, review_below=0.5)
    seen = [(100, 1, 0, 0)] * 14 + [(79, 0, 1, 0)] * 7 + [(100, 0.6, 0.2, 0.2)] * 8
    for number, cell in enumerate(seen, 1):
        decision.cell(number, sized(*cell))
    sightings = sized(120, 0.0, 0.45, 0.55)
    for shares in ((0.0, 0.45, 0.55), (0.0, 0.8, 0.2)):
        sightings.add(sized(120, *shares).best, 0, (100, 100), 1.0)
    told = decision.cell(40, sightings)
    assert (told.name, int(told.network.argmax())) == ("monocyte", 1)
    assert sightings.agreement(2) > 0.6
    assert told.confidence > 0.5
    assert told.review


def test_help_by_size_does_not_end_because_it_helps() -> None:
    classes = tuple(CellClass(name, Role.COUNTED) for name in ("neutrophil", "lymphocyte", "monocyte"))
    decision = Decision(classes, review_below=0.8)
    # The network is sure of seven cells in ten; with the sizes nearly all cells are sure.
    ten = (
        [(100, 1, 0, 0)] * 5
        + [(79, 0, 1, 0)] * 2
        + [(79, 0, 0.8, 0.2), (119, 0, 0.2, 0.8), (79, 0, 0.8, 0.2)]
    )
    cells = [decision.cell(i, sized(*cell)) for i, cell in enumerate(ten * 30, 1)]
    assert np.mean([cell.confidence > 0.95 for cell in cells[100:]]) > 0.8
    assert [decision.cell(i, sized(79, 0.0, 0.4, 0.6)).name for i in range(301, 320)] == ["lymphocyte"] * 19


def stained(nucleus: int, *shares: float, strangeness: float = 0.0) -> Sightings:
    crop = np.full((48, 48, 3), 220, np.uint8)
    crop[16:32, 16:32] = nucleus
    seen = Detection(Box(100, 100, 50, 50), np.array(shares, np.float32), crop, 1.0, strangeness, True)
    return Sightings(seen, 0, (100, 100))


NAMED = (
    CellClass("neutrophil", Role.COUNTED),
    CellClass("basophil", Role.COUNTED),
    CellClass("platelet", Role.REJECTED),
)


@pytest.mark.parametrize("review_below", [0.5, 0.9, 1.0])
def test_a_doubtful_cell_without_a_nucleus_is_no_leukocyte(review_below: float) -> None:
    decision = Decision(NAMED, review_below)
    pale = stained(150, 0.1, 0.85, 0.05)
    assert decision.cell(1, pale).name == "basophil", "nothing is known of the stain yet"
    for number in range(2, 12):
        decision.cell(number, stained(30 + number, 0.97, 0.02, 0.01))
    told = decision.cell(12, pale)
    assert (told.name, told.review) == ("platelet", True)
    assert told.network.argmax() == 1
    assert decision.cell(13, stained(40, 0.1, 0.85, 0.05)).name == "basophil", "it has a nucleus"
    surely_none = decision.cell(14, stained(150, 0.02, 0.04, 0.94))
    assert (surely_none.name, surely_none.review) == ("platelet", True)
    # Strange cells, however sure, say nothing of how pale a nucleus may be.
    strange = [decision.cell(i, stained(150, 0.01, 0.98, 0.01, strangeness=1.2)) for i in range(15, 75)]
    assert {cell.name for cell in strange} == {"basophil"}, "the network is sure"
    assert decision.cell(75, pale).name == "platelet"


def test_a_sure_cell_that_is_too_pale_goes_to_review_once_it_is_known_how_dark_nuclei_are() -> None:
    decision = Decision(NAMED, 0.9)
    pale, none = stained(150, 0.97, 0.02, 0.01), stained(150, 0.01, 0.01, 0.98)
    assert not decision.cell(1, pale).review
    assert not decision.cell(2, none).review
    for number in range(3, 10):
        assert decision.reconsidered() == ()
        decision.cell(number, stained(30 + number, 0.97, 0.02, 0.01))
    (told,) = decision.reconsidered()
    assert (told.number, told.name, told.review) == (1, "neutrophil", True)
    assert decision.reconsidered() == ()
    for number in range(10, 30):
        decision.cell(number, stained(30 + number, 0.97, 0.02, 0.01))
    later = decision.cell(30, pale)
    assert (later.name, later.review) == ("neutrophil", True)
    assert not decision.cell(31, none).review, "it is named one without a nucleus"
    again = Decision(NAMED, 0.9, [replace(cell, review=False) for cell in (told, later)])
    assert again.reconsidered() == ()


def test_cells_of_a_specimen_that_is_opened_again_are_not_judged_by_those_counted_after_them() -> None:
    """Else a final result would leave again as a corrected one, with nothing new counted."""
    decision = Decision(NAMED, 0.9)
    greys = [120, *range(66, 90, 3), 120]
    cells = [decision.cell(n, stained(grey, 0.97, 0.02, 0.01)) for n, grey in enumerate(greys, 1)]
    assert not any(cell.review for cell in [*cells, *decision.reconsidered()])
    later = [decision.cell(n, stained(20, 0.97, 0.02, 0.01)) for n in range(11, 60)]
    assert decision.cell(60, stained(120, 0.97, 0.02, 0.01)).review
    cells += [replace(cell, source=1) for cell in later]
    assert Decision(NAMED, 0.9, cells).reconsidered() == ()


@pytest.mark.parametrize("number", [8, 12])
def test_what_a_power_cut_left_unjudged_is_judged_on_resuming(number: int) -> None:
    """The cells of one image are stored before the next one has those before it looked at again."""
    decision = Decision(NAMED, 0.9)
    cells = [decision.cell(1, stained(150, 0.97, 0.02, 0.01))]
    cells += [decision.cell(n, stained(30 + n, 0.97, 0.02, 0.01)) for n in range(2, number + 1)]
    (told,) = Decision(NAMED, 0.9, cells).reconsidered()
    assert told == decision.reconsidered()[0]
    assert told.number == 1


def test_a_nucleus_is_as_dark_as_the_least_blurred_picture_shows() -> None:
    decision = Decision(NAMED, 0.9)
    for number in range(1, 11):
        decision.cell(number, stained(30 + number, 0.97, 0.02, 0.01))
    for first, then, named in ((150, 150, "platelet"), (150, 40, "neutrophil"), (40, 150, "neutrophil")):
        seen = stained(first, 0.8, 0.1, 0.1)
        seen.add(stained(then, 0.8, 0.1, 0.1).best, 1, (100, 100), weight=0.5)
        assert decision.cell(11, seen, again=True).name == named
        assert seen.source == 0


def test_a_decision_that_was_replaced_is_not_reconsidered() -> None:
    decision = Decision(NAMED, 0.9)
    pale = stained(150, 0.97, 0.02, 0.01)
    decision.cell(1, pale)
    for number in range(2, 10):
        decision.cell(number, stained(30 + number, 0.97, 0.02, 0.01))
    assert decision.cell(1, pale, again=True).review
    assert decision.reconsidered() == ()


@pytest.mark.parametrize("still", [True, False])
def test_an_early_cell_that_is_too_pale_is_revised(still: bool) -> None:
    decision = Decision(NAMED, 0.9)
    counter = StillFields(decision) if still else MovingStage(decision, decide_after=2)

    row = [stained(30 + 120 * (i == 0), 0.97, 0.02, 0.01).best for i in range(9)]
    row = [replace(d, box=Box(10 + 33 * i, 100, 30, 30)) for i, d in enumerate(row)]
    revised = [
        cell
        for index in range(5)
        for cell in counter.update(frame(index, 400 * index * still, 100), row).revised
    ]
    assert [(cell.number, cell.review) for cell in revised] == [(1, True)]


def test_how_dark_nuclei_are_is_known_after_a_restart(tmp_path: Path) -> None:
    decision = Decision(NAMED, 0.9)
    cells = [decision.cell(i, stained(30 + i, 0.97, 0.02, 0.01)) for i in range(1, 11)]
    with Store(tmp_path / "counts.sqlite") as store:
        store.add(store.open_specimen("S-1", "model", "demo", moving=True).specimen, cells=cells)
    with Store(tmp_path / "counts.sqlite") as store:
        resumed = store.open_specimen("S-1", "model", "demo", moving=True)
    again = Decision(NAMED, 0.9, resumed.cells)
    assert again.cell(11, stained(150, 0.1, 0.85, 0.05)).name == "platelet"
    assert again.cell(12, stained(60, 0.1, 0.85, 0.05)).name == "basophil"


@pytest.mark.parametrize("crop", [b"", b"no picture", b"\xff\xd8\xff\xe0 cut short"])
def test_a_stored_crop_that_cannot_be_read_tells_nothing(crop: bytes) -> None:
    decision = Decision(NAMED, 0.9)
    cells = [decision.cell(i, stained(30 + i, 0.97, 0.02, 0.01)) for i in range(1, 11)]
    damaged = Decision(NAMED, 0.9, [replace(cell, crop=crop) for cell in cells])
    assert damaged.cell(11, stained(150, 0.1, 0.85, 0.05)).name == "basophil"


def test_a_cell_counted_after_a_glimpse_is_decided_again_when_it_comes_back() -> None:
    counter = MovingStage(DECISION)
    away = [frame(50 + i, 40 * i, 100) for i in range(12)]
    for i in range(4):
        counter.update(frame(i, 0, 100), [detection(100, 100, 0.05)])
    (cell,) = (c for f in away for c in counter.update(f, []).cells)
    assert (cell.number, cell.name, cell.review) == (1, "lymphocyte", False)
    revised = [c for f in away[::-1] for c in counter.update(f, []).revised]
    for i in range(40):
        tracked = counter.update(frame(80 + i, 0, 100), [detection(100, 100, 0.99)])
        assert tracked.cells == ()
        revised += tracked.revised
    assert [(c.number, c.name) for c in revised] == [(1, "neutrophil")] * 3  # after 8, 16 and 32 sightings
    assert not revised[-1].review


def test_a_cell_that_is_looked_at_long_is_counted_once_and_ever_more_rarely_decided_again() -> None:
    counter = MovingStage(DECISION, decide_after=8)
    tracked = [counter.update(frame(i, 0, 0), [detection(100, 100)]) for i in range(40)]
    assert [i for i, t in enumerate(tracked) if t.cells] == [7]
    assert [i for i, t in enumerate(tracked) if t.revised] == [15, 31]


def test_a_long_blurred_look_does_not_hold_against_a_sharp_one() -> None:
    counter = MovingStage(DECISION)
    for i in range(40):
        cells = counter.update(frame(i, 0, 100), [detection(100, 100, 0.02, sharpness=5.0)]).cells
        assert [cell.name for cell in cells] == ["lymphocyte"] * len(cells)
    (cell,) = counter.update(frame(40, 0, 100), [detection(100, 100, 0.99, sharpness=100.0)]).revised
    assert (cell.number, cell.name, cell.source) == (1, "neutrophil", 40)


def test_what_passed_now_and_then_does_not_hold_a_map_without_a_cell() -> None:
    counter = MovingStage(DECISION)
    for i in range(20):  # three glimpses, far too few for a cell
        counter.update(frame(i, 0, 0), [detection(100, 100)] if i % 7 == 0 else [])
    hand = np.kron(RNG.integers(40, 230, (20, 27), np.uint8), np.ones((12, 12), np.uint8))[:HEIGHT, :WIDTH]
    other = Frame(30, 0.0, np.repeat(hand[..., None], 3, axis=2))
    assert any(counter.update(other, []).anew for _ in range(20))
