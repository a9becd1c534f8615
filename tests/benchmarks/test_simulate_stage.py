"""The film tells the truth: cells lie where it says, on the frames that it says."""

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.real_slide import LEAST_GAP, WHITE, Slide, TrueCell, build_slide
from benchmarks.simulate_stage import film, main, write
from benchmarks.stage_script import (
    IN_FOCUS_SIGMA,
    SCRIPTS,
    SEEN_WELL_FRAMES,
    FrameTruth,
    StageScript,
    seen_well,
    stage_truth,
    way_points,
)
from edge.errors import UserError

SIZE = (900, 760)
STILL = StageScript(
    defocus_sigma=0, dimmest=1, brightest=1, white_balance=0, noise=0, slowest_px=30, fastest_px=40
)
"""A fast stage under a perfect camera."""


@pytest.fixture(scope="module")
def slide(shared_data: Path) -> Slide:
    return build_slide(shared_data, "train", 1, size=SIZE, leukocytes=12)


@pytest.fixture
def glass() -> Slide:
    """A bare slide of the usual size."""
    return Slide(np.full((1720, 2600, 3), WHITE, np.uint8), ())


def test_slide_holds_the_cells_asked_for(slide: Slide) -> None:
    assert slide.image.shape == (SIZE[1], SIZE[0], 3)
    assert [cell.number for cell in slide.cells] == list(range(len(slide.cells)))
    assert {cell.name for cell in slide.cells} == {
        "basophil",
        "eosinophil",
        "lymphocyte",
        "monocyte",
        "neutrophil",
    }


def test_no_image_is_used_twice(slide: Slide) -> None:
    assert len({cell.file for cell in slide.cells}) == len(slide.cells)


def test_cells_keep_apart(slide: Slide) -> None:
    gaps = [
        math.hypot(a.x - b.x, a.y - b.y) / max(a.diameter, b.diameter)
        for a, b in itertools.combinations(slide.cells, 2)
    ]
    assert min(gaps) > LEAST_GAP - 0.02


def test_cells_keep_off_the_border(slide: Slide) -> None:
    margins = [
        min(c.x, c.y, SIZE[0] - c.x, SIZE[1] - c.y) / c.diameter - 0.5 * 0.7  # a cell may be longer than wide
        for c in slide.cells
    ]
    assert min(margins) > 1


def test_background_is_white_and_without_gaps(slide: Slide) -> None:
    brightest = np.percentile(slide.image.reshape(-1, 3), 90, axis=0)
    assert np.abs(brightest - WHITE).max() < 12
    assert slide.image.max(axis=2).min() > 10


def test_frames_lie_where_the_truth_says(slide: Slide) -> None:
    errors = []
    for image, truth in film(slide, STILL, 3):
        x, y = max(round(truth.x), 0), max(round(truth.y), 0)
        part = slide.image[y : y + STILL.height, x : x + STILL.width]
        height, width = part.shape[:2]
        grey = [
            cv2.cvtColor(i[:height, :width], cv2.COLOR_RGB2GRAY).astype(np.float32) for i in (image, part)
        ]
        (dx, dy), _ = cv2.phaseCorrelate(*grey, cv2.createHanningWindow((width, height), cv2.CV_32F))
        errors.append(math.hypot(dx - (truth.x - x), dy - (truth.y - y)))
    assert max(errors) < 0.35


def test_nuclei_lie_at_the_true_centres(slide: Slide) -> None:
    away = []
    for image, truth in itertools.islice(film(slide, STILL, 3), 0, None, 3):
        dark = image[..., 1] < 0.45 * WHITE[1]
        for cell in slide.cells:
            x, y, radius = cell.x - truth.x, cell.y - truth.y, cell.diameter / 2
            if radius < x < STILL.width - radius and radius < y < STILL.height - radius:
                rows, columns = np.indices(dark.shape)
                nucleus = dark & (np.hypot(columns - x, rows - y) < radius)
                assert nucleus.sum() > 0.1 * math.pi * radius**2
                away.append(math.hypot(columns[nucleus].mean() - x, rows[nucleus].mean() - y) / cell.diameter)
    assert len(away) > len(slide.cells)
    assert max(away) < 0.3
    assert np.median(away) < 0.12


def test_same_seed_same_slide(shared_data: Path) -> None:
    first, again, other = (
        build_slide(shared_data, "test", seed, scale=0.3, size=(400, 300), leukocytes=2, mix={"basophil": 1})
        for seed in (5, 5, 6)
    )
    assert first.cells == again.cells
    assert np.array_equal(first.image, again.image)
    assert first.cells != other.cells


def test_same_seed_same_film(slide: Slide) -> None:
    first, again, other = (next(film(slide, StageScript(), seed)) for seed in (5, 5, 6))
    assert first[1] == again[1]
    assert np.array_equal(first[0], again[0])
    assert first[1] != other[1]


def visits(frames: list[FrameTruth], x: float, y: float) -> int:
    """Return how many separate times the stage stood within 60 pixels of a place."""
    there = [math.hypot(f.x - x, f.y - y) < 60 for f in frames]
    return sum(now and not before for before, now in itertools.pairwise([False, *there]))


@pytest.mark.parametrize(("revisit", "times"), [(0.5, 2), (0.0, 1)])
def test_half_of_the_middle_row_is_seen_twice(glass: Slide, revisit: float, times: int) -> None:
    script = StageScript(revisit=revisit)
    right, middle = 2600 - script.width, (1720 - script.height) / 2
    frames = stage_truth(glass.size, script, 1)
    assert visits(frames, 0.75 * right, middle) == times
    assert visits(frames, 0.25 * right, middle) == 1


def test_rows_overlap_and_reach_every_border(glass: Slide) -> None:
    script = StageScript(revisit=0)
    rows = sorted({y for _, y in way_points(glass.size, script)})
    assert max(np.diff(rows)) <= (1 - script.row_overlap) * script.height
    assert (rows[0], rows[-1]) == (script.height / 2, 1720 - script.height / 2)
    assert {x for x, _ in way_points(glass.size, script)} == {script.width / 2, 2600 - script.width / 2}


def test_the_stage_moves_smoothly_and_stops(glass: Slide) -> None:
    script = StageScript(shake_px=0)
    places = np.array([(f.x, f.y) for f in stage_truth(glass.size, script, 1)])
    speed = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert speed.max() < script.fastest_px + 0.01
    assert np.abs(np.diff(speed)).max() < script.fastest_px / 3
    still = np.concatenate([[False], speed < 0.5])
    assert (np.diff(still.astype(int)) == 1).sum() == script.stops


def test_light_and_focus_use_their_whole_range(glass: Slide) -> None:
    script = StageScript()
    frames = stage_truth(glass.size, script, 1)
    green = [f.gain[1] for f in frames]
    assert (min(green), max(green)) == pytest.approx((script.dimmest, script.brightest), abs=0.02)
    assert max(f.blur_sigma for f in frames) == pytest.approx(script.defocus_sigma, abs=0.1)
    assert 0.6 < np.mean([f.blur_sigma < IN_FOCUS_SIGMA for f in frames]) < 0.95


@pytest.mark.parametrize(
    ("x", "blur", "frames", "well"),
    [
        (320, 0.0, SEEN_WELL_FRAMES, True),
        (320, 0.0, SEEN_WELL_FRAMES - 1, False),
        (320, IN_FOCUS_SIGMA, SEEN_WELL_FRAMES, False),
        (45, 0.0, SEEN_WELL_FRAMES, True),
        (43, 0.0, SEEN_WELL_FRAMES, False),
        (640 - 43, 0.0, SEEN_WELL_FRAMES, False),
        (-50, 0.0, SEEN_WELL_FRAMES, False),
    ],
)
def test_seen_well(x: float, blur: float, frames: int, well: bool) -> None:
    cell = TrueCell(0, "monocyte", "a.jpg", 1000 + x, 1240, 80)
    assert (
        seen_well(
            cell, [FrameTruth(1000, 1000, 0, blur, (0, 0), (1, 1, 1), False, True)] * frames, StageScript()
        )
        is well
    )


@pytest.mark.parametrize(
    ("change", "well"),
    [({}, True), ({"placeable": False}, False), ({"swapped": True}, False), ({"smear": (5.0, 0.0)}, False)],
)
def test_a_cell_is_seen_well_where_the_frame_can_be_placed_and_does_not_move(
    change: dict[str, Any], well: bool
) -> None:
    cell = TrueCell(0, "monocyte", "a.jpg", 1320, 1240, 80)
    good = FrameTruth(1000, 1000, 0, 0, (0, 0), (1, 1, 1), False, True)
    frames = [dataclasses.replace(good, **change)] * SEEN_WELL_FRAMES
    assert seen_well(cell, frames, StageScript()) is well


def test_write(slide: Slide, tmp_path: Path) -> None:
    script = dataclasses.replace(STILL, slowest_px=60, fastest_px=80, revisit=0)
    truth = write(slide, script, 1, tmp_path / "film")
    video = cv2.VideoCapture(str(tmp_path / "film" / "stage.avi"))
    images = []
    while (read := video.read())[0]:
        images.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    drawn = [image for image, _ in film(slide, script, 1)]
    assert len(images) == len(drawn) == len(truth["frames"])
    # JPEG of good quality: a pixel is a few grey levels off.
    assert np.abs(images[-1].astype(float) - drawn[-1]).mean() < 3
    assert json.loads((tmp_path / "film" / "truth.json").read_text()) == json.loads(json.dumps(truth))
    assert {cell["file"] for cell in truth["cells"]} == {cell.file for cell in slide.cells}


def test_a_slide_smaller_than_a_frame_is_refused() -> None:
    with pytest.raises(UserError, match="300 x 200 pixels is smaller than a frame"):
        stage_truth((300, 200), StageScript(), 1)


def test_more_cells_than_fit_are_refused(shared_data: Path) -> None:
    with pytest.raises(UserError, match="do not fit on 300 x 300 pixels"):
        build_slide(shared_data, "train", 1, scale=0.3, size=(300, 300), leukocytes=40)


def test_missing_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "film")]) == 1
    assert "cells.csv" in capsys.readouterr().err


def test_frames_of_a_bump_cannot_be_placed_until_known_ground_returns() -> None:
    frames = stage_truth((6000, 4000), SCRIPTS["bump"], 3)
    away = [i for i, frame in enumerate(frames) if not frame.placeable]
    assert len(away) == SCRIPTS["bump"].bump_frames
    assert away == list(range(away[0], away[0] + len(away)))
    before, after = frames[away[0] - 1], frames[away[-1] + 1]
    assert math.hypot(before.x - after.x, before.y - after.y) < 40


def test_a_swapped_slide_comes_and_goes_and_the_first_one_returns_turned() -> None:
    frames = stage_truth((2000, 1500), SCRIPTS["swap"], 3)
    swapped = [i for i, frame in enumerate(frames) if frame.swapped]
    assert len(swapped) == SCRIPTS["swap"].swap_frames
    assert not any(frames[i].placeable for i in swapped)
    assert frames[swapped[-1] + 1].angle != frames[swapped[0] - 1].angle


def test_the_camera_turns_slowly_and_at_once() -> None:
    angles = np.degrees([f.angle for f in stage_truth((2000, 1500), SCRIPTS["turn"], 4)])
    steps = np.abs(np.diff(angles))
    assert (steps > 1.1).sum() == 1
    assert ((steps > 0.01) & (steps < 1.1)).sum() >= 29


def test_dropped_frames_are_gone() -> None:
    whole = stage_truth((2000, 1500), SCRIPTS["rows"], 4)
    kept = stage_truth((2000, 1500), SCRIPTS["drops"], 4)
    assert 0.5 < len(kept) / len(whole) < 0.8
