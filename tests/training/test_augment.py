import numpy as np

from edge.cells import Box
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
