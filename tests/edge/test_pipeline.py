from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Frame, Skip
from edge.classify import Classifier
from edge.fields import StillFields
from edge.localise import Locator
from edge.pipeline import Step, labels, run
from edge.sightings import Decision


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
    first, second, third = run(frames, Locator(), classifier, counter)
    assert isinstance(first, Step)
    assert first.tracked.cells
    assert second is frames[1]
    assert isinstance(third, Step)
    assert third.detections == ()
    (label, *_) = labels(first, classifier)
    assert label.number == 1
    assert label.name == first.tracked.cells[0].name
