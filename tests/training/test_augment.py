import numpy as np

from edge.cells import Box
from training.augment import augment


def test_variants_differ_but_a_seed_repeats_them() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    box = Box(40, 40, 40, 40)
    first, second = (augment(image, box, 96, np.random.default_rng(seed)) for seed in (1, 2))
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)
    assert np.array_equal(first, augment(image, box, 96, np.random.default_rng(1)))


def test_the_cell_stays_in_the_picture() -> None:
    image = np.full((300, 300, 3), 255, np.uint8)
    image[130:170, 130:170] = 0
    for seed in range(30):
        view = augment(image, Box(130, 130, 40, 40), 96, np.random.default_rng(seed)).mean(axis=2)
        rows, columns = np.nonzero(view < (view.max() + view.min()) / 2)
        assert np.median(rows) == np.clip(np.median(rows), 32, 64)
        assert np.median(columns) == np.clip(np.median(columns), 32, 64)
