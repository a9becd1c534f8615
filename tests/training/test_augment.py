import cv2
import numpy as np
import pytest

from edge.cells import Box
from edge.preprocess import CONTEXT
from training.augment import augment


def test_variants_differ_but_a_seed_repeats_them() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    box = Box(40, 40, 40, 40)
    first, second = (augment(image, box, 96, "neutrophil", np.random.default_rng(seed)) for seed in (1, 2))
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)
    assert np.array_equal(first, augment(image, box, 96, "neutrophil", np.random.default_rng(1)))


def test_the_cell_stays_in_the_picture() -> None:
    image = np.full((300, 300, 3), 255, np.uint8)
    image[130:170, 130:170] = 0
    for seed in range(30):
        view = augment(image, Box(130, 130, 40, 40), 96, "neutrophil", np.random.default_rng(seed)).mean(
            axis=2
        )
        rows, columns = np.nonzero(view < (view.max() + view.min()) / 2)
        assert np.median(rows) == np.clip(np.median(rows), 32, 64)
        assert np.median(columns) == np.clip(np.median(columns), 32, 64)


def test_an_eosinophil_turns_more_orange_than_a_monocyte() -> None:
    """Of two grey cells, alike but for the label."""
    image = np.full((300, 300, 3), 240, np.uint8)
    image[110:190, 110:190] = 150

    def redness(name: str) -> float:
        views = [
            augment(image, Box(110, 110, 80, 80), 96, name, np.random.default_rng(seed)) for seed in range(60)
        ]
        middle = np.mean([view[38:58, 38:58].mean(axis=(0, 1)) for view in views], axis=0)
        return float(middle[0] - middle[2])

    assert redness("eosinophil") > redness("monocyte") + 5


def test_a_round_cell_is_drawn_out_but_keeps_its_size() -> None:
    image = np.full((300, 300, 3), 255, np.uint8)
    cv2.circle(image, (150, 150), 40, (0, 0, 0), -1)
    ratios, areas = [], []
    for seed in range(60):
        view = augment(image, Box(110, 110, 80, 80), 96, "neutrophil", np.random.default_rng(seed))
        grey = view.astype(float).mean(axis=2)
        dark = (grey < (grey.max() + grey.min()) / 2).astype(np.uint8)
        (_, sides, _) = cv2.minAreaRect(cv2.findNonZero(dark))
        ratios.append(max(sides) / min(sides))
        areas.append(dark.sum())
    assert 1.1 < np.quantile(ratios, 0.75) < 1.4
    assert max(ratios) < 1.8
    usual = np.pi / 4 * (96 / CONTEXT) ** 2
    assert np.median(areas) == pytest.approx(usual, rel=0.1)
