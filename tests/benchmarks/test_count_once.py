from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.count_once import OURS, Detected, failures, measure, ratio
from benchmarks.peers import PEERS
from benchmarks.real_slide import TrueCell, build_slide
from benchmarks.stage_script import FrameTruth
from benchmarks.tally import HEADING, Counted, Tally, score, true_cell
from edge.cells import Box
from edge.classify import Classifier

FRAME = FrameTruth(0, 0, 0, 0, (0, 0), (1, 1, 1), False, True)
TURNED = FrameTruth(900, 400, np.pi / 2, 0, (0, 0), (1, 1, 1), False, True)
OTHER = FrameTruth(0, 0, 0, 0, (0, 0), (1, 1, 1), True, False)
CELLS = [TrueCell(i, "monocyte", "a.jpg", x, 500, 80) for i, x in enumerate((300, 700, 1100))]
WELL = frozenset({0, 1})


def seen(frame: int, x: float, y: float, name: str = "monocyte", review: bool = False) -> Counted:
    return Counted(frame, Box(x - 45, y - 40, 90, 80), "erythroblast", name, "monocyte", review)


@pytest.mark.parametrize(
    ("counted", "figures"),
    [
        # (counted, missed, twice, false, right, sure)
        ([], (0, 2, 0, 0, 0, 0)),
        ([seen(0, 300, 500), seen(1, 100, 200)], (2, 0, 0, 0, 2, 2)),
        ([seen(0, 335, 500), seen(1, 100, 200, "basophil")], (2, 0, 0, 0, 1, 2)),
        ([seen(0, 345, 500)], (1, 2, 0, 1, 0, 0)),
        ([seen(0, 700, 500), seen(1, 100, 200)], (2, 1, 1, 0, 1, 1)),
        ([seen(0, 1100, 500)], (0, 2, 0, 0, 0, 0)),
        ([seen(0, 1100, 500), seen(0, 1100, 500)], (1, 2, 1, 0, 0, 0)),
        ([seen(2, 300, 500)], (1, 2, 0, 1, 0, 0)),
        ([seen(0, 300, 500, review=True)], (1, 1, 0, 0, 1, 0)),
    ],
    ids=["none", "all", "class", "beside", "twice", "not well", "not well twice", "other slide", "review"],
)
def test_score(counted: list[Counted], figures: tuple[int, ...]) -> None:
    tally = score(counted, {}, [FRAME, TURNED, OTHER], CELLS, WELL)
    assert (tally.counted, tally.missed, tally.twice, tally.false, tally.right, tally.sure) == figures


def test_a_box_of_a_turned_frame_is_found_on_the_slide() -> None:
    assert true_cell(Box(60, 160, 80, 80), TURNED, CELLS) == 1
    assert true_cell(Box(160, 160, 80, 80), TURNED, CELLS) is None


def test_identity_errors_are_names_and_cells_too_many() -> None:
    at = [(0, Box(260, 460, 80, 80)), (0, Box(660, 460, 80, 80)), (1, Box(60, 160, 80, 80))]
    for names, errors in (((1, 2, 2), 0), ((1, 2, 3), 1), ((1, 1, 1), 1), ((1, 1, 2), 2)):
        named = dict(zip(at, names, strict=True))
        assert score([], named, [FRAME, TURNED], CELLS, WELL).identity == errors


def test_bars() -> None:
    good = Tally(truth=1000, right=998, single_right=990, sure=990, sure_right=990)
    peers = {("hard", name): Tally(truth=1000, twice=300) for name in PEERS}
    assert failures({("ordinary", OURS): good, ("hard", OURS): Tally(truth=10, right=10), **peers}) == []
    bad = Tally(truth=1000, missed=4, twice=12, right=980, single_right=981)
    missed = failures({("ordinary", OURS): bad, **peers})
    assert missed[0] == "ordinary: 16 of 1000 counts wrong, bar 0.5 %", "they do not make up for each other"
    assert [text.split()[0] for text in missed] == ["ordinary:", "12", "class", "the"]
    assert ratio(Tally(truth=9, missed=5, twice=5), Tally(truth=9)) == 10


def test_the_row_fits_its_heading() -> None:
    assert len(Tally(truth=3, frames=1, seconds=0.5).row("hard ByteTrack")) == len(HEADING)


BLANK = np.full((480, 640, 3), 220, np.uint8)


@pytest.mark.parametrize("name", ["ByteTrack", "IoU"])
def test_peers_link_what_overlaps_and_forget(name: str) -> None:
    tracker = PEERS[name]()

    def row(x: float) -> list[Box]:
        return [Box(x, 100, 80, 80), Box(x + 300, 100, 80, 80)]

    names = [tracker.link(row(100 + 5 * i), BLANK) for i in range(8)]
    first = names[-1]
    assert None not in first
    assert len(set(first)) == 2
    assert names[-2] == first
    for _ in range(40):
        assert tracker.link([], BLANK) == []
    back = [tracker.link(row(100), BLANK) for _ in range(4)][-1]
    assert not set(back) & set(first)


def test_norfair_forgets_no_track() -> None:
    tracker, cell = PEERS["norfair"](), [Box(100, 100, 80, 80)]
    rng = np.random.default_rng(2)
    still = np.kron(rng.integers(40, 230, (40, 54, 1), np.uint8), np.ones((12, 12, 3), np.uint8))
    first = [tracker.link(cell, still) for _ in range(5)][-1]
    for _ in range(60):
        tracker.link([], still)
    assert tracker.link(cell, still) == first


def test_norfair_knows_how_the_camera_moves() -> None:
    rng = np.random.default_rng(2)
    grain = np.kron(rng.integers(40, 230, (60, 120, 1), np.uint8), np.ones((12, 12, 3), np.uint8))
    slide = cv2.GaussianBlur(grain, (0, 0), 5)
    tracks = {}
    for name in ("norfair", "IoU"):
        tracker = PEERS[name]()
        way = [0, 0, 0, *range(0, 500, 45)]
        names = [tracker.link([Box(540 - x, 100, 70, 70)], slide[:480, x : x + 640]) for x in way]
        tracks[name] = len({tuple(linked) for linked in names} - {(None,)})
    assert tracks["norfair"] == 1
    assert tracks["IoU"] > 1


def test_a_short_film_is_counted_once_and_by_those_who_forget_more_often(shared_data: Path) -> None:
    slide = build_slide(shared_data, "train", 1, scale=0.6, size=(900, 640), leukocytes=8)
    classifier = Classifier()
    tallies = measure(slide, "rows", 1, Detected(None, "train", True, classifier), classifier)
    ours = tallies[OURS]
    assert ours.truth >= 5
    assert (ours.missed, ours.twice, ours.false, ours.identity) == (0, 0, 0, 0)
    assert all(tallies[name].twice > 0 for name in ("ByteTrack", "IoU"))
