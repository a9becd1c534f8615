from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import pipeline
from edge.cells import Box, Detection, Frame, Located, Skip
from edge.classify import Classifier
from edge.demo import DemoSource
from edge.fields import StillFields
from edge.gates import Gate
from edge.localise import Locator
from edge.pipeline import Step, detect, labels, run
from edge.quality import Inspector
from edge.sightings import Decision
from edge.track import MovingStage, Tracked


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def test_steps_and_skips_come_in_the_order_of_the_frames(classifier: Classifier, shared_data: Path) -> None:
    file = next((shared_data / "cells/pbc/eosinophil").glob("*.jpg"))
    image = np.asarray(cv2.imread(str(file), cv2.IMREAD_COLOR_RGB), np.uint8)
    frames = [
        Frame(0, 0.0, image, "a"),
        Skip(1, "b", "truncated"),
        Frame(2, 0.1, np.full_like(image, 230), "c"),
    ]
    counter = StillFields(Decision(classifier.card.classes, 0.5))
    first, second, third = run(frames, Locator(), classifier, counter, Inspector(steady=False))
    assert isinstance(first, Step)
    assert first.tracked.cells
    assert second is frames[1]
    assert isinstance(third, Step)
    assert third.detections == ()
    (label, *_) = labels(first, classifier)
    assert label.number == 1
    assert label.name == first.tracked.cells[0].name


def test_an_image_that_may_show_a_part_of_a_cell_comes_last(
    classifier: Classifier, shared_data: Path
) -> None:
    file = min((shared_data / "cells/pbc/neutrophil").glob("*.jpg"))
    image = np.asarray(cv2.imread(str(file), cv2.IMREAD_COLOR_RGB), np.uint8)
    (box,) = (found.box for found in Locator().locate(image))
    beside = np.ascontiguousarray(image[:, round(box.x - 0.1 * box.side) :])
    frames = [Frame(0, 0.0, beside, "beside"), Frame(1, 0.0, image, "whole")]
    counter = StillFields(Decision(classifier.card.classes, 0.5))
    steps = [
        s for s in run(frames, Locator(), classifier, counter, Inspector(steady=False)) if isinstance(s, Step)
    ]
    assert [s.frame.source for s in steps] == ["whole", "beside"]
    assert [s.tracked.numbers for s in steps] == [(1,), (1,)]


def test_no_image_waits_for_very_many(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_LATE", 2)
    locator, plain = Locator(), np.full((200, 200, 3), 200, np.uint8)
    frames = [Frame(index, 0.0, plain + np.uint8(index), str(index)) for index in range(6)]
    near, far = (Located(Box(x, 60, 50, 50), whole=True, sure=True) for x in (5, 75))
    locator.locate = lambda image: [near if image[0, 0, 0] == 200 else far]  # type: ignore[method-assign]
    counter = StillFields(Decision(classifier.card.classes, 0.5))
    steps = run(frames, locator, classifier, counter, Inspector(steady=False))
    assert [s.frame.source for s in steps if isinstance(s, Step)] == ["1", "2", "0", "3", "4", "5"]
    paused = run([*frames[:2], None, *frames[2:]], locator, classifier, counter, Inspector(steady=False))
    assert [s.frame.source for s in paused if isinstance(s, Step)] == ["1", "0", "2", "3", "4", "5"]


@pytest.mark.parametrize("sure", [True, False])
def test_what_the_locator_doubts_stays_doubted(classifier: Classifier, sure: bool) -> None:
    locator, cell = Locator(), Located(Box(60, 60, 80, 80), whole=True, sure=sure)
    locator.locate = lambda image: [cell, replace(cell, whole=False)]  # type: ignore[method-assign]
    found = detect(Frame(0, 0.0, np.full((200, 200, 3), 200, np.uint8)), locator, classifier)
    assert [(d.box, d.sure) for d in found] == [(cell.box, sure)]


@pytest.mark.parametrize(("side", "counted"), [(60, 0), (130, 1)])
def test_a_cell_cut_by_the_end_of_the_picture_waits(classifier: Classifier, side: int, counted: int) -> None:
    image = np.full((240, 320, 3), (225, 215, 200), np.uint8)
    image[40 : 40 + side, 150 - side : 150] = (95, 60, 140)
    empty = np.zeros((240, 320), bool)
    empty[:, 150:] = True
    image[empty] = image[0, 0]
    locator, cell = Locator(), Located(Box(150 - side, 40, side, side), whole=True, sure=True)
    locator.locate = lambda image: [cell]  # type: ignore[method-assign]
    assert len(detect(Frame(0, 0.0, image, "a", empty=empty), locator, classifier)) == counted
    assert len(detect(Frame(0, 0.0, image, "a"), locator, classifier)) == 1


def test_a_refused_image_becomes_a_skip_with_its_reason(classifier: Classifier) -> None:
    frames = [Frame(0, 0.0, np.full((200, 200, 3), 255, np.uint8), "white.png")]
    counter = StillFields(Decision(classifier.card.classes, 0.5))
    (skip,) = run(frames, Locator(), classifier, counter, Inspector(steady=False))
    assert skip == Skip(0, "white.png", "over-exposed: turn the lamp down", Gate.OVER)
    assert counter.fields == 0


def test_the_stage_is_followed_by_a_refused_frame_that_shows_no_cells(classifier: Classifier) -> None:
    films = DemoSource(pace=False).frames()
    sharp = [frame for frame, _ in zip(films, range(60), strict=False)]
    last = replace(sharp[-1], image=np.asarray(cv2.GaussianBlur(sharp[-1].image, (0, 0), 8), np.uint8))
    counter = MovingStage(Decision(classifier.card.classes, 0.5))
    steps = [
        step
        for step in run([*sharp, last], Locator(steady=True), classifier, counter, Inspector(steady=True))
        if isinstance(step, Step)
    ]
    assert [step.verdict.refused for step in steps] == [None] * 60 + [Gate.FOCUS]
    assert steps[-2].detections
    assert steps[-1].detections == ()
    assert steps[-1].tracked.place is not None


def test_the_counter_is_told_of_a_refused_frame(classifier: Classifier) -> None:
    told = []

    class Noting(MovingStage):
        def update(self, frame: Frame, detections: Sequence[Detection], *, refused: bool = False) -> Tracked:
            told.append(refused)
            return super().update(frame, detections, refused=refused)

    lit = next(iter(DemoSource(pace=False).frames()))
    dark = replace(lit, image=np.full_like(lit.image, 3))
    counter = Noting(Decision(classifier.card.classes, 0.5))
    list(run([lit, dark], Locator(steady=True), classifier, counter, Inspector(steady=True)))
    assert told == [False, True]
