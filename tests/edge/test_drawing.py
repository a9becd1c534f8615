import numpy as np
import pytest

from edge.drawing import LEUKOCYTES, draw_leukocyte
from edge.errors import UserError


def tint(name: str, rng_seed: int = 0) -> np.ndarray:
    """Mean colour of a drawn cell, RGB."""
    colour, alpha = draw_leukocyte(name, 100, np.random.default_rng(rng_seed))
    return (colour * alpha[..., None]).sum(axis=(0, 1)) / alpha.sum()


@pytest.mark.parametrize("name", LEUKOCYTES)
def test_every_type_is_drawn_at_its_size(name: str) -> None:
    colour, alpha = draw_leukocyte(name, 100, np.random.default_rng(2))
    assert colour.shape == (130, 130, 3)
    assert alpha.shape == (130, 130)
    assert 0 <= alpha.min() <= alpha.max() <= 1
    across = 2 * np.sqrt((alpha > 0.5).sum() / np.pi)
    assert across == pytest.approx(96, abs=8)


def test_types_differ_as_the_stain_makes_them() -> None:
    tints = {name: tint(name) for name in LEUKOCYTES}
    assert tints["eosinophil"][0] > tints["eosinophil"][2] + 20
    assert tints["lymphocyte"][2] > tints["lymphocyte"][0]
    assert tints["basophil"].sum() < tints["neutrophil"].sum() - 60


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(UserError, match="blast"):
        draw_leukocyte("blast", 100, np.random.default_rng(0))
